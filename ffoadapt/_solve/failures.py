"""Programs without a solution: those that their own data contradict, and how a failure is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._exceptions import SolveError
from .._program.batch import ProgramBatch, allowance
from .._program.points import Points, Solution, Status

__all__ = ["contradictions", "raise_failures", "to_raise"]


def contradictions(batch: ProgramBatch) -> dict[int, Solution]:
    """The elements that have no solution whatever a solver says: bounds that cross or shut out."""
    box = batch.box
    if box is not None:
        lower, upper = box.lower, box.upper
        bad = (lower > upper) | np.isposinf(lower) | np.isneginf(upper)
        if box.crossed is not None:
            bad = bad | (box.crossed > allowance(batch.precision))
        words = "row {k} has lower bound {lower:g} and upper bound {upper:g}"
    else:
        lower = upper = batch.b
        bad = np.isneginf(batch.b)
        words = "row {k} asks for a slack of -inf"
    if not bad.any():
        return {}
    impossible = {}
    bad, lower, upper = np.broadcast_arrays(bad, lower, upper)
    for i in range(batch.size):
        row = min(i, bad.shape[0] - 1)
        if bad[row].any():
            k = int(np.flatnonzero(bad[row])[0])
            low, high = lower[row, k], upper[row, k]
            if box is not None and box.crossed is not None:
                gap = box.crossed[min(i, len(box.crossed) - 1), k]
                low, high = low + 0.5 * gap * abs(low), high - 0.5 * gap * abs(high)
            info = {"message": words.format(k=k, lower=low, upper=high), "proof": "the data"}
            impossible[i] = Solution(status=Status.PRIMAL_INFEASIBLE, info=info)
    return impossible


def to_raise(points: Points, on_failure: str, infeasible: str | None) -> Points | None:
    """The points with the statuses that are to raise, all others optimal; None where none is."""
    raises = {
        True: (on_failure if infeasible in (None, "closest") else infeasible) == "raise",
        False: on_failure == "raise",
    }
    if not any(raises.values()):
        return None
    status = [
        each if raises[each is Status.PRIMAL_INFEASIBLE] else Status.OPTIMAL
        for each in points.status
    ]
    return replace(points, status=status)


_ADVICE = {
    Status.PRIMAL_INFEASIBLE: "no point satisfies the constraints",
    Status.DUAL_INFEASIBLE: "the objective is unbounded below",
    Status.ITERATION_LIMIT: "raise solver_options={'max_iterations': ...} or loosen 'tolerance'",
    Status.TIME_LIMIT: "raise solver_options={'time_limit': ...}",
    Status.ERROR: "the solver failed",
}


def raise_failures(points: Points, name: str, single: bool) -> None:
    """Raise a `SolveError` that names every failed element and its status; else return."""
    failed = {i: status for i, status in enumerate(points.status) if not status.solved}
    if not failed:
        return
    lines = []
    for i, status in list(failed.items())[:10]:
        message = points.info[i].get("message")
        detail = f"{status.value} ({message or _ADVICE[status]})"
        lines.append(detail if single else f"batch element {i}: {detail}")
    if len(failed) > 10:
        lines.append(f"and {len(failed) - 10} more")
    size = len(points.status)
    text = "; ".join(lines)
    what = "the program" if single else f"{len(failed)} of {size} programs"
    error = SolveError(
        f"the solver {name!r} did not solve {what}: {text}. To go on with NaN for what failed, "
        "use on_failure='nan'",
        failed,
    )
    causes = (points.info[i].get("exception") for i in failed)
    raise error from next((cause for cause in causes if cause is not None), None)
