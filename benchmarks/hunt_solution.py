"""Whether a point that is called a solution is one, in the units in which its program was built.

There all sizes are near 1. The *natural size* of a row is the larger of |b_i| and the Euclidean
norm of row i of A: what the row can be when |x| is near 1. Rows of one curved cone are measured
together and have the largest of theirs; a row of zeros has at least 1. Never the size of the point
that came back, or of its multipliers: a point of norm 1e21 violates what it violates. The *natural
size* of the objective is the largest of |q_j|, 1/2 |P_ij| and of the terms of the objective at the
known optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hunt_programs import Case

from ffoadapt import Cone, ExponentialCone, NonnegativeCone, PSDCone, SecondOrderCone, ZeroCone

__all__ = ["Miss", "missed"]


@dataclass(frozen=True)
class Miss:
    """What a point violates the worst row by, and how far off its objective is, by natural sizes.

    The objective is 0 where none is known.
    """

    violation: float
    row: int
    objective: float


def missed(case: Case, x: np.ndarray) -> Miss:
    """Judge a point x, in the units of the case, by the very numbers that a solver got."""
    P, q, A, b = (v.astype(float) for v in case.exact)
    x = case.columns * x
    s, found = b - A @ x, np.zeros(b.size)
    norms = np.linalg.norm(A, axis=1)
    size = np.maximum(np.where(norms > 0, norms, 1.0), np.abs(b))
    at = 0
    for cone in case.cones:
        rows = slice(at, at + cone.dim)
        at += cone.dim
        if isinstance(cone, ZeroCone):
            found[rows] = np.abs(s[rows]) / size[rows]
        elif isinstance(cone, NonnegativeCone):
            found[rows] = np.maximum(-s[rows], 0.0) / size[rows]
        else:
            found[rows] = outside(cone, s[rows]) / size[rows].max()
    if case.box:  # and from below, where a bound has the size that it has
        lower = case.lower / case.rows
        size = np.maximum(np.where(norms > 0, norms, 1.0), np.abs(lower))
        found = np.maximum(found, (lower - A @ x) / size)
    worst = int(np.argmax(found)) if found.size else 0
    violation = float(found[worst]) if found.size else 0.0
    if np.isnan(violation):
        violation = np.inf
    objective = 0.0
    if not (case.gap or case.blind):
        best = case.x
        terms = 0.5 * np.outer(best, best) * P, q * best, 0.5 * P, q
        size_f = max((float(np.abs(v).max(initial=0.0)) for v in terms), default=0.0) or 1.0
        size_f = max(size_f, float(abs(0.5 * best @ P @ best)), float(np.abs(q * best).sum()))
        value, known = (0.5 * v @ P @ v + q @ v for v in (x, best))
        objective = float(abs(value - known)) / size_f
    return Miss(violation, worst, objective)


def outside(cone: Cone, s: np.ndarray) -> float:
    """The Euclidean distance of s from the cone."""
    if not np.isfinite(s).all():
        return np.inf
    if isinstance(cone, SecondOrderCone):
        t, r = float(s[0]), float(np.linalg.norm(s[1:]))
        return max(0.0, (r - t) / np.sqrt(2.0)) if r >= -t else float(np.linalg.norm(s))
    if isinstance(cone, PSDCone):
        M, (columns, rows) = np.zeros((cone.n, cone.n)), np.triu_indices(cone.n)
        M[rows, columns] = M[columns, rows] = s / np.where(rows == columns, 1.0, np.sqrt(2.0))
        return float(np.linalg.norm(np.minimum(np.linalg.eigvalsh(M), 0.0)))
    if isinstance(cone, ExponentialCone):
        if s[1] > 0 and s[2] > 0 and s[0] <= s[1] * np.log(s[2] / s[1]):
            return 0.0
        face = np.array([min(s[0], 0.0), 0.0, max(s[2], 0.0)])
        return min(from_rays(exponential, s, -40.0, 40.0), float(np.linalg.norm(s - face)))
    x, y, t = s
    a = cone.alpha  # type: ignore[attr-defined]
    if x >= 0 and y >= 0 and abs(t) <= x**a * y ** (1 - a):
        return 0.0

    def ray(u: np.ndarray) -> np.ndarray:
        v = 1.0 / (1.0 + np.exp(-u))
        return np.array([v, 1.0 - v, np.copysign(1.0, t) * v**a * (1.0 - v) ** (1 - a)])

    return from_rays(ray, s, -60.0, 60.0)


def exponential(u: np.ndarray) -> np.ndarray:
    """The rays (u, 1, exp u) of the exponential cone, in any length."""
    return np.array([u, np.ones_like(u), np.exp(u)])


def from_rays(
    ray: Callable[[np.ndarray], np.ndarray], s: np.ndarray, low: float, high: float
) -> float:
    """The distance of s from the nearest of the rays ray(u), low <= u <= high; they bound a cone
    that s is not in. A grid that becomes finer around its best point."""
    best = np.inf
    for _ in range(15):  # to the last digit: points may be far away
        u = np.linspace(low, high, 41)
        direction = ray(u)
        direction = direction / np.linalg.norm(direction, axis=0)
        along = np.maximum(s @ direction, 0.0)
        distance = np.linalg.norm(s[:, None] - along * direction, axis=0)
        k = int(np.argmin(distance))
        best = min(best, float(distance[k]))
        low, high = u[max(k - 1, 0)], u[min(k + 1, 40)]
    return best
