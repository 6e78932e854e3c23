"""Ctrl-C reaches Python, whatever a solver does with it.

Some solvers put a handler for SIGINT of their own in place while they solve: they stop, say that
they were interrupted, and Python hears nothing. Where the platform allows it, their libraries
share the signal with Python (`_kernel/c/signals.c`). Elsewhere Python is told of it once a solver
says so, and gets its handler back after solves that overlapped in threads; only a signal that comes
between a solver's last look and its end is lost there.

An interrupted solve is no failed one. Python's handler raises KeyboardInterrupt in the main thread;
where a user's handler does not raise, and in threads that are none of ours, it is solved again.
"""

from __future__ import annotations

import _thread
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from .. import _kernel

__all__ = [
    "WAITS",
    "in_main_thread",
    "restore",
    "said",
    "share",
    "swallowed",
    "tell_python",
    "watch",
]

WAITS = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3)
"""Seconds before an interrupted program is solved again; it is given up at the next interruption.

Some solvers forget that they were interrupted only when no thread is in a solve any more.
"""

_WORDS = re.compile(r"(k|user[ _])?(interrupt(ed|ion)?|cancellation)", re.IGNORECASE)

RECENT = 60.0
"""Seconds in which a solver has noticed a signal: it looks at every iteration."""

WATCHED = 0.01
"""Seconds for which nobody has put another handler in place: to look takes a microsecond."""


def in_main_thread() -> bool:
    """Whether this is the thread in which Python handles signals."""
    return threading.get_ident() == threading.main_thread().ident


def said(status: Enum, info: Mapping[str, Any]) -> bool:
    """Whether a solver's status, and its own word for that in ``info``, say that it was
    interrupted."""
    word = info.get("status") if status.name == "ERROR" else None
    return isinstance(word, str) and _WORDS.fullmatch(word) is not None


def share(modules: Iterable[str]) -> None:
    """Let the libraries of these packages, as far as they are loaded, share SIGINT with Python."""
    paths = []
    for name in modules:
        module = sys.modules.get(name)
        folders = getattr(module, "__path__", None)
        if folders is not None:
            paths += [f"{folder}/" for folder in folders]
        elif file := getattr(module, "__file__", None):
            paths.append(file)
    if paths:
        _kernel.kernel.share_interrupts(tuple(paths))


def tell_python() -> None:
    """Python's handler, where it has not seen the signal that a solver was interrupted by.

    Called from any thread; in the main one the handler runs before the next line.
    """
    recent = time.perf_counter() - RECENT
    if not _kernel.kernel.interrupted_since(recent):
        restore()
        _thread.interrupt_main()


def swallowed(start: float) -> bool:
    """Whether the user has interrupted since ``start``, of `time.perf_counter`, and what Python has
    raised for it in this thread went no further: compiled code that looks at its arguments by
    calling Python may make another error of it, or none at all."""
    if not _kernel.kernel.interrupted_since(start):
        return False
    return in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def watch(seconds: float = WATCHED) -> None:
    """Have `swallowed` know of the next signals, whatever handler the user has put in place; unless
    that was seen to in these last seconds."""
    _kernel.kernel.watch_interrupts(seconds)


def restore() -> None:
    """Put Python's handler back where a solver may have left its own; in the main thread alone."""
    if in_main_thread():
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None:  # nobody but Python has put one there before
            signal.signal(signal.SIGINT, handler)
    watch(0.0)
