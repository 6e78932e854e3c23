"""Symmetric systems K y = v, singular or not, by refinement with an approximate inverse of K.

Refinement with an inverse of K + eps is the proximal point method. From 0 it converges to the
solution of least norm, also where K is singular (dependent rows, a solution that is not unique).
Where K y = v has no solution, its residual converges to the part of v in the null space of K; with
that part taken off v, it converges to the least-squares solution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .._runtime.lazy import lazy
from .._types import Floats
from .factor import Rank

__all__ = ["PART", "PROVEN", "ROUGH", "SINGULAR", "TARGET", "Refined", "RefinedFactor", "norm"]


TARGET = 1e-13
"""Relative residual at which refinement ends."""

ROUGH = 1e-9
"""Relative residual at which it ends for an estimate, and above which there may be no solution."""

MORE = 2
"""Refinement steps beyond that, where one block of the residual is not small beside its terms."""

ROUNDS = 60
"""Refinement steps at most."""

APART = 1e3
"""Parts of a right-hand side whose sizes differ by more than this are solved for one by one."""

SINGULAR = 1e-7
"""A share of a random right-hand side above this that no solution explains is a null space."""

PROVEN = 1e-10
"""A vector of which the equilibrated matrix leaves no more than this share is in its null space."""

SHARPER = 3
"""Solves at most to make a vector of the null space one of nothing else."""

PART = 1e-5
"""A random right-hand side with no entry below this share of its size leaves no null space out."""


class Refined(ABC):
    """A system whose vectors y are those of x, ``n`` of them, and below them those of the rows.

    All in units in which the entries of K have size 1, times ``scale`` those of the program.
    """

    n: int
    scale: Floats

    @abstractmethod
    def times(self, y: Floats) -> Floats:
        """K y."""

    @abstractmethod
    def approximate(self, v: Floats) -> Floats:
        """About the solution for v, of K with a little more on the diagonal."""

    def solve(self, v: Floats, target: float) -> tuple[Floats, float]:
        """y, and the residual relative to v, which is that of least squares.

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
            candidate = y + self.approximate(r)
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


class RefinedFactor(ABC):
    """What `Factor` asks of an element with m rows, by a `Refined` system.

    The system has ``_equal`` equality rows. What there is to know of its null space, the entries
    ``_asked`` of right-hand sides tell.
    """

    m: int
    _equal: int
    _asked: slice | NDArray[np.bool_]
    _system: Refined

    @abstractmethod
    def _scaled(self, v_x: Floats, v_z: Floats) -> Floats:
        """The right-hand side of the system of cotangents (n,) and (m,)."""

    @abstractmethod
    def _unscaled(self, y: Floats) -> tuple[Floats, Floats]:
        """(w, zeta) of a vector of the system."""

    def solve(
        self, v_x: Floats, v_z: Floats, refine: bool = True, random: bool = False
    ) -> tuple[Floats, Floats, Floats]:
        """See `Factor`. Where ``random`` right-hand sides have a solution, there is no null space
        to look for."""
        columns, target = v_x.shape[1], TARGET if refine else ROUGH
        w, zeta = np.empty_like(v_x), np.empty((self.m, columns))
        residual = np.empty(columns)
        for j in range(columns):
            v = self._scaled(v_x[:, j], v_z[:, j])
            y, residual[j] = self._system.solve(v, target)
            if random and residual[j] <= ROUGH and np.abs(v[self._asked]).min() >= PART * norm(v):
                self._unexplained = 0.0, 0.0, np.zeros_like(v)
            w[:, j], zeta[:, j] = self._unscaled(y)
        return w, zeta, residual

    @property
    def rank(self) -> Rank:
        """As far as a random right-hand side shows it."""
        free, dependent, _ = self._unexplained
        return Rank(self._equal, int(dependent > SINGULAR), int(free > SINGULAR))

    def null(self) -> tuple[Floats, Floats]:
        """See `Factor`."""
        return self._unscaled(self._null_vector)

    @lazy
    def _unexplained(self) -> tuple[float, float, Floats]:
        """What no solution explains of a random vector: the shares of its x and its row part, and
        that itself."""
        probe, n = np.zeros(self._system.scale.size), self._system.n
        probe[self._asked] = _random(probe[self._asked].size)
        size = norm(probe)
        _, r, error = self._system.iterate(probe, size, SINGULAR)
        if error <= SINGULAR:
            return 0.0, 0.0, np.zeros_like(r)
        return norm(r[:n]) / size, norm(r[n:]) / size, r

    @lazy
    def _null_vector(self) -> Floats:
        """The random vector of the null space without what refinement has left of others in it."""
        r = self._unexplained[2]
        for _ in range(SHARPER):
            rest = self._system.times(r)
            size = norm(rest)
            if size <= TARGET * norm(r):
                break
            r = r - self._system.iterate(rest, size, TARGET)[0]
        return r


@lru_cache(maxsize=16)
def _random(size: int) -> Floats:
    values = np.random.default_rng(0).standard_normal(size)
    values.setflags(write=False)
    return values


def norm(v: Floats) -> float:
    """Without BLAS, whose threads cost more than they save on long vectors."""
    return float(np.sqrt(np.square(v).sum()))
