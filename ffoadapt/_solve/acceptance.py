"""From what solvers claim to what is so: polish, and judge the points by the data.

A solver's points are polished and measured. One that violates the optimality conditions beside the
program's own numbers is called inaccurate, and one that satisfies them optimal, whatever its solver
says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._oracle.acceptance import BEYOND, DATA, ROW
from .._oracle.certificate import worst
from .._oracle.gradient import Oracle
from .._oracle.polish import ROUNDS, polish
from .._program.batch import ProgramBatch, allowance
from .._program.points import Points, Status
from .settings import Settings

__all__ = ["Run", "accept", "refuse_beyond", "refuse_inaccurate", "unjudged"]

CERTIFIED = 1e-9
"""A KKT residual below this, beside the data, proves a point optimal."""

HOPELESS = 1.0
"""A point that violates the conditions by more than this share of the data is no solution at all,
not even an inaccurate one."""

Run = Callable[[ProgramBatch], Points]
"""A solver of batches: from programs to the points that it claims."""


def accept(batch: ProgramBatch, points: Points, settings: Settings) -> tuple[Points, Oracle]:
    """Polished points with honest statuses, and an oracle that keeps what was factorized for it."""
    rounds = ROUNDS if settings.polish else 0
    points, oracle, residual = polish(batch, points, rounds, always=settings.polish is True)
    if points.optimal and oracle.beyond_doubt:
        return points, oracle
    beside, row = _beside_data(oracle, residual)
    most = max(ROW, allowance(batch.precision))
    if not worst(beside) <= DATA or not worst(row) <= most:
        wrong = ~((beside <= DATA) & (row <= most))
        for i in np.flatnonzero(wrong).tolist():
            if points.status[i].solved:
                _call_inaccurate(points, i, float(beside[i]), float(row[i]), float(residual[i]))
    for i in points.having(Status.OPTIMAL_INACCURATE):
        if beside[i] <= CERTIFIED and row[i] <= most:
            points.status[i] = Status.OPTIMAL  # of a convex program, whatever its solver thinks
    return points, oracle


def _beside_data(
    oracle: Oracle, residual: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B,) the residuals in the units of the data, and the larger of the violation of a row beside
    its size and of the duality gap beside the objective's."""
    known, scale = oracle.violations, oracle.scales
    grown = np.maximum(scale.primal[:, 0] / known.length, scale.gradient[:, 0] / known.steepness)
    sane = (scale.primal[:, 0] < BEYOND) & (scale.gradient[:, 0] < BEYOND)
    beside = np.where(sane, residual * np.maximum(grown, 1.0), np.inf)
    return beside, np.maximum(known.row, known.gap)


def _call_inaccurate(points: Points, i: int, beside: float, row: float, residual: float) -> None:
    known = points.info[i]
    info = {**known, "kkt_residual": max(beside, residual)}
    if points.status[i] is Status.OPTIMAL_INACCURATE and "kkt_residual" not in known:
        info["said"] = points.status[i].value
    if row > ROW:
        info["violation"] = row
    if beside <= HOPELESS and row <= HOPELESS:
        points.status[i], points.info[i] = Status.OPTIMAL_INACCURATE, info
        return
    what = f"a constraint by {row:.1e} of its size" if row > beside else f"the data by {beside:.1e}"
    message = f"its point violates the optimality conditions: {what}"
    points.status[i] = Status.ERROR
    points.info[i] = {**info, "message": message}


def unjudged(points: Points) -> Points:
    """The points as the solver gave them, without what is known of them in other units."""
    status, info = list(points.status), list(points.info)
    for i, known in enumerate(info):
        if "kkt_residual" in known:
            judged = ("kkt_residual", "violation", "message", "said")
            status[i] = Status(known.get("said", Status.OPTIMAL.value))
            info[i] = {k: v for k, v in known.items() if k not in judged}
    return replace(points, status=status, info=info)


def refuse_beyond(points: Points) -> None:
    """Make failures of points whose numbers are so large in their own units that products of them
    overflow: neither their objective nor their derivatives are numbers."""
    for i in np.flatnonzero(points.solved).tolist():
        size = max(
            (float(np.abs(v[i]).max(initial=0.0)) for v in (points.x, points.z)), default=0.0
        )
        if not size < BEYOND:
            message = f"its solution has numbers of {size:.0e}: choose other units"
            points.status[i] = Status.ERROR
            points.info[i] = {**points.info[i], "message": message}
            points.x[i] = points.s[i] = points.z[i] = np.nan


def refuse_inaccurate(points: Points) -> tuple[Points, bool]:
    """The points with the inaccurate ones made failures, and whether there are any."""
    inaccurate = points.having(Status.OPTIMAL_INACCURATE)
    if not inaccurate:
        return points, False
    x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
    status, info = list(points.status), list(points.info)
    x[inaccurate] = s[inaccurate] = z[inaccurate] = np.nan
    for i in inaccurate:
        residual = info[i].get("kkt_residual")
        detail = "" if residual is None else f": relative KKT residual {residual:.1e}"
        status[i] = Status.ERROR
        info[i] = {**info[i], "message": f"its solution is inaccurate{detail}"}
    return Points(x, s, z, status, info), True
