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

from .._kernel.boxes import ENOUGH
from .._program.batch import ProgramBatch, largest
from .._program.points import Points
from .._types import Floats
from .acceptance import ROW
from .active_set import Scales, complementary, scales
from .batched import Lent
from .certificate import defects, worst
from .gradient import Oracle
from .residuals import Residuals
from .sparse import SparseFactor

__all__ = ["polish"]


ACCURATE = 1e-13
"""A relative KKT residual below this is not worth another step, unless a row is violated by more
than its own size allows, which may be nothing next to the size that residuals are relative to."""

SMALL = 1e-2
"""One up to `ENOUGH` is not either, where x and z are more than this share of that size: gradients
of P and A are products with x and z, whose own relative error is larger where they are small."""

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
    before = oracle.floor  # enough where it shows that every point is to be improved, and was
    if not rounds or not ((before.kkt > ACCURATE) | ~oracle.solved).all():
        before = oracle.measured
    kkt = before.kkt
    if not rounds or (worst(kkt) <= ACCURATE and oracle.beyond_doubt):
        return points, oracle, kkt
    limit = ENOUGH if batch.structure.polyhedral and not always else ACCURATE
    wanted, enough = oracle.solved & (kkt > limit), oracle.solved & (kkt <= limit)
    if enough.any():
        known = oracle.violations
        wanted |= enough & ~(np.maximum(known.row, known.gap) <= ROW)
        if (between := enough & (kkt > ACCURATE)).any():
            wanted |= between & _small(oracle)
    if not wanted.any():
        return points, oracle, kkt
    search = _Search(oracle, before, wanted)
    for _ in range(rounds):
        search.step()
        if not search.wanted.any():
            break
    return search.result(points)


class _Search:
    """Newton steps from the points of an oracle, and the best points so far."""

    def __init__(self, start: Oracle, before: Residuals, wanted: NDArray[np.bool_]) -> None:
        """``before`` are the residuals there, and ``wanted`` (B,) the elements to be improved."""
        self.start, self.before, self.wanted = start, before, wanted
        self.best = self.latest = start.points
        self.residual, self.outside = before.kkt.copy(), before.infeasibility.copy()
        self.oracle: Oracle | None = None  # at the best points, where one step has led all there
        self._led: Oracle | None = None  # of the latest step that improved any, and these elements
        self._part: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._nearby: dict[int, SparseFactor | Lent] = {}  # of the steps to the best points
        self._misses = np.zeros(wanted.size, dtype=int)

    def step(self) -> None:
        """One step from the latest points of the elements that are wanted."""
        first, start = self.latest is self.start.points, self.start
        part = np.flatnonzero(self.wanted)
        everything = part.size == start.batch.size
        some = start.batch if everything else start.batch.take(part)
        here = self.latest if everything else self.latest.take(part)
        if first:
            here = _paired(some, here, start.scales if everything else scales(some, here.x, here.z))
        there, oracle = _step(some, here)
        measured = there.measured
        improved = measured.kkt < self.residual[part]
        if first and not improved.all():
            self.before = start.measured
            self.residual = self.before.kkt.copy()
            self.outside = self.before.infeasibility.copy()
            improved = measured.kkt < self.residual[part]
        self.latest = there.points if everything else _placed(self.latest, part, there.points)
        if improved.any():
            self._keep(part, np.flatnonzero(improved), there, oracle)
        self._misses[part] = np.where(improved, 0, self._misses[part] + 1)
        # A step from a wrong active set may go up before the right one is found; near rounding
        # there is nothing to find.
        patience = np.where(self.residual[part] > ENOUGH, PATIENCE, 1)
        going = np.isfinite(measured.kkt) & (self._misses[part] < patience)
        self.wanted[part] = going & (self.residual[part] > ACCURATE)
        x, z = np.abs(self.latest.x), np.abs(start.scales.dual(self.latest.z))
        self.wanted &= x.max(axis=-1, initial=0.0) <= FAR * start.scales.primal[:, 0]
        self.wanted &= z.max(axis=-1, initial=0.0) <= FAR

    def _keep(
        self, part: NDArray[np.intp], better: NDArray[np.intp], there: Oracle, led: Oracle
    ) -> None:
        """The points of an oracle that are ``better``, among the elements ``part``, are the best;
        ``led`` took the step to these."""
        at, measured = part[better], there.measured
        if at.size == self.wanted.size:
            self.oracle, self.best = there, there.points
        else:
            self.oracle, self.best = None, _placed(self.best, at, there.points.take(better))
        self._led, self._part = led, part
        for j in better.tolist():
            factor = led.factors.reusable(j)
            if factor is not None:
                self._nearby[int(part[j])] = factor
        self.residual[at], self.outside[at] = measured.kkt[better], measured.infeasibility[better]

    def result(self, given: Points) -> tuple[Points, Oracle, Floats]:
        """As `polish`; no point has become less feasible."""
        start, best, oracle = self.start, self.best, self.oracle
        if best is start.points:
            return given, start, self.residual
        worse = self.outside > np.maximum(self.before.infeasibility, FEASIBLE)
        if oracle is None or worse.any():
            before = start.measured
            worse = self.outside > np.maximum(before.infeasibility, FEASIBLE)
        if oracle is None or worse.any():
            back = np.flatnonzero(worse)
            self.residual[back] = before.kkt[back]
            best = _placed(best, back, start.points.take(back))
            best.paired = bool((self.residual < before.kkt).all())  # those that moved are
            for values in (best.x, best.s, best.z):
                values[~start.solved] = np.nan
            measured = Residuals(self.residual, self.outside)
            oracle = Oracle(start.batch, best, measured=measured)
        if not start.batch.structure.polyhedral:
            oracle.nearby = self._nearby
        elif self._led is not None:
            oracle.factors.reuse(self._led.factors, self._part)
        return best, oracle, self.residual


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
    first = there.measured
    close = (first.kkt > ACCURATE) & (np.square(first.kkt) <= ACCURATE * before)
    if not batch.structure.polyhedral and close.any():
        again, _ = _moved(oracle, there.points)
        better = close & (again.measured.kkt < first.kkt)
        if better.all():
            return again, oracle
        at = np.flatnonzero(better)
        kkt = np.where(better, again.measured.kkt, first.kkt)
        outside = np.where(better, again.measured.infeasibility, first.infeasibility)
        both = _placed(there.points, at, again.points.take(at))
        return Oracle(batch, both, measured=Residuals(kkt, outside)), oracle
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
