"""Mehrotra's predictor-corrector method for dense quadratic programs, over any array namespace.

    minimize 1/2 x'Px + q'x   subject to   l <= Ax <= u

The two sides of all rows are kept together: with g = (1, -1), side k of row i reads

    g_k (Ax)_i + s_ki = b_ki,   b = (u, -l),   s >= 0,   z >= 0,   s z = 0,   y = z_0 - z_1,

where an infinite side has no s and no z. Rows with l = u have a multiplier v of any sign instead
(y = v), found by the method of multipliers: v moves by (Ax - u)/delta. A Newton step is one
Cholesky factorization, shared by predictor and corrector, of

    P + rho I + A' diag(d) A,   d = sum over the sides of z/s, 1/delta where l = u.

Arrays have any number of leading batch axes. An element that is done stands still, so each is
solved as it is alone. What a framework has to offer besides the array namespace is its
`ffoadapt.experimental.Algebra`.

Sources: S. Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2
(1992); for the proximal terms, R. Schwan, Y. Jiang, D. Kuhn, C. N. Jones, PIQP, CDC 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat

from ffoadapt.experimental import Algebra

__all__ = ["Answer", "solve"]

RHO = 1e-10
"""Added to the diagonal of P, whose largest entry is near 1 after scaling."""

DELTA = 1e-7
"""How far the residual of an equality may stay behind its multiplier in one step."""

SHORT = 0.995
"""The share of the way to the boundary that a step takes."""

ROUNDS = 3
"""Rounds of equilibration."""


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
    over: Any
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
    xp = array_api_compat.array_namespace(q)
    scaled = _scaled(xp, P, q, A, l, u)
    method = _Method(xp, algebra, scaled.data, tolerance)
    end = algebra.until(lambda state: ~state.over, method.step, method.start(), limit)
    y = _balance(end.z) + end.v
    return Answer(end.x * scaled.columns, y * scaled.rows / scaled.cost, end.done, end.steps)


class _Residuals(NamedTuple):
    """What is left of Px + q + A'y, of the sides and of the equalities; and the terms' sizes."""

    dual: Any
    sides: Any
    equal: Any
    reach: Any
    slope: Any
    cost: Any


class _Method:
    """The steps for a batch of scaled programs."""

    def __init__(self, xp: Any, algebra: Algebra, data: tuple[Any, ...], tolerance: float) -> None:
        self.xp = xp
        self.algebra, self.tolerance = algebra, tolerance
        self.P, self.q, self.A, self.b, self.finite, self.equal, self.sign = data
        self.At, self.target = xp.matrix_transpose(self.A), self.b[..., 0, :]
        self.shifted = self.P + RHO * algebra.eye(self.q)
        count = xp.sum(xp.astype(self.finite, self.q.dtype), axis=(-2, -1))
        self.count = xp.clip(count, min=1.0)

    def start(self) -> _State:
        """Least squares of the middles of the rows, and slacks that are positive."""
        xp, some = self.xp, self.xp.any(self.finite, axis=-2) | self.equal
        first = self._factor(xp.astype(some, self.q.dtype))
        middle = xp.where(self.equal, self.target, _middle(xp, self.b, self.finite))
        x = first(_times(self.At, xp.where(some, middle, 0.0)) - self.q)
        gap = xp.where(self.finite, self.b - self._sides(_times(self.A, x)), 1.0)
        s = xp.where(self.finite, xp.clip(gap, min=1.0), 1.0)
        z = xp.where(self.finite, xp.clip(-gap, min=1.0), 0.0)
        v = xp.zeros_like(self.target)
        done = self._fine(x, s, z, v)
        return _State(x, s, z, v, done, done, xp.zeros_like(x[..., 0]))

    def step(self, state: _State) -> _State:
        """Predictor, corrector, and a step of one length for primal and dual."""
        xp, finite = self.xp, self.finite
        x, s, z, v, done, over, steps = state
        left = self._residuals(x, s, z, v)
        mu = xp.sum(s * z, axis=(-2, -1)) / self.count
        d = xp.where(self.equal, 1.0 / DELTA, xp.sum(z / s, axis=-2))
        solve = self._factor(d)
        _, ds, dz, _ = self._direction(solve, left, s, z, s * z)
        reach = self._length(s, z, ds, dz)[..., None, None]
        ahead = xp.sum((s + reach * ds) * (z + reach * dz), axis=(-2, -1)) / self.count
        sigma = (ahead / xp.where(mu > 0.0, mu, 1.0)) ** 3
        rc = xp.where(finite, s * z + ds * dz - (sigma * mu)[..., None, None], 0.0)
        dx, ds, dz, dv = self._direction(solve, left, s, z, rc)
        reach = SHORT * self._length(s, z, ds, dz)
        line, side = reach[..., None], reach[..., None, None]
        after = x + line * dx, s + side * ds, z + side * dz, v + line * dv
        total = xp.sum(after[0], axis=-1) + xp.sum(after[3], axis=-1)
        over = over | ~xp.isfinite(total + xp.sum(after[1] + after[2], axis=(-2, -1)))
        x, s, z, v = (
            xp.where(xp.reshape(over, over.shape + (1,) * (w.ndim - over.ndim)), old, w)
            for w, old in zip(after, (x, s, z, v), strict=True)
        )
        steps = steps + xp.astype(~over, self.q.dtype)
        done = done | self._fine(x, s, z, v)
        return _State(x, s, z, v, done, over | done, steps)

    def _factor(self, d: Any) -> Callable[[Any], Any]:
        factors, _ = self.algebra.factor(self.shifted + self.At @ (d[..., :, None] * self.A))
        return lambda v: self.algebra.substitute(factors, v[..., None])[..., 0]

    def _sides(self, r: Any) -> Any:
        return self.sign * r[..., None, :]

    def _residuals(self, x: Any, s: Any, z: Any, v: Any) -> _Residuals:
        xp = self.xp
        r, Px, Ay = _times(self.A, x), _times(self.P, x), _times(self.At, _balance(z) + v)
        sides = xp.where(self.finite, self._sides(r) + s - self.b, 0.0)
        equal = xp.where(self.equal, r - self.target, 0.0)
        reach = xp.maximum(self._norm(r), self._norm(xp.where(self.equal, self.target, 0.0)))
        slope = xp.maximum(xp.maximum(self._norm(Px), self._norm(Ay)), self._norm(self.q))
        cost = xp.abs(xp.sum(x * (0.5 * Px + self.q), axis=-1))
        return _Residuals(Px + self.q + Ay, sides, equal, reach, slope, cost)

    def _direction(
        self, solve: Callable[[Any], Any], left: _Residuals, s: Any, z: Any, rc: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Newton's, for s z to become s z - rc."""
        xp = self.xp
        push = _balance((z * left.sides - rc) / s) + left.equal / DELTA
        dx = solve(-(left.dual + _times(self.At, push)))
        move = _times(self.A, dx)
        ds = xp.where(self.finite, -left.sides - self._sides(move), 0.0)
        dz = xp.where(self.finite, -(rc + z * ds) / s, 0.0)
        return dx, ds, dz, xp.where(self.equal, (left.equal + move) / DELTA, 0.0)

    def _length(self, s: Any, z: Any, ds: Any, dz: Any) -> Any:
        """The longest step, up to 1, that keeps s and z from being negative."""
        xp = self.xp
        ratio = xp.maximum(-ds / s, -dz / xp.where(self.finite, z, 1.0))
        return 1.0 / xp.clip(self._norm(_flat(xp, xp.clip(ratio, min=0.0))), min=1.0)

    def _fine(self, x: Any, s: Any, z: Any, v: Any) -> Any:
        xp, left = self.xp, self._residuals(x, s, z, v)
        primal = xp.maximum(self._norm(left.equal), self._norm(_flat(xp, left.sides)))
        mu = xp.sum(s * z, axis=(-2, -1)) / self.count
        return (
            (primal <= self.tolerance * (1.0 + left.reach))
            & (self._norm(left.dual) <= self.tolerance * (1.0 + left.slope))
            & (mu <= self.tolerance * (1.0 + left.cost))
        )

    def _norm(self, v: Any) -> Any:
        return (self.xp.max if v.shape[-1] else self.xp.sum)(self.xp.abs(v), axis=-1)


