"""The ghost KKT system of an element whose active rows depend on each other.

As at the vertices of network and assignment problems, at points on more bounds than there are
variables, wherever an equality follows from others. With N an orthonormal basis of {nu : C'nu = 0},
the Moore-Penrose solution of

    [ H  C' ] [ w  ]   [ top    ]
    [ C  0  ] [ mu ] = [ bottom ]

is that for independent rows and bottom - NN'bottom, with mu - NN'mu for the multiplier. Rows with a
single entry, as those of bounds are, fix a variable each and are taken out with it; of the others
Cholesky of the Schur complement with pivots finds which are independent, in a fraction of the time
of a spectral decomposition of the whole system. It squares what rows lack of being dependent, so it
is believed only where there is a gap, and where the rows themselves say that N is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from .._types import Floats, Ints
from .lapack import cholesky, solve_both, solve_factor, solve_rows

__all__ = ["DependentRows"]


LOST, KEPT = 1e-14, 1e-7
"""Pivots of a matrix with diagonal 1: at most the first, times the order, where a row depends on
others, and at least the second where it does not; between the two it is not for us to say."""

EXACT = 1e-11
"""N'C may be this large, relative to the largest terms, whatever the units of rows and columns."""


SPREAD = 1e6
"""Rows whose sizes differ by more are left to what equilibrates the system first."""


