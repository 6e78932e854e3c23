"""Counts the lines of code of every solver plugin; exits 1 where an adapter is above its limit.

The adapter is `_solver.py`, which translates programs, options, statuses and duals. What a plugin
has besides is listed file by file, with what its first line says it is for: registration
(`__init__.py`) and what is beyond an adapter, such as a batch of the solver's own or a method in
other arrays. An adapter that outgrows its limit does work that belongs in the core, or work that
nobody needs.

A line is a physical one, as ruff formats it; docstrings, comments and blanks do not count, nor does
what a solver is excused from (``waive``), which is text.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

LIMITS = {"box": 30, "split": 30, "cone": 45, "smooth": 45}
"""Most lines of code for an adapter whose solver takes that view."""

_LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def code_lines(source: str) -> int:
    """The number of lines that hold code; raises ValueError where ruff was told not to format."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
        elif token.string.startswith("# fmt:"):
            raise ValueError(f"line {token.start[0]} keeps ruff from formatting: {token.string}")
    for node in ast.walk(ast.parse(source)):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text or _waives(node):
            assert node.end_lineno is not None
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def _waives(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "waive" for target in targets)


def view(source: str) -> str:
    """The value of the class attribute ``form``: which view the solver takes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "form" in names:
                return str(node.value.value)
    return "cone"


def beyond(adapter: Path) -> dict[Path, int]:
    """All other files of the plugin with their lines of code, the largest first."""
    files = {path: code_lines(path.read_text()) for path in adapter.parent.rglob("*.py")}
    del files[adapter]
    return dict(sorted(files.items(), key=lambda item: -item[1]))


def main() -> int:
    """Print a row for each adapter and for each other file; 1 if an adapter is too long."""
    failed = False
    for path in sorted(Path(__file__).parents[1].glob("plugins/ffoadapt-*/src/*/_solver.py")):
        source, others = path.read_text(), beyond(path)
        form, count = view(source), code_lines(source)
        over = count > LIMITS[form]
        failed |= over
        name = path.parent.name.removeprefix("ffoadapt_")
        whole = count + sum(others.values())
        text = "  too long" if over else ""
        print(f"{name:10} {form:6} {count:3} of {LIMITS[form]}, {whole:3} in all{text}")
        for file, lines in others.items():
            about = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
            print(f"    {lines:3} {file.relative_to(path.parent)}: {about}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
