"""Where a sparse matrix has entries, apart from their numbers, which change from call to call."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._runtime.costs import PRODUCT_ENTRIES
from .._types import Floats, Ints

__all__ = ["Pattern", "digest"]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The sparsity pattern of a CSC matrix with sorted, unique entries; its numbers live apart."""

    shape: tuple[int, int]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]

    def __post_init__(self) -> None:
        # They are shared by whatever has this pattern, solvers and users included.
        self.indptr.flags.writeable = self.indices.flags.writeable = False

    @classmethod
    def of(cls, matrix: Any) -> tuple[Pattern, Floats]:
        """Pattern and values of a scipy sparse matrix; sums duplicates, keeps explicit zeros."""
        csc = sparse.csc_matrix(matrix, dtype=np.float64, copy=True)
        csc.sum_duplicates()
        ends, rows = (v.astype(np.int32, copy=False) for v in (csc.indptr, csc.indices))
        return cls(csc.shape, ends, rows), csc.data

    @classmethod
    def full(cls, shape: tuple[int, int]) -> Pattern:
        """All entries, as for a dense matrix; values are its transpose, raveled."""
        rows, columns = shape
        indptr = np.arange(columns + 1, dtype=np.int32) * np.int32(rows)
        return cls(shape, indptr, np.tile(np.arange(rows, dtype=np.int32), columns))

    @cached_property
    def nnz(self) -> int:
        return int(self.indptr[-1])

    @property
    def columns(self) -> NDArray[np.int32]:
        """(nnz,) the column of each entry; `indices` is its row. Made anew: it is not kept."""
        return np.repeat(np.arange(self.shape[1], dtype=np.int32), np.diff(self.indptr))

    @cached_property
    def diagonal(self) -> NDArray[np.bool_]:
        """(nnz,) the entries on the diagonal."""
        return self.indices == self.columns

    def by_rows(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The same entries by rows: (indptr, columns, where each is in the values)."""
        numbered = (np.arange(self.nnz, dtype=np.int32), self.indices, self.indptr)
        by_rows = sparse.csc_matrix(numbered, shape=self.shape).tocsr()
        return by_rows.indptr, by_rows.indices, by_rows.data

    @cached_property
    def transposition(self) -> NDArray[np.int32] | None:
        """Where in the values the entry (j, i) of each entry (i, j) is; None where one lacks."""
        indptr, columns, order = self.by_rows()
        same = np.array_equal(indptr, self.indptr) and np.array_equal(columns, self.indices)
        return order if same else None

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal exactly for equal patterns."""
        return (self.shape, digest(self.indptr, self.indices))

    @cached_property
    def _ends(self) -> tuple[Ints, Ints]:
        """(column, row) of each entry of a small pattern, as numpy likes indices."""
        return self.columns.astype(np.intp), self.indices.astype(np.intp)

    @cached_property
    def _empty(self) -> sparse.csc_matrix:
        data = np.zeros(self.nnz)
        return sparse.csc_matrix((data, self.indices, self.indptr), shape=self.shape)

    @cached_property
    def _empty_transposed(self) -> sparse.csr_matrix:
        return self._empty.T

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        """(rows, columns) the number of each entry, nnz where there is none."""
        at = np.full(self.shape, self.nnz)
        at[self.indices, self.columns] = np.arange(self.nnz)
        at.setflags(write=False)
        return at

    def filled(self, xp: Any, values: Any) -> Any:
        """The dense matrix of (nnz,) values of the array namespace ``xp``, by gathering alone."""
        return xp.concatenate((values, xp.zeros(1)))[xp.asarray(self._places)]

    def matrix(self, values: Floats) -> sparse.csc_matrix:
        """The CSC matrix with these (nnz,) values (copied only where they are strided)."""
        matrix = copy.copy(self._empty)  # made without the checks of the constructor
        matrix.data = np.ascontiguousarray(values)
        return matrix

    def transposed(self, values: Floats) -> sparse.csr_matrix:
        """The transpose of `matrix`, likewise."""
        matrix = copy.copy(self._empty_transposed)
        matrix.data = np.ascontiguousarray(values)
        return matrix

    def multiply(self, values: Floats, v: Floats, transpose: bool) -> Floats:
        """The matrix with these values, or its transpose, times the vector v."""
        product: Any
        if self.nnz <= PRODUCT_ENTRIES:
            out, other = self._ends if transpose else self._ends[::-1]
            product = np.bincount(out, values * v[other], self.shape[1 if transpose else 0])
        else:
            product = (self.transposed(values) if transpose else self.matrix(values)) @ v
        return product

    def largest(self, values: Floats) -> Floats:
        """(B, columns) the largest magnitudes in the columns of matrices with values (B, nnz)."""
        largest = np.zeros((len(values), self.shape[1]))
        filled = np.flatnonzero(np.diff(self.indptr))
        if filled.size:
            starts = self.indptr[filled]
            largest[:, filled] = np.maximum.reduceat(np.abs(values), starts, axis=-1)
        return largest


def digest(*arrays: NDArray[Any]) -> bytes:
    """Equal exactly for equal numbers of equal types."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
