"""The oracle of dense programs l <= Ax <= u on the arrays of any library.

For solvers whose solution never leaves a compiled function or a device. Everything is of one
program and in shapes that no value decides: all m rows are there whether they are active or not,
and of their two sides one at most. ``p`` has the arrays P, q, A, l and u; y > 0 pushes at u, y < 0
at l.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import ghost, polyhedral
from .ghost import Loops

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


class BoxGhost(NamedTuple):
    """The ghost system of a program at a point; harmless numbers where that is not ``solved``.

    ``active`` (m,) are the rows that hold and ``at_upper`` (m,) whether at u; K and its
    Moore-Penrose inverse are (n + m, n + m).
    """

    solved: Any
    p: Any
    x: Any
    y: Any
    active: Any
    at_upper: Any
    K: Any
    inverse: Any

    def solve(self, top: Any, bottom: Any) -> tuple[Any, Any]:
        """w (n,) and mu (m,), refined once; linear in both blocks, and ``bottom`` is 0 in rows that
        are not active."""
        n = top.shape[0]
        w, mu = self._times(top, bottom)
        C, D = self.K[n:, :n], self.K[n:, n:]
        left = top - self.K[:n, :n] @ w - C.T @ mu, bottom - C @ w - D @ mu
        dw, dmu = self._times(*left)
        return w + dw, mu + dmu

    def _times(self, top: Any, bottom: Any) -> tuple[Any, Any]:
        n, X = top.shape[0], self.inverse
        return X[:n, :n] @ top + X[:n, n:] @ bottom, X[n:, :n] @ top + X[n:, n:] @ bottom


class BoxOracle:
    """The oracle with the functions of an array namespace ``xp``, of float64, and its `Loops`."""

    def __init__(self, xp: Any, loops: Loops) -> None:
        self.xp, self.loops = xp, loops

    def convex(self, P: Any) -> Any:
        """Whether P is symmetric and positive semidefinite, up to rounding."""
        xp = self.xp
        size = polyhedral.largest(xp, xp.reshape(P, (-1,)))[0]
        symmetric = xp.all(xp.abs(P - P.T) <= ASYMMETRY * size)
        shift = INDEFINITE * xp.where(size == 0.0, 1.0, size)
        shifted = (P + P.T) / 2 + shift * xp.eye(P.shape[0])
        return symmetric & ghost.positive_definite(xp, self.loops, shifted)

    def signed(self, p: Any, y: Any) -> Any:
        """y without the signs that rows with one bound cannot have."""
        xp = self.xp
        y = xp.where(xp.isinf(p.l), xp.maximum(y, 0.0), y)
        return xp.where(xp.isinf(p.u), xp.minimum(y, 0.0), y)

    def residual(self, p: Any, x: Any, y: Any) -> Any:
        """The largest relative violation of the optimality conditions."""
        xp, rows = self.xp, _Rows(self.xp, p, x, y)
        left = polyhedral.largest(xp, p.P @ x + p.q + p.A.T @ y) / rows.scale.gradient
        s, z = rows.s / (rows.norms * rows.scale.primal), rows.z * rows.norms / rows.scale.gradient
        return polyhedral.residuals(xp, left, s, z, None, rows.bounds, rows.equality).kkt

    def ghost(self, p: Any, x: Any, y: Any) -> BoxGhost:
        """The ghost system at a point, which is not solved where that is not finite."""
        xp = self.xp
        solved = xp.all(xp.isfinite(x)) & xp.all(xp.isfinite(y))
        p = type(p)(*(xp.where(solved, v, 0.0) for v in (p.P, p.q, p.A, p.l, p.u)))
        x, y = (xp.where(solved, v, 0.0) for v in (x, y))
        active, at_upper = self._active(p, x, y)
        C = xp.where(active[:, None], p.A, 0.0)
        P = xp.where(solved, (p.P + p.P.T) / 2, xp.eye(x.shape[0]))
        K = ghost.matrix(xp, P, C, active)
        inverse = ghost.inverse(xp, self.loops, K)
        return BoxGhost(solved, p, x, y, active, at_upper, K, inverse)

    def tangents(self, at: BoxGhost, d: Any) -> tuple[Any, Any]:
        """dx (n,) and dy (m,) of tangents ``d`` of P, q, A, l and u; linear in these."""
        xp, x = self.xp, at.x
        bound = xp.where(at.active, xp.where(at.at_upper, d.u, d.l) - d.A @ x, 0.0)
        return at.solve(-((d.P + d.P.T) @ x / 2 + d.q + d.A.T @ at.y), bound)

    def polished(self, p: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """The best point of a few Newton steps on the optimality conditions from this one."""
        xp = self.xp

        def step(carry: Any) -> Any:
            count, x, y, _, best = carry
            at = self.ghost(p, x, y)
            y = xp.where(at.active, y, 0.0)
            gap = xp.where(at.active, xp.where(at.at_upper, p.u, p.l) - p.A @ x, 0.0)
            dx, dy = at.solve(-(p.P @ x + p.q + p.A.T @ y), gap)
            x, y = x + dx, self.signed(p, y + dy)
            residual = self.residual(p, x, y)
            better, new = residual < best[2], (x, y, residual)
            best = tuple(xp.where(better, v, old) for v, old in zip(new, best, strict=True))
            return count + 1, x, y, residual, best

        def goes_on(carry: Any) -> Any:
            count, _, _, residual, best = carry
            return (count < ROUNDS) & (best[2] > ENOUGH) & xp.isfinite(residual)

        residual = self.residual(p, x, y)
        start = (xp.asarray(0), x, y, residual, (x, y, residual))
        x, y, _ = self.loops.until(goes_on, step, start)[-1]
        return x, y

    def _active(self, p: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Which rows hold (m,), and whether at their upper bound."""
        rows = _Rows(self.xp, p, x, y)
        given = rows.s, rows.z, rows.squares, rows.scale, rows.equality
        sides, m = polyhedral.active_rows(self.xp, *given), y.shape[0]
        upper, lower, equal = sides[:m], sides[m:], p.l == p.u
        return upper | lower, self.xp.where(upper & lower | equal, y >= 0.0, upper)


class _Rows:
    """The canonical rows (2 m,) of a program at a point: all upper bounds, then all lower ones.

    Where l = u the upper one is the equality, and the other constrains nothing.
    """

    def __init__(self, xp: Any, p: Any, x: Any, y: Any) -> None:
        equal, product = p.l == p.u, p.A @ x
        squares = xp.sum(xp.square(p.A), axis=-1)
        squares = xp.where(squares == 0.0, 1.0, squares)
        b = xp.concatenate((p.u, xp.where(equal, xp.inf, -p.l)))
        free, none = b == xp.inf, xp.zeros_like(equal)
        self.squares = xp.concatenate((squares, squares))
        self.norms = xp.sqrt(self.squares)
        self.equality, nonnegative = xp.concatenate((equal, none)), xp.concatenate((~equal, ~equal))
        self.bounds = nonnegative & ~free
        self.s = xp.where(free, xp.inf, b - xp.concatenate((product, -product)))
        sides = xp.where(equal, y, xp.maximum(y, 0.0)), xp.where(equal, 0.0, xp.maximum(-y, 0.0))
        self.z = xp.concatenate(sides)
        distances = xp.where(xp.isfinite(b), xp.abs(b), 0.0) / self.norms
        data = polyhedral.data_sizes(xp, distances, nonnegative, p.q, xp.diagonal(p.P))
        sizes = (polyhedral.largest(xp, v) for v in (x, self.z * self.norms))
        self.scale = polyhedral.scales(xp, data, *sizes)