@dataclass(frozen=True, eq=False)
class DependentRows:
    """The solution where it is minimal, by a factorization of independent rows.

    Attributes
    ----------
    single, fixed, value
        Rows with one entry, the variables that they fix, and these entries.
    others, free
        The other rows (r,) and variables (f,).
    U, penalty
        U'U is H of the free variables plus C'DC of the other rows, with D the ``penalty`` where
        H alone is not definite, else None.
    Y, R, kept
        C U^-1 of the independent ones among the other rows, R'R = YY', and which of these they are.
    null
        (k, d) N.
    """

    H: Floats
    C: Floats
    single: Ints
    fixed: Ints
    value: Floats
    others: Ints
    free: Ints
    U: Floats
    penalty: Floats | None
    Y: Floats
    R: Floats
    kept: Ints
    null: Floats

    @classmethod
    def of(cls, H: Floats, C: Floats) -> DependentRows | None:
        """For H (n, n) and C (k, n); None where it is not clear, or x is not determined."""
        k, n = C.shape
        if not k:
            return None
        single, fixed = _singles(C)
        value = C[single, fixed]
        others, free = _without(k, single), _without(n, fixed)
        rows, bent = C[others], H[free[:, None], free]
        Y = np.ascontiguousarray(rows[:, free])
        U, penalty = np.array(bent, order="C"), None
        if not _factored(U, bent):
            norms = np.einsum("ij,ij->i", Y, Y)
            size = float(np.abs(bent.diagonal()).max(initial=0.0)) or 1.0
            penalty = size / np.where(norms > 0.0, norms, 1.0)
            bent = bent + (Y.T * penalty) @ Y
            U = np.array(bent, order="C")
            if not _factored(U, bent):
                return None
        solve_rows(U, Y)
        known = _independent(Y @ Y.T)
        if known is None:
            return None
        R, kept, combination = known
        null = np.zeros((k, combination.shape[1]))
        null[others] = combination
        null[single] = -(rows[:, fixed].T @ combination) / value[:, None]
        sizes = np.maximum.reduce(np.abs(rows), axis=1), np.abs(value)
        if not _vanishes(rows[:, free], combination, *sizes, np.abs(null[single])):
            return None
        null = np.linalg.qr(null)[0] if null.shape[1] > 1 else null / np.sqrt(np.vdot(null, null))
        return cls(H, C, single, fixed, value, others, free, U, penalty, Y[kept], R, kept, null)

    @property
    def deficiency(self) -> tuple[int, int]:
        """How many rows depend on others, and 0: x is determined."""
        return self.null.shape[1], 0

    def solve(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        """(w, mu) for right-hand sides (n, K) and (k, K)."""
        bottom = self._projected(bottom)
        w, mu = np.zeros_like(top), np.zeros_like(bottom)
        w[self.fixed] = bottom[self.single] / self.value[:, None]
        rest = bottom[self.others] - self.C[self.others] @ w
        inner = np.array((top - self.H @ w)[self.free], order="C")
        if self.penalty is not None:
            inner += (self.C[self.others].T @ (self.penalty[:, None] * rest))[self.free]
        solve_factor(self.U, inner, transposed=True)
        held = self.Y @ inner - rest[self.kept]
        solve_both(self.R, held)
        inner -= self.Y.T @ held
        solve_factor(self.U, inner, transposed=False)
        w[self.free] = inner
        mu[self.others[self.kept]] = held
        left = top - self.H @ w - self.C.T @ mu
        mu[self.single] = left[self.fixed] / self.value[:, None]
        return w, self._projected(mu)

    def random_null(self) -> Floats:
        """A random vector (n + k,) of the null space of the ghost KKT matrix."""
        k, n = self.C.shape
        vector = np.zeros(n + k)
        vector[n:] = self.null @ np.random.default_rng(0).standard_normal(self.null.shape[1])
        return vector

    def _projected(self, mu: Floats) -> Floats:
        """What is orthogonal to the null space."""
        projected: Floats = mu - self.null @ (self.null.T @ mu)
        return projected


def _singles(C: Floats) -> tuple[Ints, Ints]:
    """Rows with one entry, and in which column it is: one row for each of these columns."""
    there = C != 0.0
    rows = (np.add.reduce(there, axis=1) == 1).nonzero()[0]
    row_of = np.full(C.shape[1], -1)
    row_of[there[rows].argmax(axis=1)] = rows
    columns = (row_of >= 0).nonzero()[0]
    return row_of[columns], columns


def _without(size: int, some: Ints) -> Ints:
    """The numbers below ``size`` but for some."""
    left = np.ones(size, dtype=bool)
    left[some] = False
    return left.nonzero()[0]


def _vanishes(
    rows: Floats, combination: Floats, sizes: Floats, values: Floats, singles: Floats
) -> bool:
    """Whether the columns of ``combination`` (r, d) do combine the rows (r, f) to nothing.

    In the other columns they do by what ``singles`` (d columns too) take of the rows with one
    entry. ``sizes`` and ``values`` are the largest entries of the rows, and of these.
    """
    sizes = np.where(sizes == 0.0, 1.0, sizes)[:, None]
    both = np.concatenate((sizes[:, 0], values))
    if not np.maximum.reduce(both) <= SPREAD * np.minimum.reduce(both):
        return False
    columns = np.maximum.reduce(np.abs(rows) / sizes, axis=0, initial=0.0)[:, None]
    terms = np.maximum.reduce(np.abs(combination) * sizes, axis=0, initial=0.0)
    terms = np.maximum(terms, np.maximum.reduce(singles * values[:, None], axis=0, initial=0.0))
    return bool((np.abs(rows.T @ combination) <= EXACT * columns * terms).all())


def _factored(U: Floats, matrix: Floats) -> bool:
    """Whether U, a copy of the matrix, has been made its Cholesky factor with clear pivots."""
    if not len(U):
        return True
    return cholesky(U) and bool((U.diagonal() ** 2 > KEPT * matrix.diagonal()).all())


def _independent(S: Floats) -> tuple[Floats, Ints, Floats] | None:
    """Of S (r, r), YY' of the rows: the factor of independent ones, which they are, and the null
    space (r, d) of S; None where it is not clear, or empty."""
    r, diagonal = len(S), S.diagonal()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    scaled = S * scale * scale[:, None]
    if not r or not np.isfinite(scaled).all():
        return None
    factor, pivots, rank, _ = lapack.dpstrf(scaled.T, lower=1, tol=LOST * r, overwrite_a=1)
    order, rank = pivots.astype(np.intp) - 1, int(rank)
    if rank == 1 and not diagonal.any():
        rank = 0
    if rank == r or (rank and not factor[rank - 1, rank - 1] ** 2 >= KEPT):
        return None
    R = np.array(factor.T[:rank, :rank], order="C")  # what is below the diagonal is not its
    combined = np.array(factor.T[:rank, rank:], order="C")
    solve_factor(R, combined, transposed=False)
    kept, lost = order[:rank], order[rank:]
    null = np.zeros((r, r - rank))
    null[kept] = -combined
    null[lost, np.arange(r - rank)] = 1.0
    null *= scale[:, None]
    R /= scale[kept]  # back in the units of the rows
    return R, kept, null
