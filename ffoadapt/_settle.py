"""From what solvers claim to what is so: polish, mark what is inaccurate, let another solver try.

A solver's points are polished and measured; one that violates the optimality conditions is called
inaccurate, and one that satisfies them optimal, whatever its solver says. With ``solver="auto"``,
elements that the fastest solver could not solve go to the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ._oracle.certificate import worst
from ._oracle.gradient import Oracle
from ._oracle.polish import ROUNDS, polish
from ._oracle.report import INACCURATE
from ._program import ProgramBatch
from ._settings import Settings
from ._solution import Points, Status

__all__ = ["Run", "fall_back", "refuse_inaccurate", "settle"]

ANOTHER_MIGHT = (
    Status.ERROR,
    Status.ITERATION_LIMIT,
    Status.TIME_LIMIT,
    Status.OPTIMAL_INACCURATE,
)
"""Statuses that say something of the solver, not of the program."""

CERTIFIED = 1e-9
"""A relative KKT residual below this proves a point optimal."""

Run = Callable[[ProgramBatch], Points]


def settle(batch: ProgramBatch, points: Points, settings: Settings) -> tuple[Points, Oracle]:
    """Polished points with honest statuses, and an oracle that keeps what was factorized for it."""
    rounds = ROUNDS if settings.polish else 0
    points, oracle, residual = polish(batch, points, rounds, always=settings.polish is True)
    status = points.status
    if not worst(residual) <= INACCURATE:
        for i in np.flatnonzero(~(residual <= INACCURATE)).tolist():
            if status[i].solved:
                status[i] = Status.OPTIMAL_INACCURATE
                points.info[i] = {**points.info[i], "kkt_residual": float(residual[i])}
    for i in points.having(Status.OPTIMAL_INACCURATE):
        if residual[i] <= CERTIFIED:
            status[i] = Status.OPTIMAL  # of a convex program, whatever its solver thinks
    return points, oracle


def fall_back(
    batch: ProgramBatch, points: Points, others: Iterable[tuple[str, Run]], settings: Settings
) -> tuple[Points, Oracle | None]:
    """Points with the elements that failed solved by ``others``, where these can.

    ``info`` of such an element holds its ``solver`` and, under ``fallback_from``, what the first
    one said. The oracle is None where nothing changed.
    """
    left = points.having(*ANOTHER_MIGHT)
    if not left:
        return points, None
    x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
    status, info = list(points.status), list(points.info)
    changed = False
    for name, run in others:
        part = np.array(left, dtype=np.intp)
        some = batch.take(part)
        found, _ = settle(some, run(some), settings)
        for j, i in enumerate(left):
            if found.status[j] is Status.OPTIMAL:
                note = info[i].get("message") or status[i].value
                x[i], s[i], z[i] = found.x[j], found.s[j], found.z[j]
                info[i] = {**found.info[j], "solver": name, "fallback_from": note}
                status[i] = Status.OPTIMAL
                changed = True
        left = [i for i in left if status[i] is not Status.OPTIMAL]
        if not left:
            break
    if not changed:
        return points, None
    points = Points(x, s, z, status, info)
    return points, Oracle(batch, points)


def refuse_inaccurate(points: Points) -> tuple[Points, bool]:
    """The points with the inaccurate ones made failures, and whether there are any."""
    inaccurate = points.having(Status.OPTIMAL_INACCURATE)
    if not inaccurate:
        return points, False
    x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
    status, info = list(points.status), list(points.info)
    for i in inaccurate:
        residual = info[i].get("kkt_residual")
        detail = "" if residual is None else f": relative KKT residual {residual:.1e}"
        status[i] = Status.ERROR
        info[i] = {**info[i], "message": f"its solution is inaccurate{detail}"}
        x[i] = s[i] = z[i] = np.nan
    return Points(x, s, z, status, info), True
