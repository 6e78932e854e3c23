"""A solver of quadratic programs in 60 lines of NumPy: slow, dense, exact to some 1e-10.

The suites of frameworks and modelers use it, so that they need no vendor; it also shows what a
solver is. Mehrotra's predictor and corrector (SIAM J. Optim. 2(4), 1992) for Gx <= h, Ax = b.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._plugins.solver import Options, Session, Solver
from .._program.forms import SplitForm
from .._program.points import Solution, Status
from .._types import Floats

__all__ = ["ReferenceSolver"]


class ReferenceSolver(Solver):
    """Interior point for Gx <= h, Ax = b. Tells infeasible and unbounded programs."""

    name = "reference"
    form = "split"
    matrices = ("dense",)
    defaults: ClassVar = {"tolerance": 1e-10, "max_iterations": 60}

    def known_options(self) -> tuple[str, ...]:
        return ("tolerance", "max_iterations")

    def solve(self, program: SplitForm, options: Options, session: Session) -> Solution:
        finite = np.isfinite(program.h)
        P, q, A, b = program.P, program.q, program.A, program.b
        G, h = program.G[finite], program.h[finite]
        x, y, z, status = _solve(P, q, G, h, A, b, **options)
        z_ineq = np.zeros(program.h.size)
        z_ineq[finite] = z
        return Solution(x, (z_ineq, y), None, status)


def _solve(
    P: Floats,
    q: Floats,
    G: Floats,
    h: Floats,
    A: Floats,
    b: Floats,
    tolerance: float,
    max_iterations: int,
) -> tuple[Any, Any, Any, Status]:
    n, k, p = q.size, h.size, b.size
    x, y, z, s = np.zeros(n), np.zeros(p), np.ones(k), np.maximum(h, 1.0)
    scale = max(1.0, *(float(np.abs(v).max(initial=0.0)) for v in (q, h, b)))
    for _ in range(max_iterations):
        r_x = P @ x + q + G.T @ z + A.T @ y
        r_s, r_y = G @ x + s - h, A @ x - b
        gap = float(s @ z)
        worst = max(float(np.abs(r).max(initial=0.0)) for r in (r_x, r_s, r_y))
        if max(worst, gap / max(k, 1)) <= tolerance * scale:
            return x, y, z, Status.OPTIMAL
        certificate = _certificate(P, q, G, h, A, b, x, y, z)
        if certificate is not None:
            return x, y, z, certificate
        K = np.block([[P + (G.T * (z / s)) @ G, A.T], [A, np.zeros((p, p))]])
        K[np.arange(n), np.arange(n)] += 1e-12
        K[np.arange(n, n + p), np.arange(n, n + p)] -= 1e-12

        def step(
            r_c: Floats,
            K: Floats = K,
            z: Floats = z,
            s: Floats = s,
            r: tuple[Floats, Floats, Floats] = (r_x, r_s, r_y),
        ) -> tuple[Floats, Floats, Floats, Floats]:
            """Newton's direction for s z = s z - r_c."""
            top = -r[0] - G.T @ ((z * r[1] - r_c) / s)
            d = np.asarray(np.linalg.solve(K, np.concatenate((top, -r[2]))), np.float64)
            ds: Floats = -r[1] - G @ d[:n]
            return d[:n], d[n:], -(r_c + z * ds) / s, ds

        _, _, dz, ds = step(s * z)
        alpha = min(_room(s, ds), _room(z, dz))
        after = float((s + alpha * ds) @ (z + alpha * dz))
        sigma = (after / gap) ** 3 if gap > 0.0 else 0.0
        dx, dy, dz, ds = step(s * z + ds * dz - sigma * gap / max(k, 1))
        alpha = min(1.0, 0.99 * min(_room(s, ds), _room(z, dz)))
        x, y, z, s = x + alpha * dx, y + alpha * dy, z + alpha * dz, s + alpha * ds
    return x, y, z, Status.ITERATION_LIMIT


def _room(values: Floats, step: Floats) -> float:
    """The longest step that keeps the values nonnegative, at most 1/0.99."""
    ratio = np.divide(-values, step, out=np.full(values.size, np.inf), where=step < 0.0)
    return float(min(1.0 / 0.99, ratio.min(initial=np.inf)))


def _certificate(
    P: Floats,
    q: Floats,
    G: Floats,
    h: Floats,
    A: Floats,
    b: Floats,
    x: Floats,
    y: Floats,
    z: Floats,
) -> Status | None:
    """A proof that there is no solution, if the iterates have become one."""

    def size(*parts: Floats) -> float:
        return max(float(np.abs(part).max(initial=0.0)) for part in parts)

    proof = float(h @ z + b @ y)
    if proof < 0.0 and size(G.T @ z + A.T @ y) <= 1e-8 * -proof:
        return Status.PRIMAL_INFEASIBLE
    descent = float(q @ x)
    if descent < 0.0 and size(P @ x, np.maximum(G @ x, 0.0), A @ x) <= 1e-8 * -descent:
        return Status.DUAL_INFEASIBLE
    return None
