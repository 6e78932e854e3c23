"""The curvature of the Lagrangian at a place: as a matrix, or as products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._runtime.lazy import lazy
from .._types import Floats
from . import differences
from .place import DENSE, Place

__all__ = ["Curvature"]


STEP = 4e-5
"""The largest change of u, relative to the size of u, that a difference takes where its error is
measured afterwards."""

CLOSE = 1e-5
"""The curvature of a place serves for one whose variables and multipliers differ by no more than
this, relatively: what that leaves is measured, and made up for."""


class Curvature:
    """H in the units of the place, along its free variables.

    Attributes
    ----------
    how
        ``"dense"``, ``"cg"`` or ``"exact"``: as a matrix of differences, by products with
        differences, by products with second derivatives.
    measured
        Whether the step of differences is that of a table in one direction, the one nearest to the
        extrapolated derivative: right also for functions that are noisy.
    """

    def __init__(
        self, place: Place, how: str, free: NDArray[np.bool_], measured: bool = True
    ) -> None:
        self.place, self.how, self.free, self.measured = place, how, free, measured

    def serves(self, place: Place, how: str, free: NDArray[np.bool_]) -> bool:
        """Whether it is, nearly, that of another place."""
        mine = self.place
        if how != self.how or place.scale is not mine.scale or (free != self.free).any():
            return False
        if (np.abs(place.y - mine.y) > CLOSE * place.reach * place.units).any():
            return False
        change = np.abs(place.weights - mine.weights)
        return bool((change <= CLOSE * np.abs(mine.weights[1:]).max(initial=0.0)).all())

    @lazy
    def step(self) -> float:
        """The largest change of u that a difference takes."""
        place = self.place
        if not self.measured:
            return STEP * place.reach
        if not self.free.any():
            return STEP
        at = differences.steps(1.0 / place.reach)[1:]
        moves = at[:, None] * np.where(self.free, place.units, 0.0)
        gradients = self._gradients(np.concatenate((place.y + moves, place.y - moves)))
        return differences.line_derivative(gradients * place.units, at)[2]

    def _gradients(self, y: Floats) -> Floats:
        """(k, n) of the Lagrangian at several points."""
        if self.place.n > 10 * DENSE:
            return np.stack([self.place.model.at(at, self.place.weights)[0] for at in y])
        return self.place.model.each(y, self.place.weights)[0]

    def product(self, u: Floats) -> Floats:
        """(n,) H u."""
        place = self.place
        size = float(np.abs(u).max(initial=0.0))
        if size == 0.0:
            return np.zeros_like(u)
        if self.how == "exact":
            product = place.model.along(place.y, place.weights, place.units * u)[0]
            return place.units * product
        if self.how == "dense" and not (u * ~self.free).any():
            return self.matrix @ u
        t = self.step / size
        move = t * place.units * u
        ahead, behind = (place.model.at(place.y + s * move, place.weights)[0] for s in (1, -1))
        return place.units * (ahead - behind) / (2.0 * t)

    @lazy
    def matrix(self) -> Floats:
        """(n, n) H with the columns of the free variables, 0 elsewhere."""
        place, free = self.place, self.free
        H = np.zeros((place.n, place.n))
        columns = np.flatnonzero(free)
        if not columns.size:
            return H
        if self.how == "exact":
            for j in columns:
                unit = np.zeros(place.n)
                unit[j] = place.units[j]
                H[:, j] = place.units * place.model.along(place.y, place.weights, unit)[0]
        else:
            moves = np.zeros((columns.size, place.n))
            moves[np.arange(columns.size), columns] = self.step * place.units[columns]
            gradients = self._gradients(np.concatenate((place.y + moves, place.y - moves)))
            ahead, behind = gradients[: columns.size], gradients[columns.size :]
            H[:, columns] = ((ahead - behind) * place.units / (2.0 * self.step)).T
        block = np.ix_(columns, columns)
        H[block] = 0.5 * (H[block] + H[block].T)
        return H
