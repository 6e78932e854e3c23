"""What a reader copies works: every python block of README.md and docs/*.md is run.

The blocks of one file run in order and share one namespace, as a reader would run them; each file
starts afresh. A block right below `<!-- skip: reason -->` is not run. Blocks are compiled under the
name and line of their file, so a traceback points into the page.
"""

from __future__ import annotations

import re
import textwrap
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,}) *(?P<language>[^\s`{]*)")
LARGE = ("torch", "jax", "cvxpy", "ffoadapt_torch", "ffoadapt_jax")
SKIP = re.compile(r"^<!--\s*skip:\s*(?P<reason>.*?)\s*-->$")


@dataclass(frozen=True)
class Block:
    """A fenced python block: the line (from 1) on which its code starts, and why it is skipped."""

    line: int
    code: str
    skip: str | None


def python_blocks(text: str) -> list[Block]:
    """Return the python blocks of a Markdown text, in order; raise ValueError on an open fence."""
    blocks = []
    lines = text.splitlines()
    above = ""  # the last line with something on it, outside of blocks
    i = 0
    while i < len(lines):
        match = FENCE.match(lines[i])
        if match is None:
            above = lines[i].strip() or above
            i += 1
            continue
        fence, start = match["fence"], i + 1
        closing = re.compile(rf"^ *{re.escape(fence[0])}{{{len(fence)},}} *$")
        end = next((j for j in range(start, len(lines)) if closing.match(lines[j])), None)
        if end is None:
            raise ValueError(f"line {i + 1}: the block that opens with {fence} is never closed")
        if match["language"] == "python":
            skip = SKIP.match(above)
            code = textwrap.dedent("\n".join(lines[start:end])) + "\n"
            blocks.append(Block(start + 1, code, skip["reason"] if skip else None))
        above = ""
        i = end + 1
    return blocks


def run_blocks(path: Path) -> tuple[int, list[str]]:
    """Run the python blocks of a file; return how many ran and "line: reason" of each skipped one.

    Whatever a block raises comes out with a note that names the file and the line.
    """
    namespace: dict[str, object] = {"__name__": "page"}
    ran, skipped = 0, []
    for block in python_blocks(path.read_text(encoding="utf-8")):
        if block.skip is not None:
            skipped.append(f"{path.name}:{block.line}: {block.skip}")
            continue
        line = block.line
        try:
            # Blank lines in front put the code where it stands in the file.
            exec(compile("\n" * (line - 1) + block.code, str(path), "exec"), namespace)
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno for f in frames if f.filename == str(path)), line) or line
            if isinstance(error, SyntaxError) and error.filename == str(path):
                line = error.lineno or line
            error.add_note(f"raised by {path.name}:{line} (block from line {block.line})")
            raise
        ran += 1
    return ran, skipped


def pages() -> list[Path]:
    """README.md and the pages of docs/ that have python blocks."""
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in candidates if python_blocks(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a block writes does not land in the repository
    try:
        ran, skipped = run_blocks(path)
    except ModuleNotFoundError as error:  # in an environment that leaves large packages out
        if error.name not in LARGE:
            raise
        pytest.skip(f"without {error.name}")
    print(f"{ran} blocks ran; skipped: {skipped or 'none'}")
    if not ran:
        pytest.skip("; ".join(skipped))


def write_page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return path


def test_a_failing_block_fails_and_names_its_line(tmp_path: Path) -> None:
    path = write_page(
        tmp_path,
        """
        # Title

        ```python
        value = 1
        ```

        ```python
        print(value)
        assert value == 2, "not two"
        ```
        """,
    )
    with pytest.raises(AssertionError, match="not two") as caught:
        run_blocks(path)
    assert caught.value.__notes__ == ["raised by page.md:9 (block from line 8)"]


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    path = write_page(tmp_path, "text\n\n```python\nx = 1\ny = = 2\n```\n")
    with pytest.raises(SyntaxError) as caught:
        run_blocks(path)
    assert caught.value.lineno == 5
    assert caught.value.__notes__ == ["raised by page.md:5 (block from line 4)"]


def test_blocks_of_a_file_share_a_namespace_and_files_do_not(tmp_path: Path) -> None:
    path = write_page(tmp_path, "```python\na = 1\n```\n\n```python\nassert a == 1\n```\n")
    assert run_blocks(path) == (2, [])
    with pytest.raises(NameError):
        run_blocks(write_page(tmp_path, "```python\na\n```\n"))


def test_a_skipped_block_does_not_run_and_gives_its_reason(tmp_path: Path) -> None:
    path = write_page(
        tmp_path,
        """
        <!-- skip: needs a licence -->

        ```python
        raise RuntimeError
        ```

        ```python
        runs = True
        ```
        """,
    )
    assert run_blocks(path) == (1, ["page.md:4: needs a licence"])


def test_only_python_fences_are_blocks() -> None:
    text = textwrap.dedent(
        """\
        ```text
        ```python
        ```

        ````markdown
        ```python
        not_run
        ```
        ````

        ```pycon
        >>> not_run
        ```

        - in a list:

            ```python title="indented"
            a = 1
            if a:
                a = 2
            ```
        """
    )
    assert python_blocks(text) == [Block(18, "a = 1\nif a:\n    a = 2\n", None)]


def test_an_open_fence_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"line 2: .* never closed"):
        python_blocks("text\n```python\na = 1\n")
