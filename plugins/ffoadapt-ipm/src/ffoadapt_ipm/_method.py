"""Mehrotra's predictor-corrector method for dense quadratic programs, over any array namespace.

    minimize 1/2 x'Px + q'x   subject to   l <= Ax <= u

The two sides of all rows are kept together: with g = (1, -1), side k of row i reads

    g_k (Ax)_i + s_ki = b_ki,   b = (u, -l),   s >= 0,   z >= 0,   s z = 0,   y = z_0 - z_1,

where an infinite side has no s and no z. Rows with l = u have a multiplier v of any sign instead
(y = v), found by the method of multipliers: v moves by (Ax - u)/delta. A Newton step is one
Cholesky factorization, shared by predictor and corrector, of

    P + rho I + A' diag(d) A,   d = sum over the sides of z/s, 1/delta where l = u.

Arrays have any number of leading batch axes. An element that is done stands still, so each is
solved as it is alone. What a framework has to offer besides the array namespace is `Algebra`.

Sources: S. Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2
(1992); for the proximal terms, R. Schwan, Y. Jiang, D. Kuhn, C. N. Jones, PIQP, CDC 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["Algebra", "Answer", "solve"]

RHO = 1e-10
"""Added to the diagonal of P, whose largest entry is near 1 after scaling."""

DELTA = 1e-7
"""How far the residual of an equality may stay behind its multiplier in one step."""

SHORT = 0.995
"""The share of the way to the boundary that a step takes."""

ROUNDS = 3
"""Rounds of equilibration."""


class Algebra(Protocol):
    """What a framework has that the array standard does not."""

    xp: Any

    def factor(self, matrix: Any) -> Callable[[Any], Any]:
        """Solves with positive definite matrices (..., n, n): right-hand sides (..., n)."""

    def repeat(self, step: Callable[[Any], Any], state: Any, limit: int) -> Any:
        """Apply ``step`` until its ``done`` holds for all elements, or ``limit`` times."""


class Answer(NamedTuple):
    """Points x (..., n), y (..., m); whether they are solutions; Newton steps taken (...)."""

    x: Any
    y: Any
    solved: Any
    steps: Any


class _State(NamedTuple):
    x: Any
    s: Any
    z: Any
    v: Any
    done: Any
    steps: Any


def solve(
    algebra: Algebra, P: Any, q: Any, A: Any, l: Any, u: Any, tolerance: float, limit: int
) -> Answer:
    """Solve a batch of programs.

    Parameters
    ----------
    P, q, A, l, u
        (..., n, n), (..., n), (..., m, n), (..., m), (..., m); P symmetric and semidefinite.
    tolerance
        Of the residuals of the optimality conditions, each beside the largest of its terms, and of
        the mean s z beside the objective.
    limit
        Newton steps.
    """
    xp = algebra.xp
    scaled = _scaled(xp, P, q, A, l, u)
    P, q, A, b, finite, equal, sign, n = scaled.data
    count = xp.clip(xp.sum(xp.astype(finite, q.dtype), axis=(-2, -1)), min=1.0)
    eye = xp.eye(n, dtype=q.dtype) * RHO
    At = xp.matrix_transpose(A)
    target = b[..., 0, :]

    def times(M: Any, v: Any) -> Any:
        return (M @ v[..., None])[..., 0]

    def dual(z: Any, v: Any) -> Any:
        return z[..., 0, :] - z[..., 1, :] + v

    def norm(v: Any) -> Any:
        return (xp.max if v.shape[-1] else xp.sum)(xp.abs(v), axis=-1)

    def residuals(x: Any, s: Any, z: Any, v: Any) -> tuple[Any, ...]:
        r, Px, Ay = times(A, x), times(P, x), times(At, dual(z, v))
        rp = xp.where(finite, sign * r[..., None, :] + s - b, 0.0)
        re = xp.where(equal, r - target, 0.0)
        return r, Px, Ay, Px + q + Ay, rp, re

    def step(state: _State) -> _State:
        x, s, z, v, done, steps = state
        r, Px, Ay, rd, rp, re = residuals(x, s, z, v)
        mu = xp.sum(s * z, axis=(-2, -1)) / count
        weight = z / s
        d = xp.where(equal, 1.0 / DELTA, xp.sum(weight, axis=-2))
        solved = algebra.factor(P + eye + At @ (d[..., :, None] * A))

        def direction(rc: Any) -> tuple[Any, ...]:
            push = (z * rp - rc) / s
            g = push[..., 0, :] - push[..., 1, :] + re / DELTA
            dx = solved(-(rd + times(At, g)))
            move = times(A, dx)
            ds = xp.where(finite, -rp - sign * move[..., None, :], 0.0)
            dz = xp.where(finite, -(rc + z * ds) / s, 0.0)
            dv = xp.where(equal, (re + move) / DELTA, 0.0)
            return dx, ds, dz, dv

        def length(ds: Any, dz: Any) -> Any:
            ratio = xp.maximum(-ds / s, -dz / xp.where(finite, z, 1.0))
            largest = norm(xp.clip(xp.reshape(ratio, (*ratio.shape[:-2], -1)), min=0.0))
            return 1.0 / xp.clip(largest, min=1.0)

        _, ds, dz, _ = direction(s * z)
        reach = length(ds, dz)[..., None, None]
        ahead = xp.sum((s + reach * ds) * (z + reach * dz), axis=(-2, -1)) / count
        sigma = (ahead / xp.where(mu > 0.0, mu, 1.0)) ** 3
        rc = xp.where(finite, s * z + ds * dz - (sigma * mu)[..., None, None], 0.0)
        dx, ds, dz, dv = direction(rc)
        reach = xp.where(done, 0.0, SHORT * length(ds, dz))
        line, side = reach[..., None], reach[..., None, None]
        x, s, z, v = x + line * dx, s + side * ds, z + side * dz, v + line * dv
        return _State(x, s, z, v, done | fine(x, s, z, v), steps + xp.astype(~done, q.dtype))

    def fine(x: Any, s: Any, z: Any, v: Any) -> Any:
        r, Px, Ay, rd, rp, re = residuals(x, s, z, v)
        mu = xp.sum(s * z, axis=(-2, -1)) / count
        primal = xp.maximum(norm(re), norm(xp.reshape(rp, (*rp.shape[:-2], -1))))
        reach = xp.maximum(norm(r), norm(xp.where(equal, target, 0.0)))
        slope = xp.maximum(xp.maximum(norm(Px), norm(Ay)), norm(q))
        cost = xp.abs(xp.sum(x * (0.5 * Px + q), axis=-1))
        return (
            (primal <= tolerance * (1.0 + reach))
            & (norm(rd) <= tolerance * (1.0 + slope))
            & (mu <= tolerance * (1.0 + cost))
        )

    # The start: least squares of the middles of the rows, and slacks that are positive.
    some = xp.astype(xp.any(finite, axis=-2) | equal, q.dtype)
    first = algebra.factor(P + eye + At @ (some[..., :, None] * A))
    middle = xp.where(equal, target, _middle(xp, b, finite))
    x = first(times(At, some * middle) - q)
    gap = xp.where(finite, b - sign * times(A, x)[..., None, :], 1.0)
    s = xp.where(finite, xp.clip(gap, min=1.0), 1.0)
    z = xp.where(finite, xp.clip(-gap, min=1.0), 0.0)
    v = xp.zeros_like(target)
    start = _State(x, s, z, v, fine(x, s, z, v), xp.zeros_like(x[..., 0]))
    end = algebra.repeat(step, start, limit)
    y = dual(end.z, end.v)
    return Answer(end.x * scaled.columns, y * scaled.rows / scaled.cost, end.done, end.steps)


class _Scaled(NamedTuple):
    data: tuple[Any, ...]
    columns: Any
    rows: Any
    cost: Any


def _scaled(xp: Any, P: Any, q: Any, A: Any, l: Any, u: Any) -> _Scaled:
    """The program in units in which rows, columns and costs are near 1."""
    n, m = P.shape[-1], A.shape[-2]
    columns, rows = xp.ones_like(q), xp.ones_like(l)
    absP, absA = xp.abs(P), xp.abs(A)
    for _ in range(ROUNDS):
        across = absA * rows[..., :, None] * columns[..., None, :]
        if m:
            rows = rows / _root(xp, xp.max(across, axis=-1))
            down = xp.max(across, axis=-2)
        else:
            down = xp.zeros_like(columns)
        curved = xp.max(absP * columns[..., :, None] * columns[..., None, :], axis=-2)
        columns = columns / _root(xp, xp.maximum(down, curved))
    P = P * columns[..., :, None] * columns[..., None, :]
    q = q * columns
    cost = xp.maximum(xp.max(xp.abs(P), axis=(-2, -1)), xp.max(xp.abs(q), axis=-1))
    cost = (1.0 / xp.where(cost > 0.0, cost, 1.0))[..., None]
    P, q = P * cost[..., None], q * cost
    A = A * rows[..., :, None] * columns[..., None, :]
    b = xp.stack((u * rows, -l * rows), axis=-2)
    equal = l == u
    finite = xp.isfinite(b) & ~equal[..., None, :]
    b = xp.where(xp.isfinite(b), b, 0.0)
    sign = xp.stack((xp.ones_like(l), -xp.ones_like(l)), axis=-2)
    return _Scaled((P, q, A, b, finite, equal, sign, n), columns, rows, cost)


def _middle(xp: Any, b: Any, finite: Any) -> Any:
    """The middle of a row with two finite sides, the bound of one with one."""
    weight = xp.astype(finite, b.dtype)
    total = xp.sum(weight, axis=-2)
    signed = weight[..., 0, :] * b[..., 0, :] - weight[..., 1, :] * b[..., 1, :]
    return signed / xp.where(total > 0.0, total, 1.0)


def _root(xp: Any, values: Any) -> Any:
    return xp.sqrt(xp.where(values > 0.0, values, 1.0))

