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

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import qdldl
from numpy.typing import NDArray
from scipy import sparse

from .._blocks import joined
from .._pattern import Pattern
from .._program import ProgramBatch
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

BORROWED = 1e-12
"""Where a nearby factor leaves more than this relative residual, the system gets its own."""

APART = 1e3
"""Parts of a right-hand side whose sizes differ by more than this are solved for one by one."""


class SparseFactor:
    """A factorization that serves any number of right-hand sides; attributes as `DenseFactor`.

    ``near`` is the factorization of a nearby system. Where the pattern is the same, refinement with
    its factor solves this one too; only where that fails is there another factorization.
    """

    def __init__(
        self,
        batch: ProgramBatch,
        i: int,
        rows: ElementRows,
        smoothing: float = 0.0,
        near: SparseFactor | None = None,
    ) -> None:
        structure = batch.structure
        P, A = structure.P, structure.A
        assert P is not None and A is not None
        self.rows, self.n, self.m = rows, structure.n, structure.m
        P_values, A_values = (v[i if len(v) > 1 else 0] for v in (batch.P, batch.A))
        sigma = _NONE
        if rows.curved:
            GA, RA, sigma = rows.times_sparse(structure, A_values)
            self.active = GA.lengths.size
            C = joined([GA, RA])
            by_rows = _Columns(C.data, C.columns, C.indptr)
            by_columns = _Columns.of(by_rows.matrix(self.n).tocsr().T)
        else:
            self.active = rows.unit.size
            by_rows, by_columns = _chosen(A, A_values, rows.unit)
        # A sigma of -1 (a cone's concave direction) makes a positive pivot.
        below = -np.ones(self.active), np.where(sigma < 0, 1.0, -1.0)
        self._signs = np.concatenate((np.ones(self.n), *below))
        P_columns = _Columns(P_values, P.indices, P.indptr)
        diagonal = np.zeros(self._signs.size)
        diagonal[P.indices[P.diagonal]] = P_values[P.diagonal]
        diagonal[: self.n] += smoothing
        diagonal[self.n + self.active :] = -sigma
        upper = P.indices < P.columns
        ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(upper)))[P.indptr]
        self._upper = _Columns(P_values[upper], P.indices[upper], ends), by_rows
        self._diagonal = diagonal
        self.scale: Floats
        self._ldl: Any
        self._borrowed = near is not None and near._like(self._upper)
        if near is not None and self._borrowed:
            self.scale, self._ldl = near.scale, near._ldl
        else:
            self.scale = _equilibrate(P_columns, by_columns, by_rows, diagonal)
            self._ldl = self._factorized()
        d, e = self.scale[: self.n], self.scale[self.n :]
        off = np.where(P.diagonal, 0.0, P_values)
        self._P = _Columns(off, P.indices, P.indptr).scaled(d, d).matrix(self.n)
        self._C = by_columns.scaled(e, d).matrix(e.size)
        self._Ct = by_rows.scaled(d, e).matrix(self.n)
        self._D = diagonal * self.scale**2

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """As `DenseFactor.solve`; always refined."""
        columns = v_x.shape[1]
        w = np.empty_like(v_x)
        zeta = np.empty((self.m, columns))
        residual = np.empty(columns)
        for j in range(columns):
            below = [self.rows.G(v_z[:, j])]
            if self.rows.curved:
                below.append(self.rows.R(v_z[:, j]))
            v = self.scale * np.concatenate((v_x[:, j], *below))
            y, residual[j] = self._refined(v)
            if self._borrowed and residual[j] > BORROWED:
                self._ldl, self._borrowed = self._factorized(), False
                y, residual[j] = self._refined(v)
            y *= self.scale
            w[:, j] = y[: self.n]
            zeta[:, j] = self.rows.G_transpose(y[self.n : self.n + self.active], self.m)
            if self.rows.curved:
                zeta[:, j] += self.rows.R_transpose(y[self.n + self.active :], self.m)
        return w, zeta, residual

    def _like(self, upper: tuple[_Columns, _Columns]) -> bool:
        """Whether the pattern is that of a system given by its `_upper`."""
        pairs = zip(self._upper, upper, strict=True)
        return all(
            np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)
            for a, b in pairs
        )

    def _factorized(self) -> Any:
        """LDL' of the equilibrated matrix, from its upper triangle."""
        n, size = self.n, self._signs.size
        P, C = self._upper
        indptr = np.concatenate((P.indptr, P.indptr[-1] + C.indptr[1:])) + np.arange(size + 1)
        last = indptr[1:] - 1  # each column ends with its diagonal entry
        rest = np.ones(indptr[-1], dtype=bool)
        rest[last] = False
        indices, data = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1])
        indices[rest], indices[last] = np.concatenate((P.indices, C.indices)), np.arange(size)
        d, e = self.scale[:n], self.scale[n:]
        data[rest] = np.concatenate((P.scaled(d, d).values, C.scaled(d, e).values))
        diagonal = self._diagonal * self.scale**2
        for shift in REGULARIZATION:
            data[last] = diagonal + shift * self._signs
            try:
                upper = sparse.csc_matrix((data, indices, indptr), shape=(size, size))
                return qdldl.Solver(upper, upper=True)
            except RuntimeError as error:
                failure = error
        raise failure

    def _times(self, y: Floats) -> Floats:
        """The equilibrated matrix times y."""
        w, mu = y[: self.n], y[self.n :]
        found: Floats = self._D * y
        found[: self.n] += self._P @ w
        found[: self.n] += self._Ct @ mu
        found[self.n :] += self._C @ w
        return found

    def null(self) -> tuple[Floats, Floats]:
        """(w, zeta) of a random vector of the null space of the ghost KKT matrix."""
        y = self.scale * self._null[2]
        mu, rho = y[self.n : self.n + self.active], y[self.n + self.active :]
        zeta = self.rows.G_transpose(mu, self.m)
        if self.rows.curved:
            zeta += self.rows.R_transpose(rho, self.m)
        return y[: self.n], zeta

    @cached_property
    def _null(self) -> tuple[float, float, Floats]:
        """A random vector's share of the null space, and the sizes of its x and its row part."""
        probe = np.random.default_rng(0).standard_normal(self._signs.size)
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
            rest = v - self._times(candidate)
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