def _times(matrix: Any, vector: Any) -> Any:
    return (matrix @ vector[..., None])[..., 0]


def _balance(sides: Any) -> Any:
    """Of the upper sides less that of the lower ones."""
    return sides[..., 0, :] - sides[..., 1, :]


def _flat(xp: Any, sides: Any) -> Any:
    return xp.reshape(sides, (*sides.shape[:-2], 2 * sides.shape[-1]))


class _Scaled(NamedTuple):
    data: tuple[Any, ...]
    columns: Any
    rows: Any
    cost: Any


def _scaled(xp: Any, P: Any, q: Any, A: Any, l: Any, u: Any) -> _Scaled:
    """The program in units in which rows, columns and costs are near 1."""
    columns, rows = xp.ones_like(q), xp.ones_like(l)
    absP, absA = xp.abs(P), xp.abs(A)
    for _ in range(ROUNDS):
        across = absA * rows[..., :, None] * columns[..., None, :]
        if A.shape[-2]:
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
    return _Scaled((P, q, A, b, finite, equal, sign), columns, rows, cost)


def _middle(xp: Any, b: Any, finite: Any) -> Any:
    """The middle of a row with two finite sides, the bound of one with one."""
    weight = xp.astype(finite, b.dtype)
    total = xp.sum(weight, axis=-2)
    signed = weight[..., 0, :] * b[..., 0, :] - weight[..., 1, :] * b[..., 1, :]
    return signed / xp.where(total > 0.0, total, 1.0)


def _root(xp: Any, values: Any) -> Any:
    return xp.sqrt(xp.where(values > 0.0, values, 1.0))
