"""The ghost KKT system of one element by sparse LDL'.

    [ P     (GA)'  (RA)'     ]
    [ GA     0      0        ]   equilibrated (Ruiz), regularized by +eps / -eps so that LDL' exists
    [ RA     0   -diag(sigma)]   for any order, then refined against the unregularized matrix K.

Refinement with a regularized factor is the proximal point method. From 0 it converges to the
solution of least norm, also where K is singular (dependent rows, a solution that is not unique).
Where K w = v has no solution, its residual converges to the part of v in the null space of K; with
that part taken off v, it converges to the least-squares solution. All in equilibrated units.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import qdldl
from numpy.typing import NDArray
from scipy import sparse

from .dense import GhostSolve
from .rows import ElementRows

__all__ = ["SparseFactor"]

Floats = NDArray[np.float64]

REGULARIZATION = (1e-8, 1e-6, 1e-4)
"""Tried in this order, relative to the equilibrated entries, until LDL' exists."""

TARGET = 1e-13
"""Relative residual at which refinement ends."""

MORE = 2
"""Refinement steps beyond that, where one block of the residual is not small beside its terms."""

SINGULAR = 1e-7
"""A share of a random right-hand side above this that no solution explains is a null space."""

ROUNDS = 60
"""Refinement steps at most."""

APART = 1e3
"""Parts of a right-hand side whose sizes differ by more than this are solved for one by one."""


class SparseFactor:
    """A factorization that serves any number of right-hand sides; attributes as `DenseFactor`."""

    def __init__(self, P: Any, A: Any, rows: ElementRows) -> None:
        n, m = A.shape[1], A.shape[0]
        self.n, self.m = n, m
        self.G = G = rows.sparse_G(m)
        self.R, sigma = rows.sparse_R(m) if rows.curved else (sparse.csr_matrix((0, m)), _NONE)
        self.active = G.shape[0]
        constraints = sparse.vstack([G @ A, self.R @ A], format="csc")
        bottom = sparse.diags_array(np.concatenate((np.zeros(self.active), -sigma)))
        K = sparse.csc_matrix(sparse.bmat([[P, constraints.T], [constraints, bottom]]))
        self.scale = _equilibrate(K, n)
        columns = np.repeat(np.arange(K.shape[1]), np.diff(K.indptr))
        K.data *= self.scale[K.indices] * self.scale[columns]
        self.K = K
        # A sigma of -1 (a cone's concave direction) makes a positive pivot.
        signs = np.concatenate((np.ones(n), -np.ones(self.active), np.where(sigma < 0, 1.0, -1.0)))
        self._ldl = _factorize(K, signs)

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> GhostSolve:
        """w and zeta for cotangents v_x (n, K) and v_z (m, K); always refined."""
        columns = v_x.shape[1]
        w = np.empty_like(v_x)
        zeta = np.empty((self.m, columns))
        residual = np.empty(columns)
        for j in range(columns):
            v = np.concatenate((v_x[:, j], self.G @ v_z[:, j], self.R @ v_z[:, j]))
            y, residual[j] = self._refined(self.scale * v)
            y *= self.scale
            w[:, j] = y[: self.n]
            mu, rho = y[self.n : self.n + self.active], y[self.n + self.active :]
            zeta[:, j] = self.G.T @ mu + self.R.T @ rho
        return GhostSolve(w, zeta, residual)

    def null(self) -> tuple[Floats, Floats]:
        """(w, zeta) of a random vector of the null space of the ghost KKT matrix."""
        y = self.scale * self._null[2]
        mu, rho = y[self.n : self.n + self.active], y[self.n + self.active :]
        return y[: self.n], self.G.T @ mu + self.R.T @ rho

    @cached_property
    def _null(self) -> tuple[float, float, Floats]:
        """A random vector's share of the null space, and the sizes of its x and its row part."""
        probe = np.random.default_rng(0).standard_normal(self.K.shape[0])
        probe[self.n + self.active :] = 0.0
        size = _norm(probe)
        _, r, error = self._iterate(probe, size)
        if error <= SINGULAR:
            return 0.0, 0.0, np.zeros_like(r)
        return _norm(r[: self.n]) / size, _norm(r[self.n :]) / size, r

    @property
    def dependent(self) -> int:
        """1 if active rows depend on others: a lower bound of how many."""
        return int(self._null[1] > SINGULAR)

    @property
    def free(self) -> int:
        """1 if x is not determined in some direction: a lower bound of how many."""
        return int(self._null[0] > SINGULAR)

    def _refined(self, v: Floats) -> tuple[Floats, float]:
        """The solution and its residual relative to v, which is that of least squares.

        The x part and the row part of v have units of their own, and equilibration need not bring
        them to one size: a part that would be rounding beside the other is solved for by itself.
        """
        above, below = v.copy(), v.copy()
        above[self.n :] = below[: self.n] = 0.0
        sizes = _norm(above), _norm(below)
        if max(sizes) > APART * min(sizes) > 0.0:
            (y, error), (more, rest) = self._least(above, sizes[0]), self._least(below, sizes[1])
            return y + more, max(error, rest)
        return self._least(v, float(np.hypot(*sizes)))

    def _least(self, v: Floats, size: float) -> tuple[Floats, float]:
        if size == 0.0:
            return np.zeros_like(v), 0.0
        y, r, error = self._iterate(v, size)
        if error <= SINGULAR * 1e-2:
            return y, error
        # No solution, or a very slow one: what does not go away is (nearly) in the null space.
        y, _, rest = self._iterate(v - r, size)
        return (y, max(error, rest)) if np.isfinite(y).all() else (np.zeros_like(v), 1.0)

    def _iterate(self, v: Floats, size: float) -> tuple[Floats, Floats, float]:
        y = np.zeros_like(v)
        r, error = v, _norm(v) / size
        slow, more = 0, MORE
        for _ in range(ROUNDS):
            if slow > 5:
                break
            if error <= TARGET:
                if not more or self._even(v, y, r):
                    break
                more -= 1
            candidate = y + self._ldl.solve(r)
            rest = v - self.K @ candidate
            found = _norm(rest) / size
            if not found < max(error, TARGET):
                break
            slow = slow + 1 if found > 0.9 * error else 0
            y, r, error = candidate, rest, found
        return y, r, error

    def _even(self, v: Floats, y: Floats, r: Floats) -> bool:
        """Whether both blocks of the residual r are small beside their own terms.

        At the vertex of a linear program w should be 0, and is all rounding beside mu at first.
        """
        n = self.n
        x, mu = _norm(y[:n]), _norm(y[n:])
        upper, lower = _norm(v[:n]) + x + mu, _norm(v[n:]) + x
        return _norm(r[:n]) <= TARGET * upper and _norm(r[n:]) <= TARGET * lower


