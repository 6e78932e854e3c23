"""Multipliers of a smooth program, and those of least squares where a solver gives none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from .._types import Floats

if TYPE_CHECKING:
    from .place import Place

__all__ = ["Duals", "least_squares_duals"]


NEAR = 1e-5
"""A row that is this near to its bound may have a multiplier, where the solver gives none."""

DENSE_ENTRIES = 1_000_000
"""Up to so many entries bounds are columns of the least-squares problem; beyond they take what is
left of the gradient."""


@dataclass(frozen=True)
class Duals:
    """Multipliers: of h (m_ineq,) >= 0, of e (m_eq,), of the bounds (n,) each >= 0."""

    ineq: Floats
    eq: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def none(cls, n: int, m_ineq: int, m_eq: int) -> Duals:
        """Zeros."""
        return cls(np.zeros(m_ineq), np.zeros(m_eq), np.zeros(n), np.zeros(n))

    @property
    def finite(self) -> bool:
        return all(np.isfinite(v).all() for v in (self.ineq, self.eq, self.lower, self.upper))


def least_squares_duals(place: Place) -> Duals:
    """Nonnegative multipliers that leave the least of the Lagrangian's gradient, of constraints
    that (almost) hold at the point; what ``place`` has as duals does not matter.

    C. L. Lawson and R. J. Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    n, D, zero = place.n, place.units, Duals.none(place.n, place.m, place.e.size)
    bare = place.moved(place.y, zero)
    k = bare.candidates.size
    slack = -bare.h[bare.candidates]
    close = slack <= NEAR * bare.row_sizes[:k] * bare.reach
    near = bare.candidates[close]
    gradient = D * bare.evaluation.gradient
    span = NEAR * D * bare.reach
    low = np.flatnonzero(place.y - place.lower <= span)
    high = np.flatnonzero(place.upper - place.y <= span)
    lower, upper = np.zeros(n), np.zeros(n)
    keep = np.ones(len(bare.jacobian), dtype=bool)
    keep[:k] = close
    if not keep.any():
        lower[low] = np.maximum(gradient[low], 0.0) / D[low]
        upper[high] = np.maximum(-gradient[high], 0.0) / D[high]
        return replace(zero, lower=lower, upper=upper)
    sizes = bare.row_sizes[keep]
    J = bare.jacobian[keep] * D / sizes[:, None]
    split, count = near.size, len(J)
    rows = np.concatenate((J, -J[split:]))  # multipliers of equalities have two signs
    if n * (count + low.size + high.size) <= DENSE_ENTRIES:
        columns = np.zeros((n, len(rows) + low.size + high.size))
        columns[:, : len(rows)] = rows.T
        columns[low, len(rows) + np.arange(low.size)] = -1.0
        columns[high, len(rows) + low.size + np.arange(high.size)] = 1.0
        fit = nnls(columns, -gradient)[0]
        lower[low] = fit[len(rows) : len(rows) + low.size] / D[low]
        upper[high] = fit[len(rows) + low.size :] / D[high]
        z = _signed(fit, split, count)
    else:
        free = np.ones(n, dtype=bool)
        free[low] = free[high] = False
        z = _signed(nnls(rows.T[free], -gradient[free])[0], split, count)
        rest = gradient + J.T @ z
        lower[low] = np.maximum(rest[low], 0.0) / D[low]
        upper[high] = np.maximum(-rest[high], 0.0) / D[high]
    z = z / sizes
    ineq = np.zeros(place.m)
    ineq[near] = z[:split]
    return Duals(ineq, z[split:], lower, upper)


def _signed(fit: Floats, split: int, count: int) -> Floats:
    """Multipliers of inequalities, and of equalities the positive less the negative parts."""
    z = fit[:count].copy()
    z[split:] -= fit[count : 2 * count - split]
    return z
