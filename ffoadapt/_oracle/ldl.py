"""Symmetric indefinite systems K y = v, singular or not, by sparse LDL' and refinement.

    [ P   C' ]     equilibrated (Ruiz), regularized by +eps / -eps so that LDL' exists for any
    [ C  -D  ]     order, then refined against the unregularized matrix K.

Refinement with a regularized factor is the proximal point method. From 0 it converges to the
solution of least norm, also where K is singular (dependent rows, a solution that is not unique).
Where K y = v has no solution, its residual converges to the part of v in the null space of K; with
that part taken off v, it converges to the least-squares solution. All in equilibrated units.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .. import _kernel
from .._types import Floats
from .workspace import Lease, Workspace

__all__ = ["ROUGH", "TARGET", "RefinedLDL", "norm"]


REGULARIZATION = (1e-8, 1e-6, 1e-4)
"""Tried in this order, relative to the equilibrated entries, until LDL' exists."""

TARGET = 1e-13
"""Relative residual at which refinement ends."""

ROUGH = 1e-9
"""Relative residual at which it ends for an estimate, and above which there may be no solution."""

MORE = 2
"""Refinement steps beyond that, where one block of the residual is not small beside its terms."""

ROUNDS = 60
"""Refinement steps at most."""

REUSED = 1e-12
"""Where a nearby factor leaves more than this relative residual, the system gets its own."""

NEAR = 2.0
"""Equilibration ends where the largest entries of all rows are within this factor of 1."""

APART = 1e3
"""Parts of a right-hand side whose sizes differ by more than this are solved for one by one."""


class RefinedLDL:
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

    def solve(self, v: Floats, target: float) -> tuple[Floats, float]:
        """y, and the residual relative to v, which is that of least squares."""
        y, residual = self._in_parts(v, target)
        if residual > max(target, REUSED) and not self._sure:
            self._factorize(afresh=True)
            y, residual = self._in_parts(v, target)
        return y, residual

    def _in_parts(self, v: Floats, target: float) -> tuple[Floats, float]:
        """The solution and its residual.

        The x part and the row part of v have units of their own, and equilibration need not bring
        them to one size: a part that would be rounding beside the other is solved for by itself.
        """
        above, below = v.copy(), v.copy()
        above[self.n :] = below[: self.n] = 0.0
        sizes = norm(above), norm(below)
        if max(sizes) > APART * min(sizes) > 0.0:
            parts = (above, sizes[0]), (below, sizes[1])
            (y, error), (more, rest) = (self._least(*part, target) for part in parts)
            return y + more, max(error, rest)
        return self._least(v, float(np.hypot(*sizes)), target)

    def _least(self, v: Floats, size: float, target: float) -> tuple[Floats, float]:
        if size == 0.0:
            return np.zeros_like(v), 0.0
        y, r, error = self.iterate(v, size, target)
        if error <= ROUGH:
            return y, error
        # No solution, or a very slow one: what does not go away is (nearly) in the null space.
        y, _, rest = self.iterate(v - r, size, target)
        return (y, max(error, rest)) if np.isfinite(y).all() else (np.zeros_like(v), 1.0)

    def iterate(self, v: Floats, size: float, target: float) -> tuple[Floats, Floats, float]:
        """y, the residual r = v - Ky, and |r| / ``size``, which is |v|."""
        y = np.zeros_like(v)
        r, error = v, norm(v) / size
        slow, more = 0, MORE if target <= TARGET else 0
        for _ in range(ROUNDS):
            if slow > 5:
                break
            if error <= target:
                if not more or self._even(v, y, r):
                    break
                more -= 1
            candidate = y + self._lease.solve(r)
            rest = v - self.times(candidate)
            smaller = norm(rest) / size
            if not smaller < max(error, TARGET):
                break
            slow = slow + 1 if smaller > 0.9 * error else 0
            y, r, error = candidate, rest, smaller
        return y, r, error

    def _even(self, v: Floats, y: Floats, r: Floats) -> bool:
        """Whether both blocks of the residual r are small beside their own terms.

        At the vertex of a linear program w should be 0, and is all rounding beside mu at first.
        """
        n = self.n
        x, mu = norm(y[:n]), norm(y[n:])
        upper, lower = norm(v[:n]) + x + mu, norm(v[n:]) + x
        return norm(r[:n]) <= TARGET * upper and norm(r[n:]) <= TARGET * lower


def norm(v: Floats) -> float:
    """Without BLAS, whose threads cost more than they save on long vectors."""
    return float(np.sqrt(np.square(v).sum()))


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
