"""A progress bar on stderr, with rich where it is installed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["progress"]


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal: call with what comes next, ``total`` times."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        yield from _plain_progress(total)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=-1)
        yield lambda what: bar.update(task, advance=1, description=what)


def _plain_progress(total: int) -> Iterator[Callable[[str], None]]:
    done = -1

    def show(what: str) -> None:
        nonlocal done
        done += 1
        bar = "#" * (20 * done // max(total, 1))
        print(f"\r[{bar:<20}] {done}/{total} {what:<24}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print(f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)
