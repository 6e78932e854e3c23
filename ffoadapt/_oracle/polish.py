"""Makes a loose solution an accurate one: Newton's method on the optimality conditions.

With p = s - z, the pair (Pi(p), Pi(p) - p) is complementary exactly, Pi being the projection onto
the cone. What is left of the optimality conditions, r_d = Px + q + A'z and r_p = Ax + s - b, is
removed to first order by one ghost solve with v_x = -r_d, v_z = -r_p: the ghost problem is the
linearization of Pi (a semismooth Newton step). Steps are kept where they lower the residual, so an
active set that was wrong is corrected or the point stays what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch, largest
from .._program.points import Points
from .._types import Floats
from .active_set import Scales, complementary, scales
from .batched import Lent
from .certificate import defects, worst
from .gradient import Oracle
from .report import Residuals
from .sparse import SparseFactor

__all__ = ["polish"]


ACCURATE = 1e-13
"""A relative KKT residual below this is not worth another step."""

ENOUGH = 1e-11
"""Polyhedral points below this stay as they are: their gradient hardly depends on the point."""

SMALL = 1e-2
"""But not where x or z is less than this share of the size that residuals are relative to:
gradients of P and A are products with x and z, whose own relative error is larger there."""

FEASIBLE = 1e-9
"""Polished points may violate feasibility by this, or by as much as they did; never by more."""

ROUNDS = 8
"""Steps at most; near a solution the residual squares with each."""

FAR = 1e8
"""Steps that lead this many times beyond the sizes of x and z run away: they end before they
overflow."""

PATIENCE = 3
"""So many steps in a row that do not lower the residual end it."""


def polish(
    batch: ProgramBatch, points: Points, rounds: int = ROUNDS, always: bool = False
) -> tuple[Points, Oracle, Floats]:
    """Improved points where that is possible, an oracle there that keeps the factorizations, and
    the relative KKT residual (B,) of each.

    Elements that are accurate enough stay as they are, bit for bit; with ``always``, only those
    that cannot be improved do. With curved cones the derivative moves with the point, so these are
    brought to full accuracy in any case.
    """
    oracle = Oracle(batch, points)
    current = oracle.points
    before = oracle.floor  # enough where it shows that every point is to be improved, and was
    if not rounds or not ((before.kkt > ACCURATE) | ~oracle.solved).all():
        before = oracle.measured
    if not rounds or worst(before.kkt) <= ACCURATE:
        return points, oracle, before.kkt
    wanted = oracle.solved & (before.kkt > ACCURATE)
    if batch.structure.polyhedral and not always and wanted.any():
        between = wanted & (before.kkt <= ENOUGH)
        if between.any():
            wanted &= ~between | _small(oracle)
    if not wanted.any():
        return points, oracle, before.kkt
    latest: tuple[Oracle, NDArray[np.intp]] | None = None
    near: dict[int, SparseFactor | Lent] = {}  # of the steps that led to the current points
    final: Oracle | None = None  # at the current points, where one step has led all there
    residual, outside = before.kkt.copy(), before.infeasibility.copy()
    iterate, misses = current, np.zeros(batch.size, dtype=int)
    for k in range(rounds):
        if not wanted.any():
            break
        part = np.flatnonzero(wanted)
        everything = part.size == batch.size
        some = batch if everything else batch.take(part)
        here = iterate if everything else _pick(iterate, part)
        if k == 0:
            start = oracle.scales if everything else scales(some, here.x, here.z)
            here = _paired(some, here, start)
        there, last = _step(some, here)
        trial, found = there.points, there.measured
        improved = found.kkt < residual[part]
        if k == 0 and not improved.all():
            before = oracle.measured
            residual, outside = before.kkt.copy(), before.infeasibility.copy()
            improved = found.kkt < residual[part]
        iterate = trial if everything else _placed(iterate, part, trial)
        if improved.any():
            at = part[improved]
            final = there if at.size == batch.size else None
            if final is not None:
                current = trial
            else:
                current = _placed(current, at, _pick(trial, np.flatnonzero(improved)))
            latest = last, part
            lent = {int(part[j]): last.lends(j) for j in np.flatnonzero(improved).tolist()}
            near |= {i: factor for i, factor in lent.items() if factor is not None}
            residual[at], outside[at] = found.kkt[improved], found.infeasibility[improved]
        misses[part] = np.where(improved, 0, misses[part] + 1)
        # A step from a wrong active set may go up before the right one is found; near rounding
        # there is nothing to find.
        patience = np.where(residual[part] > ENOUGH, PATIENCE, 1)
        going = np.isfinite(found.kkt) & (misses[part] < patience)
        wanted[part] = going & (residual[part] > ACCURATE)
        wanted &= np.abs(iterate.x).max(axis=-1, initial=0.0) <= FAR * oracle.scales.primal[:, 0]
        wanted &= np.abs(oracle.scales.dual(iterate.z)).max(axis=-1, initial=0.0) <= FAR
    if current is oracle.points:
        return points, oracle, residual
    worse = outside > np.maximum(before.infeasibility, FEASIBLE)
    if final is None or worse.any():
        before = oracle.measured
        worse = outside > np.maximum(before.infeasibility, FEASIBLE)
    if final is None or worse.any():
        back = np.flatnonzero(worse)
        residual[back] = before.kkt[back]
        current = _placed(current, back, _pick(oracle.points, back))
        current.paired = bool((residual < before.kkt).all())  # those that moved are
        for values in (current.x, current.s, current.z):
            values[~oracle.solved] = np.nan
        final = Oracle(batch, current)
    oracle = final
    if not batch.structure.polyhedral:
        oracle.borrow(near)
    elif latest is not None:
        oracle.adopt(*latest)
    oracle.measured = Residuals(residual, outside)
    return current, oracle, residual


def _small(oracle: Oracle) -> NDArray[np.bool_]:
    """(B,) whether x or z is small beside the sizes in `scales`."""
    points, scale = oracle.points, oracle.scales
    x = np.abs(points.x).max(axis=-1, initial=0.0) / scale.primal[:, 0]
    z = np.abs(scale.dual(points.z)).max(axis=-1, initial=0.0)
    return np.asarray(np.minimum(x, z) < SMALL)


def _paired(batch: ProgramBatch, points: Points, scale: Scales) -> Points:
    """The points with s and z made complementary."""
    s, z = complementary(batch, points.s, points.z, scale)
    return Points(points.x, s, z, points.status, points.info, paired=True)


def _step(batch: ProgramBatch, points: Points) -> tuple[Oracle, Oracle]:
    """Oracles after one Newton step from complementary points to such, measured, and of the step.

    The step takes the residual from r to r'; with the linearization of where it began, another one
    would take it to about r'^2 / r. Where that is enough, it is made: it costs no factorization.
    """
    oracle = Oracle(batch, points)
    there, before = _moved(oracle)
    found = there.measured
    close = (found.kkt > ACCURATE) & (np.square(found.kkt) <= ACCURATE * before)
    if not batch.structure.polyhedral and close.any():
        again, _ = _moved(oracle, there.points)
        better = close & (again.measured.kkt < found.kkt)
        if better.all():
            return again, oracle
        at = np.flatnonzero(better)
        there = Oracle(batch, _placed(there.points, at, _pick(again.points, at)))
        kkt = np.where(better, again.measured.kkt, found.kkt)
        outside = np.where(better, again.measured.infeasibility, found.infeasibility)
        there.measured = Residuals(kkt, outside)
    return there, oracle


def _moved(oracle: Oracle, points: Points | None = None) -> tuple[Oracle, Floats]:
    """The measured oracle after one step from complementary points (those of an oracle, if not
    given) with the linearization of the oracle, and what the residual was before (B,)."""
    batch, scale = oracle.batch, oracle.scales
    points = points or oracle.points
    r_d, r_p = defects(batch, points.x, points.s, points.z)
    before = np.maximum(largest(r_d) / scale.gradient, largest(scale.slack(r_p)))[:, 0]
    dx, dz = oracle.solve(-r_d, -r_p)
    ds = -r_p - batch.multiply("A", dx)
    s, z = complementary(batch, points.s + ds, points.z + dz, scale)
    trial = Points(points.x + dx, s, z, points.status, points.info, paired=True)
    return Oracle(batch, trial), before


def _placed(points: Points, at: NDArray[np.intp], other: Points) -> Points:
    """The points with those of ``other`` at these elements."""
    x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
    x[at], s[at], z[at] = other.x, other.s, other.z
    paired = points.paired and other.paired
    return Points(x, s, z, points.status, points.info, paired=paired)


def _pick(points: Points, part: NDArray[np.intp]) -> Points:
    return Points(
        points.x[part],
        points.s[part],
        points.z[part],
        [points.status[i] for i in part],
        [points.info[i] for i in part],
        paired=points.paired,
    )