def _norm(v: Floats) -> float:
    """Without BLAS, whose threads cost more than they save on long vectors."""
    return float(np.sqrt(np.square(v).sum()))


_NONE: Floats = np.zeros(0)


def _factorize(K: Any, signs: Floats) -> Any:
    for size in REGULARIZATION:
        try:
            shifted = sparse.csc_matrix(K + sparse.diags_array(size * signs))
            return qdldl.Solver(shifted)
        except RuntimeError as error:
            failure = error
    raise failure


def _equilibrate(K: Any, n: int, rounds: int = 10) -> Floats:
    """Symmetric Ruiz scaling d with the rows of diag(d) |K| diag(d) of largest entry near 1.

    It starts from units in which P, and then the rows below it, have size 1. Without these the
    rows alone could make every largest entry 1, and P, in far smaller units, would drown in the
    regularization.
    """
    magnitude = np.abs(K.data)
    columns = np.repeat(np.arange(K.shape[1]), np.diff(K.indptr))
    filled = np.flatnonzero(np.diff(K.indptr))
    starts = K.indptr[:-1][filled]
    scale = np.ones(K.shape[0])
    left, below = columns < n, K.indices >= n
    curvature = float(magnitude[left & ~below].max(initial=0.0))
    scale[:n] = 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0
    steepness = float(magnitude[left & below].max(initial=0.0)) * scale[:1].sum()
    scale[n:] = 1.0 / steepness if steepness > 0.0 else 1.0
    for _ in range(rounds):
        entries = magnitude * scale[K.indices] * scale[columns]
        largest = np.ones(K.shape[0])
        if entries.size:  # K is symmetric: the largest of a column is that of the row
            largest[filled] = np.maximum.reduceat(entries, starts)
        largest[largest == 0.0] = 1.0
        if np.abs(largest - 1.0).max(initial=0.0) < 0.1:
            break
        scale /= np.sqrt(largest)
    return scale
