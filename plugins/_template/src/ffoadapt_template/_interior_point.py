"""A primal-dual interior-point method: it stands where the solver that you adapt will be.

    minimize 1/2 x'Px + q'x    subject to  Gx + s = h,  s >= 0,   Ax = b

Mehrotra's predictor and corrector (Nocedal and Wright, Numerical Optimization, algorithm 16.4).
It knows nothing of ffoadapt, as a vendor's package would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve

__all__ = ["Answer", "interior_point"]

Floats = NDArray[np.float64]

REGULARIZATION = 1e-10
"""Added to the Newton system, so that dependent rows and P = 0 do no harm; relative to its size."""

CERTIFICATE = 1e-8
"""A direction that proves infeasibility or unboundedness does so up to this relative error."""


@dataclass(frozen=True)
class Answer:
    """x (n,), z (rows of G,) >= 0 and y (rows of A,) with Px + q + G'z + A'y = 0, and how it ended.

    ``status`` is ``"solved"``, ``"infeasible"``, ``"unbounded"`` or ``"max_iter"``.
    """

    x: Floats
    z: Floats
    y: Floats
    status: str
    iterations: int


def interior_point(
    P: Floats, q: Floats, G: Floats, h: Floats, A: Floats, b: Floats, *, tol: float, max_iter: int
) -> Answer:
    """Solve one program; residuals are relative to 1 plus the size of the data they come from."""
    n, k, p = q.size, h.size, b.size
    ineq = slice(n, n + k)
    K = np.block([[P, G.T, A.T], [G, np.zeros((k, k + p))], [A, np.zeros((p, k + p))]])
    shift = np.repeat([1.0, -1.0], (n, k + p)) * REGULARIZATION * max(1.0, _size(K))
    factor = _factorize(K, ineq, np.ones(k), shift)
    x, z, y = np.split(lu_solve(factor, np.concatenate([-q, h, b])), [n, n + k])
    s, z = (v + max(0.0, 1.0 - v.min(initial=1.0)) for v in (-z, z))
    for iteration in range(max_iter + 1):
        r_dual, r_ineq, r_eq = P @ x + q + G.T @ z + A.T @ y, G @ x + s - h, A @ x - b
        gap, objective = s @ z, 0.5 * x @ P @ x + q @ x
        primal = max(_size(r_ineq) / (1 + _size(h)), _size(r_eq) / (1 + _size(b)))
        if max(primal, _size(r_dual) / (1 + _size(q)), gap / (1 + abs(objective))) <= tol:
            return Answer(x, z, y, "solved", iteration)
        if (verdict := _certified(P, q, G, h, A, b, x, z, y)) is not None:
            return Answer(x, z, y, verdict, iteration)

        factor, residuals = _factorize(K, ineq, s / z, shift), (r_dual, r_ineq, r_eq)
        _, ds, dz, _ = _direction(factor, residuals, s, z, s * z)
        step = _step(s, z, ds, dz, 1.0)
        centre = ((s + step * ds) @ (z + step * dz) / gap) ** 3 * gap / k if k else 0.0
        dx, ds, dz, dy = _direction(factor, residuals, s, z, s * z + ds * dz - centre)
        step = _step(s, z, ds, dz, 0.99)
        x, s, z, y = x + step * dx, s + step * ds, z + step * dz, y + step * dy
    return Answer(x, z, y, "max_iter", max_iter)


def _factorize(K: Floats, ineq: slice, ratio: Floats, shift: Floats) -> Any:
    system = K + np.diag(shift)
    system[ineq, ineq] -= np.diag(ratio)
    return lu_factor(system, check_finite=False)


def _size(v: Floats) -> float:
    return float(np.abs(v).max(initial=0.0))


def _direction(
    factor: Any, residuals: Sequence[Floats], s: Floats, z: Floats, product: Floats
) -> tuple[Floats, ...]:
    """dx, ds, dz, dy that take the residuals to 0 and each s_i z_i down by ``product[i]``."""
    r_dual, r_ineq, r_eq = residuals
    right = np.concatenate([-r_dual, product / z - r_ineq, -r_eq])
    dx, dz, dy = np.split(lu_solve(factor, right), [r_dual.size, r_dual.size + r_ineq.size])
    return dx, -(product + s * dz) / z, dz, dy


def _step(s: Floats, z: Floats, ds: Floats, dz: Floats, fraction: float) -> float:
    """The longest step, at most 1, that goes this fraction of the way to where s or z is 0."""
    at, move = np.concatenate([s, z]), np.concatenate([ds, dz])
    shrinking = move < 0.0
    return min(1.0, fraction * float((-at[shrinking] / move[shrinking]).min(initial=np.inf)))


def _certified(
    P: Floats,
    q: Floats,
    G: Floats,
    h: Floats,
    A: Floats,
    b: Floats,
    x: Floats,
    z: Floats,
    y: Floats,
) -> str | None:
    """Whether the diverging multipliers or the diverging point prove that there is no solution."""
    infeasible, unbounded = -(h @ z + b @ y), -(q @ x)
    if infeasible > 0.0 and _size(G.T @ z + A.T @ y) <= CERTIFICATE * infeasible:
        return "infeasible"
    away = max(_size(P @ x), _size(A @ x), float((G @ x).max(initial=0.0)))
    return "unbounded" if unbounded > 0.0 and away <= CERTIFICATE * unbounded else None
