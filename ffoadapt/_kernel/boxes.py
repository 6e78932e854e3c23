"""The oracle of dense programs l <= Ax <= u on the arrays of any library.

For solvers whose solution never leaves a compiled function or a device. Arrays may have batch axes
in front, and shapes are such that no value decides one: all m rows are there whether they are
active or not, and of their two sides one at most. ``p`` has the arrays P, q, A, l and u; y > 0
pushes at u, y < 0 at l.

A ghost system (`ghost`) is solved by one Cholesky factorization, of size n, of

    H = P + rho I + C'C/delta,

in units in which rows and columns are near 1, by proximal steps on its two blocks that take rho and
delta out again (R. T. Rockafellar, Augmented Lagrangians and applications of the proximal point
algorithm in convex programming, Math. Oper. Res. 1 (1976)). They converge fast exactly where the
system is far from singular; a right-hand side with a share in every direction tells. The others
are inverted as a whole, by elimination that decides on their rank.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import ghost, polyhedral
from .algebra import Algebra
from .box_rows import Rows

__all__ = ["ASYMMETRY", "ENOUGH", "INDEFINITE", "BoxGhost", "BoxOracle"]

ROUNDS = 4
"""Polishing takes so many steps at most."""

ENOUGH = 1e-11
"""Polyhedral points below this relative KKT residual stay as they are: their gradient hardly
depends on the point."""

INDEFINITE = 1e-8
"""P plus this share of its diagonal, or of its largest entry, must be positive definite, where
rounding of its numbers allows no more."""

ASYMMETRY = 1e-5
"""P may differ from its transpose by this share of its largest entry; float32 products come out at
1e-7."""

RHO, DELTA = 1e-10, 1e-7
"""The proximal terms, beside entries near 1."""

STEPS = 4
"""Proximal steps of a solve; each takes a share of rho or delta from the error."""

REGULAR = 1e-9
"""A system of which the steps leave a residual above this share of the right-hand side is nearly
singular."""

SCALINGS = 3
"""Rounds of scaling of rows and columns."""


class BoxGhost(NamedTuple):
    """The ghost systems of programs at points; harmless numbers where one is not ``solved`` (...).

    ``active`` (..., m) are the rows that hold, C (..., m, n), and ``at_upper`` (..., m) whether at
    u. ``columns`` (..., n), ``rows`` (..., m) and ``cost`` (..., 1) are the units, ``factors``
    those of H. Where the systems are not ``regular`` (...), ``inverse`` (..., n + m, n + m) is
    Moore's and Penrose's, and 0 elsewhere; None where it was not asked for.
    """

    solved: Any
    p: Any
    x: Any
    y: Any
    active: Any
    at_upper: Any
    C: Any
    columns: Any
    rows: Any
    cost: Any
    factors: Any
    regular: Any
    inverse: Any


class BoxOracle:
    """The oracle with the `Algebra` of a library."""

    def __init__(self, algebra: Algebra) -> None:
        self.algebra, self.xp = algebra, algebra.xp

    def convex(self, P: Any) -> Any:
        """Whether P (..., n, n) is symmetric and positive semidefinite, up to rounding."""
        xp, turned = self.xp, self.xp.swapaxes(P, -1, -2)
        size = polyhedral.largest(xp, polyhedral.largest(xp, P)[..., 0])[..., None]
        symmetric = xp.all(xp.all(xp.abs(P - turned) <= ASYMMETRY * size, axis=-1), axis=-1)
        shift = INDEFINITE * xp.where(size == 0.0, 1.0, size)
        return symmetric & self.algebra.factor((P + turned) / 2 + shift * self.algebra.eye(P))[1]

    def signed(self, p: Any, y: Any) -> Any:
        """y without the signs that rows with one bound cannot have."""
        xp = self.xp
        y = xp.where(xp.isinf(p.l) & (y < 0.0), 0.0, y)
        return xp.where(xp.isinf(p.u) & (y > 0.0), 0.0, y)

    def measured(self, p: Any, x: Any, y: Any) -> polyhedral.Residuals:
        """Largest relative violations of the optimality conditions, and the least margin, (...)."""
        xp, rows = self.xp, self._rows(p, x, y)
        left = ghost.times(p.P, x) + p.q + self._up(p.A, y)
        stationarity = polyhedral.largest(xp, left) / rows.scale.gradient
        s, z = rows.s / (rows.norms * rows.scale.primal), rows.z * rows.norms / rows.scale.gradient
        return polyhedral.residuals(xp, stationarity, s, z, None, rows.bounds, rows.equality)

    def residual(self, p: Any, x: Any, y: Any) -> Any:
        """The largest relative violation of the optimality conditions."""
        return self.measured(p, x, y).kkt

    def active(self, p: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Which rows hold (..., m), and whether at their upper bound."""
        rows, m = self._rows(p, x, y), y.shape[-1]
        given = rows.s, rows.z, rows.squares, rows.scale, rows.equality
        sides = polyhedral.active_rows(self.xp, *given)
        upper, lower, equal = sides[..., :m], sides[..., m:], p.l == p.u
        return upper | lower, self.xp.where(upper & lower | equal, y >= 0.0, upper)

    def ghost(self, p: Any, x: Any, y: Any) -> BoxGhost:
        """The ghost systems at points, which are not solved where these are not finite."""
        return self.complete(self.placed(p, x, y))

    def placed(self, p: Any, x: Any, y: Any) -> BoxGhost:
        """`ghost` without the inverses of systems that are not regular; see `complete`."""
        xp = self.xp
        solved = xp.all(xp.isfinite(x), axis=-1) & xp.all(xp.isfinite(y), axis=-1)
        x, y = (xp.where(solved[..., None], v, 0.0) for v in (x, y))
        P, A = (xp.where(solved[..., None, None], v, 0.0) for v in (p.P, p.A))
        q, l, u = (xp.where(solved[..., None], v, 0.0) for v in (p.q, p.l, p.u))
        p = type(p)(P, q, A, l, u)
        active, at_upper = self.active(p, x, y)
        return self.system(solved, p, x, y, active, at_upper)

    def system(self, solved: Any, p: Any, x: Any, y: Any, active: Any, at_upper: Any) -> BoxGhost:
        """The ghost systems of solutions with these active rows, not yet inverted anywhere."""
        xp, algebra = self.xp, self.algebra
        C = xp.where(active[..., None], p.A, 0.0)
        P = xp.where(solved[..., None, None], (p.P + xp.swapaxes(p.P, -1, -2)) / 2, algebra.eye(x))
        columns, rows, cost = self._units(P, C)
        scaled = _scaled(P, rows, columns, C, cost)
        H = scaled[0] + RHO * algebra.eye(x) + xp.swapaxes(scaled[1], -1, -2) @ scaled[1] / DELTA
        factors, fine = algebra.factor(H)
        p = type(p)(P, p.q, p.A, p.l, p.u)
        at = BoxGhost(
            solved, p, x, y, active, at_upper, C, columns, rows, cost, factors, fine, None
        )
        k = algebra.numbers(columns), algebra.numbers(rows)
        top, bottom = xp.cos(1.0 + 0.7 * k[0] ** 2) + 0.0 * x, xp.sin(2.0 + 0.6 * k[1] ** 2)
        given = top[..., None], xp.where(active, bottom, 0.0)[..., None]
        w, mu = self._steps(factors, *scaled, *given)
        left = _left(xp, *scaled, *given, w, mu)
        size = xp.maximum(*(polyhedral.largest(xp, v[..., 0])[..., 0] for v in left))
        return at._replace(regular=fine & (size <= REGULAR) | ~solved)

    def complete(self, at: BoxGhost) -> BoxGhost:
        """The systems with inverses where they are not regular."""
        xp, eye = self.xp, self.algebra.eye(at.y)
        K = ghost.matrix(xp, at.p.P, at.C, at.active, eye)

        def inverted(K: Any) -> Any:
            return ghost.inverse(self.algebra, K)

        return at._replace(inverse=self.algebra.seldom(~at.regular, inverted, (K,), 0.0 * K))

    def solve(self, at: BoxGhost, top: Any, bottom: Any) -> tuple[Any, Any]:
        """w (..., n) and mu (..., m); linear in both blocks, and ``bottom`` is 0 in rows that are
        not active."""
        w, mu = self.solve_columns(at, top[..., None], bottom[..., None])
        return w[..., 0], mu[..., 0]

    def solve_columns(self, at: BoxGhost, top: Any, bottom: Any) -> tuple[Any, Any]:
        """`solve` for several right-hand sides: (..., n, k) and (..., m, k)."""
        xp, c, r = self.xp, at.columns[..., :, None], at.rows[..., :, None]
        cost = at.cost[..., None]
        scaled = _scaled(at.p.P, at.rows, at.columns, at.C, at.cost)
        w, mu = self._steps(at.factors, *scaled, c * top / cost, r * bottom)
        w, mu = c * w, r * mu * cost
        if at.inverse is None:
            return w, mu
        n, X, regular = top.shape[-2], at.inverse, at.regular[..., None, None]
        v, u = _applied(X, n, top, bottom)
        up, gone = xp.swapaxes(at.C, -1, -2), xp.where(at.active[..., None], 0.0, u)
        dv, du = _applied(X, n, top - at.p.P @ v - up @ u, bottom - at.C @ v + gone)
        return xp.where(regular, w, v + dv), xp.where(regular, mu, u + du)

    def tangents(self, at: BoxGhost, d: Any) -> tuple[Any, Any]:
        """dx (..., n) and dy (..., m) of tangents ``d`` of P, q, A, l and u; linear in these."""
        xp, x = self.xp, at.x
        moved = xp.where(at.at_upper, d.u, d.l) - ghost.times(d.A, x)
        top = ghost.times(d.P + xp.swapaxes(d.P, -1, -2), x) / 2 + d.q + self._up(d.A, at.y)
        return self.solve(at, -top, xp.where(at.active, moved, 0.0))

    def polished(self, p: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """The best point of a few Newton steps on the optimality conditions from this one."""
        xp = self.xp
        every = xp.all(xp.isfinite(x), axis=-1)

        def step(carry: Any) -> Any:
            x, y, _, best = carry
            active, at_upper = self.active(p, x, y)
            at = self.system(every, p, x, y, active, at_upper)
            y = xp.where(active, y, 0.0)
            gap = xp.where(active, xp.where(at_upper, p.u, p.l) - ghost.times(p.A, x), 0.0)
            dx, dy = self.solve(at, -(ghost.times(p.P, x) + p.q + self._up(p.A, y)), gap)
            x, y = x + dx, self.signed(p, y + dy)
            residual = self.residual(p, x, y)
            better = (residual < best[2]) & (best[2] > ENOUGH)
            new = x, y, residual
            best = tuple(
                xp.where(better if k == 2 else better[..., None], v, old)
                for k, (v, old) in enumerate(zip(new, best, strict=True))
            )
            return x, y, residual, best

        def goes_on(carry: Any) -> Any:
            _, _, residual, best = carry
            return (best[2] > ENOUGH) & xp.isfinite(residual)

        residual = self.residual(p, x, y)
        start = (x, y, residual, (x, y, residual))
        x, y, _ = self.algebra.until(goes_on, step, start, ROUNDS)[-1]
        return x, y

    def _steps(self, factors: Any, P: Any, C: Any, top: Any, bottom: Any) -> tuple[Any, Any]:
        """The scaled system solved by proximal steps, columns; linear in both blocks."""
        up, w, mu = self.xp.swapaxes(C, -1, -2), None, None
        for _ in range(STEPS):
            left = (top, bottom) if w is None else _left(self.xp, P, C, top, bottom, w, mu)
            dw = self.algebra.substitute(factors, left[0] + up @ left[1] / DELTA)
            dmu = (C @ dw - left[1]) / DELTA
            w, mu = (dw, dmu) if w is None else (w + dw, mu + dmu)
        return w, mu

    def _units(self, P: Any, C: Any) -> tuple[Any, Any, Any]:
        """Units of columns (..., n), rows (..., m) and cost (..., 1), in which entries are near 1
        at most."""
        xp, absP, absC = self.xp, self.xp.abs(P), self.xp.abs(C)
        columns, rows = xp.ones_like(P[..., 0]), xp.ones_like(C[..., 0])
        for _ in range(SCALINGS):
            across = absC * rows[..., :, None] * columns[..., None, :]
            curved = xp.max(absP * columns[..., :, None] * columns[..., None, :], axis=-2)
            if C.shape[-2]:
                rows = rows / xp.sqrt(_or_one(xp, xp.max(across, axis=-1)))
                curved = xp.maximum(curved, xp.max(across, axis=-2))
            columns = columns / xp.sqrt(_or_one(xp, curved))
        curved = xp.max(absP * columns[..., :, None] * columns[..., None, :], axis=-2)
        return columns, rows, _or_one(xp, polyhedral.largest(xp, curved))

    def _rows(self, p: Any, x: Any, y: Any) -> Rows:
        return Rows(self.xp, self.algebra.eye(x), p, x, y)

    def _up(self, A: Any, y: Any) -> Any:
        return ghost.times(self.xp.swapaxes(A, -1, -2), y)


def _scaled(P: Any, rows: Any, columns: Any, C: Any, cost: Any) -> tuple[Any, Any]:
    """P and C in their units."""
    across = columns[..., None, :]
    return P * columns[..., :, None] * across / cost[..., None], C * rows[..., :, None] * across


def _left(xp: Any, P: Any, C: Any, top: Any, bottom: Any, w: Any, mu: Any) -> tuple[Any, Any]:
    """The residual of a system whose rows that are not active are 0."""
    return top - P @ w - xp.swapaxes(C, -1, -2) @ mu, bottom - C @ w


def _applied(X: Any, n: int, top: Any, bottom: Any) -> tuple[Any, Any]:
    above = X[..., :n, :n] @ top + X[..., :n, n:] @ bottom
    return above, X[..., n:, :n] @ top + X[..., n:, n:] @ bottom


def _or_one(xp: Any, values: Any) -> Any:
    return xp.where(values == 0.0, 1.0, values)