class _Columns(NamedTuple):
    """A sparse matrix by columns (compressed), without the checks of scipy's constructors."""

    values: Floats
    indices: NDArray[Any]
    indptr: NDArray[Any]

    @classmethod
    def of(cls, matrix: Any) -> _Columns:
        """That of a scipy CSC matrix."""
        return cls(matrix.data, matrix.indices, matrix.indptr)

    @property
    def columns(self) -> NDArray[np.intp]:
        """The column of each entry."""
        return np.repeat(np.arange(self.indptr.size - 1), np.diff(self.indptr))

    def scaled(self, rows: Floats, columns: Floats) -> _Columns:
        """diag(rows) times this times diag(columns)."""
        values = self.values * rows[self.indices] * np.repeat(columns, np.diff(self.indptr))
        return self._replace(values=values)

    def matrix(self, rows: int) -> Any:
        """A scipy CSC matrix with so many rows."""
        return sparse.csc_matrix(self, shape=(rows, self.indptr.size - 1))

    def largest(self) -> Callable[[Floats], Floats]:
        """The function: rows -> the largest entry of each column of diag(rows) |this|, or 0."""
        magnitude, indices = np.abs(self.values), self.indices
        filled = np.flatnonzero(self.indptr[1:] > self.indptr[:-1])
        starts, count = self.indptr[filled], self.indptr.size - 1

        def found(rows: Floats) -> Floats:
            if not filled.size:
                return np.zeros(count)
            entries = np.maximum.reduceat(magnitude * rows[indices], starts)
            if filled.size == count:
                return entries
            spread = np.zeros(count)
            spread[filled] = entries
            return spread

        return found


def _chosen(A: Pattern, values: Floats, chosen: NDArray[np.intp]) -> tuple[_Columns, _Columns]:
    """These rows of A: transposed, and as they are."""
    number = np.full(A.shape[0], -1)
    number[chosen] = np.arange(chosen.size)
    indptr, columns, order = A.by_rows
    kept = number[A.indices] >= 0
    ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(kept)))[A.indptr]
    by_columns = _Columns(values[kept], number[A.indices[kept]], ends)
    kept = kept[order]
    lengths = np.diff(indptr)[chosen]
    ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(lengths)))
    return _Columns(values[order[kept]], columns[kept], ends), by_columns


def _equilibrate(
    P: _Columns, C: _Columns, Ct: _Columns, diagonal: Floats, rounds: int = 10
) -> Floats:
    """Symmetric Ruiz scaling d with the rows of diag(d) |K| diag(d) of largest entry near 1, for
    K = [P C'; C 0] + diag(diagonal), P with its diagonal or without.

    It starts from units in which P, and then the rows below it, have size 1. Without these the
    rows alone could make every largest entry 1, and P, in far smaller units, would drown in the
    regularization.
    """
    n = P.indptr.size - 1
    curvature = float(np.abs(P.values).max(initial=0.0))
    steepness = float(np.abs(C.values).max(initial=0.0))
    x = np.full(n, 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0)
    steepness *= float(x[:1].sum())
    scale = np.concatenate((x, np.full(diagonal.size - n, 1.0 / steepness if steepness else 1.0)))
    diagonal = np.abs(diagonal)
    of_P, of_C, of_Ct = P.largest(), C.largest(), Ct.largest()
    for _ in range(rounds):
        x, z = scale[:n], scale[n:]
        largest = np.concatenate((np.maximum(of_P(x), of_C(z)), of_Ct(x)))
        largest = np.maximum(largest, diagonal * scale) * scale
        largest[largest == 0.0] = 1.0
        if np.abs(largest - 1.0).max(initial=0.0) < 0.1:
            break
        scale /= np.sqrt(largest)
    return scale
