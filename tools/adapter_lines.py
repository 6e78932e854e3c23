"""Counts the lines of code of every solver adapter; exits 1 where one is above its limit.

A line is a logical one, a statement, however many rows the formatter spreads it over; docstrings,
comments and blanks do not count. An adapter that outgrows its limit does work that belongs in the
core, or work that nobody needs.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

LIMITS = {"box": 30, "split": 30, "cone": 45}
"""Most lines of code for an adapter whose solver takes that view."""


def code_lines(source: str) -> int:
    """The number of logical lines that are no docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = sum(token.type == tokenize.NEWLINE for token in tokens)
    return lines - sum(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in ast.walk(ast.parse(source))
    )


def view(source: str) -> str:
    """The value of the class attribute ``form``: which view the solver takes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "form" in names:
                return str(node.value.value)
    return "cone"


def main() -> int:
    """Print one row an adapter; 1 if any is too long."""
    failed = False
    for path in sorted(Path(__file__).parents[1].glob("plugins/ffoadapt-*/src/*/_solver.py")):
        source = path.read_text()
        form, count = view(source), code_lines(source)
        over = count > LIMITS[form]
        failed |= over
        name = path.parent.name.removeprefix("ffoadapt_")
        print(f"{name:10} {form:5} {count:3} of {LIMITS[form]}{'  too long' if over else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
