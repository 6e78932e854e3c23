"""Comes back from a solver that does not: a solve in a thread of its own, waited for so long.

Most solvers keep to their time limit; some have none, some test it only between steps that can take
forever, and a solver in Python may loop. A thread cannot be ended from outside, so an overdue one
is left behind: it goes on until it ends by itself or the process does, and what it still writes
reaches nobody. A solver in C that does not release the GIL stops every thread, this one included.

Large programs are solved so without a limit too, where the main thread asks: it then notices Ctrl-C
at once, and not when the solver comes back.
"""

from __future__ import annotations

import _thread
import contextvars
import queue
import threading
from collections.abc import Mapping
from typing import Any

from .._plugins.solver import Session, Solver
from .._program.points import Solution, Status

__all__ = ["patience", "solve"]

GRACE = 5.0
"""Seconds beyond its limit that a short solve may take: set-up counts to few solvers' limits."""


def patience(time_limit: Any, own: bool = True) -> float | None:
    """Seconds to wait for a solver with that time limit, None for ever: twice the limit, or
    `GRACE` more where that is longer. One that has none of its own has the limit alone."""
    try:
        seconds = float(time_limit)
    except (TypeError, ValueError):  # the solver will say what it takes
        return None
    if own:
        seconds = max(2 * seconds, seconds + GRACE)
    return seconds if 0 < seconds <= threading.TIMEOUT_MAX else None


def solve(
    solver: Solver,
    program: Any,
    options: Mapping[str, Any],
    session: Session,
    seconds: float | None,
) -> Solution:
    """What the solver returns, or `Status.TIME_LIMIT` if there is none after so many seconds (None:
    there will be one).

    The session is empty after a solver that was left behind, or interrupted: its thread keeps the
    one that it got.
    """
    own = Session()
    _move(session, own)
    results: queue.SimpleQueue[Solution | BaseException] = queue.SimpleQueue()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            results.put(context.run(solver.solve, program, options, own))
        except BaseException as error:
            results.put(error)

    # Not by `threading.Thread`, which waits for its start in Python: interrupted there, it raises
    # another error, swallows the interrupt, or leaves a thread that fails to begin.
    _thread.start_new_thread(work, ())
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        message = (
            f"it did not come back within {seconds:g} s; its thread was left behind and may keep "
            "a core busy"
        )
        return Solution(status=Status.TIME_LIMIT, info={"message": message})
    if isinstance(result, BaseException):
        raise result
    _move(own, session)
    return result


def _move(source: Session, target: Session) -> None:
    target.update(source)
    target.warm_start = source.warm_start
    source.clear()
    source.warm_start = None
