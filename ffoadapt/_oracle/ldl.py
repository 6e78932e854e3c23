"""Symmetric indefinite systems K y = v, singular or not, by sparse LDL' and refinement.

    [ P   C' ]     equilibrated (Ruiz), regularized by +eps / -eps so that LDL' exists for any
    [ C  -D  ]     order, then refined against the unregularized matrix K.

See `refinement`. All in equilibrated units.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .. import _kernel
from .._types import Floats
from .refinement import Refined
from .workspace import Lease, Workspace

__all__ = ["RefinedLDL"]


REGULARIZATION = (1e-8, 1e-6, 1e-4)
"""Tried in this order, relative to the equilibrated entries, until LDL' exists."""

REUSED = 1e-12
"""Where a nearby factor leaves more than this relative residual, the system gets its own."""

NEAR = 2.0
"""Equilibration ends where the largest entries of all rows are within this factor of 1."""


class RefinedLDL(Refined):
    """A factorization of K for P (n, n), and C in a pattern that the ``key`` stands for.

    Attributes
    ----------
    scale
        The equilibration d: the factor is one of diag(d) K diag(d), in whose units all vectors are.
    """

    def __init__(
        self,
        key: Hashable,
        make: Callable[[], Workspace],
        P: Any,
        C: Callable[[Workspace], Floats],
        D: tuple[Floats, Floats],
        near: RefinedLDL | None,
    ) -> None:
        """``make`` gives the `Workspace` of a key that is new, and C its values in one, by rows.

        D are the diagonals added to P and subtracted below. ``near`` factorizes a nearby matrix:
        where the key is the same, refinement with its factor solves this one too, and only where
        that fails is there another factorization.
        """
        self.n, self._P, self._key, self._make = P.shape[0], P, key, make
        self._shared = near is not None and near._key == key
        self._lease: Lease = near._lease if near and self._shared else Lease(key, make)
        n, space = self.n, self._lease.space
        values, (above, below) = C(space), D
        # A concave direction (below 0) makes a positive pivot.
        self._signs = np.concatenate((np.ones(n), np.where(below < 0.0, 1.0, -1.0)))
        self._D = np.concatenate((above, -below))
        diagonal = self._D.copy()
        diagonal[:n] += P.diagonal()
        self._data = space.filled(P.data, values)
        if near and self._shared:
            self.scale: Floats = near.scale
        else:
            self.scale = _equilibrate(space, self._data, diagonal, _units(P.data, values))
        space.scaled(self._data, self.scale)
        self._diagonal = diagonal * self.scale**2
        self._D *= self.scale**2
        self._below, self.below = space.below(self._data)
        self._sure = False
        if not self._shared:
            self._factorize()

    def _factorize(self, afresh: bool = False) -> None:
        """LDL' of this very matrix, in a workspace of its own.

        Once there is a factor, another thread may be solving with it: nothing that it reads moves.
        """
        lease = Lease(self._key, self._make) if self._shared else self._lease
        data, last, failure = self._data.copy(), lease.space.last, None
        for shift in REGULARIZATION:
            data[last] = self._diagonal + shift * self._signs
            try:
                lease.factorize(data, afresh)
                break
            except RuntimeError as error:
                failure = error
        else:
            assert failure is not None
            raise failure
        self._lease, self._shared, self._sure = lease, False, afresh

    def times(self, y: Floats) -> Floats:
        """The equilibrated matrix times y."""
        n, d = self.n, self.scale[: self.n]
        product: Floats = self._D * y
        product += self._below @ y[n:]
        product[:n] += d * (self._P @ (d * y[:n]))
        product[n:] += self.below @ y
        return product

    def approximate(self, v: Floats) -> Floats:
        """By the factor of the regularized matrix."""
        return self._lease.solve(v)

    def solve(self, v: Floats, target: float) -> tuple[Floats, float]:
        """See `Refined.solve`; where a nearby factor does not do, with one of this matrix."""
        y, residual = super().solve(v, target)
        if residual > max(target, REUSED) and not self._sure:
            self._factorize(afresh=True)
            y, residual = super().solve(v, target)
        return y, residual


def _units(P: Floats, C: Floats) -> tuple[float, float]:
    """Units of x and of the rows in which P, and then C, have size 1."""
    curvature, steepness = (float(np.abs(v).max(initial=0.0)) for v in (P, C))
    x = 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0
    return x, 1.0 / (steepness * x) if steepness > 0.0 else 1.0


def _equilibrate(
    space: Workspace, data: Floats, diagonal: Floats, start: tuple[float, float], rounds: int = 10
) -> Floats:
    """Symmetric Ruiz scaling of the triangle in a workspace with these entries and this diagonal:
    the largest entries of all rows are within a factor of 4 of 1.

    It starts from `_units`. Without these the rows alone could make every largest entry 1, and P,
    in far smaller units, would drown in the regularization. Powers of 2, which scale without
    rounding.
    """
    scale = np.repeat(start, (space.n, diagonal.size - space.n))
    magnitudes = np.abs(data)
    magnitudes[space.last] = np.abs(diagonal)
    space.scaled(magnitudes, scale)
    upper = space.upper.indptr, space.upper.indices
    _kernel.kernel.equilibrate(rounds, NEAR, *upper, magnitudes, scale)
    powers: Floats = np.exp2(np.round(np.log2(scale)))
    return powers
