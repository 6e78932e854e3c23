"""Where a sparse matrix has entries, apart from their numbers, which change from call to call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Pattern"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The sparsity pattern of a CSC matrix with sorted, unique entries; its numbers live apart."""

    shape: tuple[int, int]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]

    @classmethod
    def of(cls, matrix: Any) -> tuple[Pattern, Floats]:
        """Pattern and values of a scipy sparse matrix; sums duplicates, keeps explicit zeros."""
        csc = sparse.csc_matrix(matrix, dtype=np.float64, copy=True)
        csc.sum_duplicates()
        return cls(csc.shape, csc.indptr, csc.indices), csc.data

    @classmethod
    def full(cls, shape: tuple[int, int]) -> Pattern:
        """All entries, as for a dense matrix; values are its transpose, raveled."""
        rows, columns = shape
        indptr = np.arange(columns + 1, dtype=np.int32) * np.int32(rows)
        return cls(shape, indptr, np.tile(np.arange(rows, dtype=np.int32), columns))

    @cached_property
    def nnz(self) -> int:
        return int(self.indptr[-1])

    @cached_property
    def columns(self) -> Ints:
        """(nnz,) the column of each entry; `indices` is its row."""
        return np.repeat(np.arange(self.shape[1]), np.diff(self.indptr))

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal exactly for equal patterns."""
        return (self.shape, self.indptr.tobytes(), self.indices.tobytes())

    def filled(self, xp: Any, values: Any) -> Any:
        """The dense matrix of (nnz,) values of the array namespace ``xp``, by gathering alone."""
        at = np.full(self.shape, self.nnz)
        at[self.indices, self.columns] = np.arange(self.nnz)
        return xp.concatenate((values, xp.zeros(1)))[at]

    def matrix(self, values: Floats) -> sparse.csc_matrix:
        """The CSC matrix with these (nnz,) values (copied only where they are strided)."""
        values = np.ascontiguousarray(values)
        return sparse.csc_matrix((values, self.indices, self.indptr), shape=self.shape)
