"""A primal and dual point of a smooth program: its units, its active set, how optimal it is.

Everything is dimensionless: u = y / D, a row of the constraints has the norm of its gradient in u,
multipliers times that norm compare with G, the size of the objective's gradient in u. A row is
active where its multiplier is larger than its slack, as the core's rule is for cone programs:

    z_i r_i / G  >  (-h_i / r_i) / Y,     Y = max(1, |u|)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from .._runtime.lazy import lazy
from .functions import Model

__all__ = ["DENSE", "Duals", "Place", "least_squares_duals"]

Floats = NDArray[np.float64]

DENSE = 64
"""Up to so many variables the curvature is a matrix."""

NEAR = 1e-5
"""A row that is this near to its bound may have a multiplier, where the solver gives none."""

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


@dataclass(frozen=True)
class Duals:
    """Multipliers: of h (m_ineq,) >= 0, of e (m_eq,), of the bounds (n,) each >= 0."""

    ineq: Floats
    eq: Floats
    lower: Floats
    upper: Floats

    @property
    def finite(self) -> bool:
        return all(np.isfinite(v).all() for v in (self.ineq, self.eq, self.lower, self.upper))


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
    ) -> None:
        self.model, self.lower, self.upper, self.y, self.duals = model, lower, upper, y, duals
        self.typical = typical
        self.n, self.m = y.size, duals.ineq.size

    def moved(self, y: Floats, duals: Duals) -> Place:
        """Another point of the same program."""
        return Place(self.model, self.lower, self.upper, y, duals, self.typical)

    @lazy
    def weights(self) -> Floats:
        """(1 + rows,) those of the Lagrangian."""
        return np.concatenate(([1.0], self.duals.ineq, self.duals.eq))

    @lazy
    def _lagrangian(self) -> tuple[Floats, Floats]:
        gradient, values, _ = self.model.at(self.y, self.weights)
        return gradient, values

    @property
    def value(self) -> float:
        """The objective's."""
        return float(self._lagrangian[1][0])

    @property
    def h(self) -> Floats:
        return self._lagrangian[1][1 : 1 + self.m]

    @property
    def e(self) -> Floats:
        return self._lagrangian[1][1 + self.m :]

    @lazy
    def stationarity(self) -> Floats:
        """(n,) the gradient of the Lagrangian, multipliers of bounds included."""
        return self._lagrangian[0] - self.duals.lower + self.duals.upper

    @lazy
    def units(self) -> Floats:
        """(n,) D, the sizes of the variables."""
        if self.typical is not None:
            return self.typical
        size = np.abs(self.y)
        largest = size.max(initial=0.0)
        if self.n > DENSE or largest == 0.0:
            return np.ones(self.n)
        return np.clip(size, NARROW * largest, None)

    @lazy
    def reach(self) -> float:
        """Y."""
        return max(1.0, float(np.abs(self.y / self.units).max(initial=0.0)))

    @lazy
    def candidates(self) -> NDArray[np.intp]:
        """The inequalities that may be active: those with a multiplier that is not tiny beside its
        slack, and those near their bound."""
        if not self.m:
            return np.zeros(0, dtype=np.intp)
        z, slack = self.duals.ineq, np.maximum(-self.h, 0.0)
        ratio = z / np.maximum(slack, TINY)
        likely = (z > 0.0) & (ratio >= DISTANT * ratio.max())
        near = slack <= WIDE * NEAR * self.reach * np.abs(self._probe[1])
        return np.flatnonzero(likely | near | (self.h > 0.0))

    @lazy
    def jacobian(self) -> Floats:
        """(candidates + equalities, n) gradients of these rows, in units of y."""
        rows = np.concatenate((1 + self.candidates, 1 + self.m + np.arange(self.e.size)))
        if not rows.size:
            return np.zeros((0, self.n))
        weights = np.zeros((rows.size, self.weights.size))
        weights[np.arange(rows.size), rows] = 1.0
        return self.model.each(self.y, weights)[0]

    @lazy
    def row_sizes(self) -> Floats:
        """(candidates + equalities,) r, 1 where a row has no gradient."""
        sizes = np.linalg.norm(self.jacobian * self.units, axis=-1)
        return np.where(sizes > 0.0, sizes, 1.0)

    @lazy
    def objective_gradient(self) -> Floats:
        w = np.zeros_like(self.weights)
        w[0] = 1.0
        return self.model.at(self.y, w)[0]

    @lazy
    def steepness(self) -> float:
        """G: the largest of the terms that cancel at a solution, and of what the curvature adds
        over a unit of length."""
        D = self.units
        z = np.concatenate((self.duals.ineq[self.candidates], self.duals.eq))
        terms = [
            np.abs(D * self.objective_gradient),
            np.abs(z) * self.row_sizes,
            D * self.duals.lower,
            D * self.duals.upper,
            np.abs(D * self._probe[0]),
        ]
        return max(float(t.max(initial=0.0)) for t in terms) or 1.0

    @lazy
    def _probe(self) -> tuple[Floats, Floats]:
        """(n,) how the gradient, and (m,) how the inequalities change over a unit of length in some
        direction that stays between the bounds."""
        rng = np.random.default_rng(self.n)
        unit = self.units * rng.uniform(0.5, 1.0, self.n) * rng.choice((-1.0, 1.0), self.n)
        step = PROBE * self.reach * unit
        ahead = np.clip(self.y + step, self.lower, self.upper)
        behind = np.clip(self.y - step, self.lower, self.upper)
        ends = [self.model.at(y, self.weights) for y in (ahead, behind)]
        bend = (ends[0][0] - ends[1][0]) / (2.0 * PROBE)
        spread = (ends[0][1] - ends[1][1])[1 : 1 + self.m] / (2.0 * PROBE * self.reach)
        return tuple(np.where(np.isfinite(v), v, 0.0) for v in (bend, spread))  # type: ignore

    @lazy
    def pairs(self) -> tuple[Floats, Floats]:
        """Dimensionless slacks and multipliers of the candidates."""
        at, k = self.candidates, self.candidates.size
        r = self.row_sizes[:k]
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
        found: NDArray[np.bool_] = dual > slack
        return found

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
        if not np.isfinite(self._lagrangian[1]).all():
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
        if not (
            np.isfinite(self.y).all()
            and self.duals.finite
            and np.isfinite(self._lagrangian[0]).all()
        ):
            return np.inf
        if not np.isfinite(self._lagrangian[1]).all():
            return np.inf
        worst = float(np.abs(self.units * self.stationarity).max(initial=0.0)) / self.steepness
        low, z_low, high, z_high = self.bound_pairs
        for slack, dual in (self.pairs, (low, z_low), (high, z_high)):
            worst = max(worst, float(np.abs(np.minimum(slack, dual)).max(initial=0.0)))
        return max(worst, self.infeasibility)


