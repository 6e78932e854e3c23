"""Sparse maps that mostly only move numbers: products without a sparse matrix where they do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Floats

__all__ = ["LinearMap"]


class LinearMap:
    """v (..., columns) -> v M' (..., rows) for a CSR matrix M (rows, columns).

    The maps of a modeler copy a parameter into the data, or a part of x into an output: M has at
    most one entry a row, and the product is a choice of entries of v.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        counts = np.diff(matrix.indptr)
        self._chooses = bool(counts.max(initial=0) <= 1)
        if self._chooses:
            self._rows = None if counts.all() else np.flatnonzero(counts)
            self._columns = _compact(matrix.indices)
            self._weights = None if (matrix.data == 1.0).all() else matrix.data

    def __call__(self, v: Floats) -> Floats:
        if not self._chooses:
            flat = v.reshape(-1, v.shape[-1])
            product: Floats = np.ascontiguousarray((self.matrix @ flat.T).T)
            return product.reshape(*v.shape[:-1], self.matrix.shape[0])
        chosen = v[..., self._columns]
        if self._weights is not None:
            chosen = chosen * self._weights
        elif isinstance(self._columns, slice):
            chosen = chosen.copy()
        if self._rows is None:
            return chosen
        out = np.zeros((*v.shape[:-1], self.matrix.shape[0]))
        out[..., self._rows] = chosen
        return out


def _compact(numbers: NDArray[Any]) -> slice | NDArray[np.intp]:
    """Consecutive numbers as a slice."""
    if numbers.size and (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers.astype(np.intp)
