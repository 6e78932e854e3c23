"""A primal and dual point of a smooth program: its units, its active set, how optimal it is.

Everything is dimensionless: u = y / D, a row of the constraints has the norm of its gradient in u,
multipliers times that norm compare with G, the size of the objective's gradient in u. A row is
active where its multiplier is larger than its slack, as the core's rule is for cone programs:

    z_i r_i / G  >  (-h_i / r_i) / Y,     Y = max(1, |u|)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime.lazy import lazy
from .._types import Floats, Ints
from .duals import NEAR, Duals
from .evaluation import Evaluation
from .model import Model

__all__ = ["DENSE", "Place"]


DENSE = 64
"""Up to so many variables the curvature is a matrix."""

WIDE = 1e3
"""The gradient of a row may be this much larger than what a probe in one direction says of it."""

PROBE = 1e-4
"""The step of that probe, relative to the size of the variables."""

NARROW = 1e-3
"""Variables smaller than this share of the largest are measured by that share of it."""

DISTANT = 1e-12
"""Rows whose ratio of multiplier to slack is this share of the largest are not active."""

TINY = 1e-200
"""A slack that is no larger is none."""

SAME = 0.1
"""Places share their units where no variable has moved by more than this share of its unit."""


@dataclass(frozen=True)
class Scale:
    """The sizes of the variables and what a probe of the functions in one direction, which stays
    between the bounds, says of theirs.

    Attributes
    ----------
    units
        (n,) D.
    reach
        Y.
    bend
        (n,) how the objective's gradient changes over a unit of length.
    spread
        (m,) how the inequalities do.
    """

    units: Floats
    reach: float
    bend: Floats
    spread: Floats

    @classmethod
    def at(cls, place: Place) -> Scale:
        """Those of a place."""
        y, n = place.y, place.n
        sizes = _sizes(y) if place.typical is None else place.typical
        reach = max(1.0, float(np.abs(y / sizes).max(initial=0.0)))
        unit = sizes * (_direction(n) if n <= DENSE else _direction.__wrapped__(n))
        step, model, only = PROBE * reach * unit, place.model, place.model.objective_weights
        ahead = model.at(np.clip(y + step, place.lower, place.upper), only)
        behind = model.at(np.clip(y - step, place.lower, place.upper), only)
        bend = (ahead[0] - behind[0]) / (2.0 * PROBE)
        spread = (ahead[1] - behind[1])[1 : 1 + place.m] / (2.0 * PROBE * reach)
        bend, spread = (np.where(np.isfinite(v), v, 0.0) for v in (bend, spread))
        return cls(sizes, reach, bend, np.abs(spread))


@lru_cache(maxsize=DENSE)
def _direction(n: int) -> Floats:
    """(n,) random signs and sizes near 1."""
    rng = np.random.default_rng(n)
    direction: Floats = rng.uniform(0.5, 1.0, n) * rng.choice((-1.0, 1.0), n)
    direction.flags.writeable = False
    return direction


def _sizes(y: Floats) -> Floats:
    size = np.abs(y)
    largest = size.max(initial=0.0)
    if y.size > DENSE or largest == 0.0:
        return np.ones(y.size)
    sizes: Floats = np.maximum(size, NARROW * largest)
    return sizes


class Place:
    """A point of a program, and what gradients there say; evaluated when asked for."""

    def __init__(
        self,
        model: Model,
        lower: Floats,
        upper: Floats,
        y: Floats,
        duals: Duals,
        typical: Floats | None = None,
        known: Evaluation | None = None,
    ) -> None:
        """``known`` is what is known of the functions at y."""
        self.model, self.lower, self.upper, self.y, self.duals = model, lower, upper, y, duals
        self.typical = typical
        self.n, self.m = y.size, duals.ineq.size
        self.evaluation = known or Evaluation(model, y)
        self.curvature: Any = None  # of a place near it, known from polishing

    def moved(self, y: Floats, duals: Duals) -> Place:
        """Another point of the same program; near this one it has the same units."""
        other = Place(self.model, self.lower, self.upper, y, duals, self.typical)
        if y is self.y:
            other.evaluation = self.evaluation
        if y is self.y or (np.abs(y - self.y) <= SAME * self.units).all():
            other.__dict__["scale"] = self.scale
        return other

    @lazy
    def scale(self) -> Scale:
        return Scale.at(self)

    @property
    def units(self) -> Floats:
        """(n,) D, the sizes of the variables."""
        return self.scale.units

    @property
    def reach(self) -> float:
        """Y."""
        return self.scale.reach

    @property
    def value(self) -> float:
        """The objective's."""
        return float(self.evaluation.values[0])

    @property
    def h(self) -> Floats:
        return self.evaluation.values[1 : 1 + self.m]

    @property
    def e(self) -> Floats:
        return self.evaluation.values[1 + self.m :]

    @lazy
    def weights(self) -> Floats:
        """(1 + rows,) those of the Lagrangian."""
        return np.concatenate(([1.0], self.duals.ineq, self.duals.eq))

    @lazy
    def stationarity(self) -> Floats:
        """(n,) the gradient of the Lagrangian, multipliers of bounds included."""
        z = self.duals.ineq[self.candidates]
        if np.count_nonzero(z) == np.count_nonzero(self.duals.ineq):
            total = self.evaluation.gradient
            if len(self.jacobian):
                total = total + np.concatenate((z, self.duals.eq)) @ self.jacobian
        else:
            total = self.model.at(self.y, self.weights)[0]
        return total - self.duals.lower + self.duals.upper

    @lazy
    def candidates(self) -> Ints:
        """The inequalities that may be active: those with a multiplier that is not tiny beside its
        slack, and those near their bound."""
        if not self.m:
            return np.zeros(0, dtype=np.intp)
        z, h = self.duals.ineq, self.h
        slack = np.maximum(-h, 0.0)
        ratio = z / np.maximum(slack, TINY)
        likely = (z > 0.0) & (ratio >= DISTANT * ratio.max())
        near = slack <= WIDE * NEAR * self.reach * self.scale.spread
        return np.flatnonzero(likely | near | (h > 0.0))

    @lazy
    def jacobian(self) -> Floats:
        """(candidates + equalities, n) gradients of these rows, in units of y."""
        which = self.candidates
        if self.e.size:
            which = np.concatenate((which, np.arange(self.m, self.m + self.e.size)))
        return self.evaluation.rows(which)

    @lazy
    def row_sizes(self) -> Floats:
        """(candidates + equalities,) r, 1 where a row has no gradient."""
        sizes = np.sqrt(np.square(self.jacobian * self.units).sum(axis=-1))
        return np.where(sizes > 0.0, sizes, 1.0)

    @lazy
    def steepness(self) -> float:
        """G: the largest of the terms that cancel at a solution, and of what the curvature adds
        over a unit of length."""
        D, duals = self.units, self.duals
        z = np.concatenate((duals.ineq[self.candidates], duals.eq))
        terms = np.abs(self.evaluation.gradient), duals.lower, duals.upper, np.abs(self.scale.bend)
        largest = float((D * np.maximum.reduce(terms)).max(initial=0.0))
        return max(largest, float((np.abs(z) * self.row_sizes).max(initial=0.0))) or 1.0

    @lazy
    def pairs(self) -> tuple[Floats, Floats]:
        """Dimensionless slacks and multipliers of the candidates."""
        at = self.candidates
        r = self.row_sizes[: at.size]
        return -self.h[at] / (r * self.reach), self.duals.ineq[at] * r / self.steepness

    @lazy
    def bound_pairs(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Dimensionless slack and multiplier of the lower bounds (n,), then of the upper."""
        span, D = self.units * self.reach, self.units
        low, high = (self.y - self.lower) / span, (self.upper - self.y) / span
        duals = self.duals
        return low, duals.lower * D / self.steepness, high, duals.upper * D / self.steepness

    @lazy
    def active(self) -> NDArray[np.bool_]:
        """(candidates,) which hold."""
        slack, dual = self.pairs
        active: NDArray[np.bool_] = dual > slack
        return active

    @lazy
    def at_bounds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) which variables are at their lower, and which at their upper bound."""
        low, z_low, high, z_high = self.bound_pairs
        fixed = self.lower == self.upper
        at_low, at_high = z_low > low, z_high > high
        both = at_low & at_high | fixed
        lower = np.where(both, z_low >= z_high, at_low)
        return lower, np.where(both, ~lower, at_high)

    @lazy
    def margin(self) -> float:
        """The smallest of the larger of slack and multiplier of each inequality and bound."""
        low, z_low, high, z_high = self.bound_pairs
        moving = self.lower < self.upper
        larger = [np.maximum(*self.pairs)] if self.candidates.size else []
        larger += [np.maximum(low, z_low)[moving], np.maximum(high, z_high)[moving]]
        return min((float(v.min(initial=np.inf)) for v in larger), default=np.inf)

    @lazy
    def infeasibility(self) -> float:
        """The largest violation of a constraint."""
        if not np.isfinite(self.evaluation.values).all():
            return np.inf
        k = self.candidates.size
        low, _, high, _ = self.bound_pairs
        far = [
            -self.pairs[0],
            np.abs(self.e) / (self.row_sizes[k:] * self.reach),
            -low,
            -high,
        ]
        return max(0.0, *(float(v.max(initial=0.0)) for v in far))

    @lazy
    def residual(self) -> float:
        """The largest violation of an optimality condition."""
        if not (np.isfinite(self.y).all() and self.duals.finite and self.evaluation.finite):
            return np.inf
        if not np.isfinite(self.stationarity).all():
            return np.inf
        worst = float(np.abs(self.units * self.stationarity).max(initial=0.0)) / self.steepness
        low, z_low, high, z_high = self.bound_pairs
        for slack, dual in (self.pairs, (low, z_low), (high, z_high)):
            worst = max(worst, float(np.abs(np.minimum(slack, dual)).max(initial=0.0)))
        return max(worst, self.infeasibility)