def least_squares_duals(place: Place) -> Duals:
    """Nonnegative multipliers that leave the least of the Lagrangian's gradient, of constraints
    that (almost) hold at the point; what ``place`` has as duals does not matter.

    C. L. Lawson and R. J. Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    n, D = place.n, place.units
    zero = Duals(np.zeros(place.m), np.zeros(place.e.size), np.zeros(n), np.zeros(n))
    bare = place.moved(place.y, zero)
    k = bare.candidates.size
    near = bare.candidates[-bare.h[bare.candidates] <= NEAR * bare.row_sizes[:k] * bare.reach]
    rows = bare.jacobian[
        np.concatenate((np.isin(bare.candidates, near), np.ones(bare.e.size, bool)))
    ]
    gradient = D * bare.objective_gradient
    span = NEAR * D * bare.reach
    low = np.flatnonzero(place.y - place.lower <= span)
    high = np.flatnonzero(place.upper - place.y <= span)
    lower, upper = np.zeros(n), np.zeros(n)
    J = rows * D
    if not len(rows):
        lower[low] = np.maximum(gradient[low], 0.0) / D[low]
        upper[high] = np.maximum(-gradient[high], 0.0) / D[high]
        return replace(zero, lower=lower, upper=upper)
    sizes = np.linalg.norm(J, axis=-1)
    sizes = np.where(sizes > 0.0, sizes, 1.0)
    J = J / sizes[:, None]
    split = near.size
    equal = J[split:]
    if n * (len(J) + low.size + high.size) <= 1_000_000:
        eye = np.eye(n)
        columns = np.concatenate((J[:split], equal, -equal, -eye[low], eye[high])).T
        found = nnls(columns, -gradient)[0]
        ends = np.cumsum([split, len(equal), len(equal), low.size])
        z, plus, minus, z_low, z_high = np.split(found, ends)
        lower[low], upper[high] = z_low / D[low], z_high / D[high]
        eq = plus - minus
    else:
        free = np.ones(n, dtype=bool)
        free[low] = free[high] = False
        columns = np.concatenate((J[:split], equal, -equal)).T[free]
        found = nnls(columns, -gradient[free])[0]
        z, plus, minus = np.split(found, (split, split + len(equal)))
        eq = plus - minus
        rest = gradient + J.T @ np.concatenate((z, eq))
        lower[low] = np.maximum(rest[low], 0.0) / D[low]
        upper[high] = np.maximum(-rest[high], 0.0) / D[high]
    ineq = np.zeros(place.m)
    ineq[near] = z / sizes[:split]
    return Duals(ineq, eq / sizes[split:], lower, upper)
