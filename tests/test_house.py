"""The house: small files, small functions, few places, and a page that says where everything is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "ffoadapt"
PAGE = ROOT / "docs" / "architecture.md"

FILE, FUNCTION, PLACES = 300, 60, 20
"""The most lines of a file and of a function, the most places on the first level."""

LONG = {"_cli/problem_file.py": 322, "bilevel/_minimize.py:minimize": 92}
"""Files and functions that are longer still, with their lines: this may only shrink."""

sources = sorted(path for ending in ("py", "c", "h") for path in CORE.rglob(f"*.{ending}"))


def lines_of_functions(path: Path) -> dict[str, int]:
    """Lines by `file:function`, docstring and all; of C by the braces in the first column."""
    name, text = str(path.relative_to(CORE)), path.read_text()
    if path.suffix == ".py":
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        return {f"{name}:{n.name}": (n.end_lineno or 0) - n.lineno + 1 for n in nodes}
    found: dict[str, int] = {}
    lines, start = text.splitlines(), 0
    for k, line in enumerate(lines):
        if re.match(r"[A-Za-z].*\(", line) and not line.rstrip().endswith(";"):
            start = k
        if line == "}" and re.match(r"[A-Za-z].*\(", lines[start]):
            function = re.findall(r"(\w+)\(", lines[start])[0]
            found[f"{name}:{function}"] = k - start + 1
    return found


def test_files_and_functions_are_short() -> None:
    sizes = {str(path.relative_to(CORE)): len(path.read_text().splitlines()) for path in sources}
    long = {name: size for name, size in sizes.items() if size > FILE}
    for path in sources:
        long |= {n: size for n, size in lines_of_functions(path).items() if size > FUNCTION}
    assert len(sizes) > 100
    grown = {name: size for name, size in long.items() if size > LONG.get(name, 0)}
    assert not grown, f"longer than {FILE} (files) or {FUNCTION} (functions) lines: {grown}"


def places() -> list[str]:
    return [
        f"{path.name}/" if path.is_dir() else path.name
        for path in sorted(CORE.iterdir())
        if path.name != "__pycache__"
    ]


def test_the_first_level_has_few_places() -> None:
    assert len(places()) <= PLACES, places()


# --- the page on architecture


def spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def located(span: str) -> Path | None:
    """The file or folder that a span names, from the root, `ffoadapt/` or a plugin's tests."""
    return next((p for p in (ROOT / span, CORE / span) if p.exists()), None)


def test_every_place_is_in_the_drawing_and_in_the_table() -> None:
    text = PAGE.read_text()
    (drawing,) = re.findall(r"```text\n(.*?)```", text, re.S)
    for place in places():
        assert re.search(rf"(^|\s){re.escape(place)}", drawing), f"{place} is not in the drawing"
        assert f"`{place}`" in text, f"{place} is not in the table"
    drawn = re.findall(r"[\w.]+/|\w+\.(?:py\b|typed)", drawing)
    assert {word for word in drawn if word != "c/"} == set(places())


def test_files_that_the_page_names_exist() -> None:
    named = [span for span in spans(PAGE.read_text()) if re.search(r"/|\.py$|\.md$", span)]
    assert len(named) > 60
    for span in named:
        assert located(span) is not None, f"{span} does not exist"


ITEMS = re.split(r"\n(?=\d+\. |\| |\n)", PAGE.read_text())


@pytest.mark.parametrize("item", [item for item in ITEMS if ".py`" in item], ids=lambda t: t[:20])
def test_names_next_to_a_file_are_in_it(item: str) -> None:
    """In `file.py`: `name`, `name`, the names are functions, classes or attributes of the file."""
    for file, names in re.findall(r"`([\w/.-]+\.py)`:\s+((?:`\w+`(?:,\s+)?)+)", item):
        path = located(file)
        assert path is not None and path.is_file(), file
        nodes = ast.walk(ast.parse(path.read_text()))
        defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        for name in re.findall(r"`(\w+)`", names):
            assert name in defined, f"{file} has no {name}"


def test_links_of_the_page_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE.read_text())
    assert len(targets) >= 3
    for target in targets:
        assert (PAGE.parent / target).is_file(), target
    assert ": architecture.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize(
    "plugin", sorted((ROOT / "plugins").glob("ffoadapt-*")), ids=lambda p: p.name
)
def test_a_plugin_has_what_its_wheel_needs(plugin: Path) -> None:
    """A licence, and the marker that its annotations are meant (PEP 561)."""
    assert (plugin / "LICENSE").is_file()
    (package,) = (path.parent for path in plugin.glob("src/*/__init__.py"))
    assert (package / "py.typed").is_file()
