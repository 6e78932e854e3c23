"""The ghost rows of semidefinite cones by their eigenbasis, written out only where that is needed.

For matrices of order d there are some d^2 / 2 rows of d^2 / 2 numbers, and `eigenbasis` needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._cones import GhostRows, PSDCone
from .._runtime.lazy import lazy
from .._types import Floats

__all__ = ["EigenBlock"]


@dataclass(eq=False)
class EigenBlock:
    """What `Block` has, of ``count`` equal cones that start at canonical row ``start``.

    S - Z of each has the eigenvalues (B, count, d), ascending, and the eigenvectors
    (B, count, d, d); ``unit`` (B, count) is the curvature that counts as 1.
    """

    cone: PSDCone
    start: int
    count: int
    values: Floats
    vectors: Floats
    unit: Floats

    @property
    def dim(self) -> int:
        return self.cone.dim

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count * self.dim)

    def spectra(self, i: int) -> Iterator[tuple[Floats, Floats, float]]:
        """Eigenvalues, eigenvectors and unit of each cone of element ``i``."""
        for j in range(self.count):
            yield self.values[i, j], self.vectors[i, j], float(self.unit[i, j])

    @lazy
    def _ghost(self) -> GhostRows:
        d = self.cone.n
        return self.cone.rows(self.values.reshape(-1, d), self.vectors.reshape(-1, d, d), False)

    @lazy
    def G(self) -> Floats:
        """(B, count, g, dim)."""
        return self._ghost.G.reshape(*self.unit.shape, -1, self.dim)

    @lazy
    def has(self) -> NDArray[np.bool_]:
        """(B, count, g)."""
        return self._ghost.has.reshape(*self.unit.shape, -1)

    @lazy
    def R(self) -> Floats:
        """(B, count, r, dim)."""
        R = self._ghost.R.reshape(*self.unit.shape, -1, self.dim)
        return R * np.sqrt(self.unit)[..., None, None]

    @lazy
    def sigma(self) -> Floats:
        """(B, count, r)."""
        return self._ghost.sigma.reshape(*self.unit.shape, -1)
