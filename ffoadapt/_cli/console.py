"""What the commands print: tables and notes, with rich where it is installed.

The result goes to stdout, all else to stderr. Colour and rich's layout are for a terminal; in a
pipe or a file the same table is plain text. Without rich, a terminal gets plain text too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import math
import os
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "as_json",
    "natural",
    "number",
    "print_notes",
    "print_table",
    "reason",
    "seconds",
    "silenced",
]


# ---------------------------------------------------------------------------------- numbers


def number(value: float | None, digits: int = 1) -> str:
    """In scientific notation; ``-`` where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return "0" if value == 0.0 else f"{value:.{digits}e}"


def seconds(value: float | None) -> str:
    """A duration with its unit."""
    if value is None or math.isnan(value):
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def natural(text: str) -> int:
    """An argument that is 0, 1, 2, ..."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return value


def reason(error: BaseException) -> str:
    """What an exception says, in one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # of a solver or of a file that is run
        text = "an exception whose text raises another one"
    return text or type(error).__name__


def as_json(value: Any) -> str:
    """Strict JSON: what is not finite becomes null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ----------------------------------------------------------------------------------- tables


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    styles: Mapping[str, str] | None = None,
) -> None:
    """A table on stdout.

    ``right`` names the columns that are aligned to the right; ``styles`` gives the rich style
    of a cell by its text.
    """
    if sys.stdout.isatty() and _print_rich(header, rows, right, styles or {}):
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    for row in (header, rule, *rows):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, name, width in zip(row, header, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def _print_rich(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str],
    styles: Mapping[str, str],
) -> bool:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    Console().print(table)
    return True


def print_notes(notes: Sequence[tuple[str, str]]) -> None:
    """Below a table: an empty line, then one ``name: text`` each, wrapped."""
    if not notes:
        return
    print()
    for name, text in notes:
        print(textwrap.fill(f"{name}: {' '.join(text.split())}", 100, subsequent_indent="  "))


# ---------------------------------------------------------------------------------- silence


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """What solvers print, C code included, goes nowhere: stdout is for the result."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # a process without stdout
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        with contextlib.suppress(TypeError, OSError):  # Windows
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)
