"""The canonical rows of dense programs l <= Ax <= u at points, on the arrays of any library."""

from __future__ import annotations

from typing import Any

from . import ghost, polyhedral

__all__ = ["Rows"]


class Rows:
    """The canonical rows (..., 2 m) of programs at points: all upper bounds, then all lower ones.

    Where l = u the upper one is the equality, and the other constrains nothing.
    """

    def __init__(self, xp: Any, eye: Any, p: Any, x: Any, y: Any) -> None:
        equal, product = p.l == p.u, ghost.times(p.A, x)
        squares = xp.sum(xp.square(p.A), axis=-1)
        squares = xp.where(squares == 0.0, 1.0, squares)
        b = _join(xp, p.u, xp.where(equal, xp.inf, -p.l))
        free, none = b == xp.inf, xp.zeros_like(equal)
        self.squares = _join(xp, squares, squares)
        self.norms = xp.sqrt(self.squares)
        self.equality, nonnegative = _join(xp, equal, none), _join(xp, ~equal, ~equal)
        self.bounds = nonnegative & ~free
        self.s = xp.where(free, xp.inf, b - _join(xp, product, -product))
        up, down = xp.where(equal | (y > 0.0), y, 0.0), xp.where(equal | (y > 0.0), 0.0, -y)
        self.z = _join(xp, up, down)
        distances = xp.where(xp.isfinite(b), xp.abs(b), 0.0) / self.norms
        diagonal = xp.sum(xp.where(eye != 0.0, p.P, 0.0), axis=-1)
        data = polyhedral.data_sizes(xp, distances, nonnegative, p.q, diagonal)
        sizes = (polyhedral.largest(xp, v) for v in (x, self.z * self.norms))
        self.scale = polyhedral.scales(xp, data, *sizes)


def _join(xp: Any, *vectors: Any) -> Any:
    return xp.concatenate(vectors, axis=-1)
