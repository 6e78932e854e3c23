"""The entries of a sparse A by the cones they belong to: what products of ghost rows with A need.

The ghost rows of a curved cone are linear combinations of its rows of A. Which entries such a
combination has follows from the pattern alone, so it is found once for a structure; a call then
only multiplies and adds numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._types import Floats, Ints
from .pattern import Pattern

__all__ = ["ConeEntries", "MatrixBlock", "RowEntries", "Rows", "joined"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Sparse rows: the lengths (k,), and data and columns of all rows one after the other."""

    data: Floats
    columns: NDArray[Any]
    lengths: Ints

    @property
    def indptr(self) -> NDArray[np.int32]:
        """(k + 1,) where the rows start and end."""
        ends = np.zeros(self.lengths.size + 1, dtype=np.int32)
        np.cumsum(self.lengths, out=ends[1:])
        return ends


def joined(parts: list[Rows]) -> Rows:
    """The rows of one part after those of the other."""
    data, columns, lengths = zip(*((p.data, p.columns, p.lengths) for p in parts), strict=True)
    return Rows(np.concatenate(data), np.concatenate(columns), np.concatenate(lengths))


@dataclass(frozen=True, eq=False)
class RowEntries:
    """A pattern by rows: ``order`` says where in the values each entry is."""

    indptr: Ints
    columns: NDArray[np.int32]
    order: Ints

    @classmethod
    def of(cls, pattern: Pattern) -> RowEntries:
        numbered = (np.arange(pattern.nnz), pattern.indices, pattern.indptr)
        by_rows = sparse.csc_matrix(numbered, shape=pattern.shape).tocsr()
        return cls(by_rows.indptr.astype(np.intp), by_rows.indices, by_rows.data)

    def rows(self, at: Ints, values: Floats, factors: Floats | None = None) -> Rows:
        """The rows ``at`` of the matrix with these values, times ``factors``."""
        starts = self.indptr[at]
        lengths = self.indptr[at + 1] - starts
        entries = _ranges(starts, lengths)
        data = values[self.order[entries]]
        if factors is not None:
            data *= np.repeat(factors, lengths)
        return Rows(data, self.columns[entries], lengths)


@dataclass(frozen=True, eq=False)
class MatrixBlock:
    """The rows from ``start`` on of a cone, each of which is a multiple of another variable.

    That of row r is column ``columns[r]``, its entry is at ``places[r]`` of the values.
    """

    start: int
    columns: Ints
    places: Ints

    @classmethod
    def of(cls, entries: RowEntries, start: int, dim: int) -> MatrixBlock | None:
        """None where a row has more than one entry, or none."""
        ends = entries.indptr[start : start + dim + 1]
        if not (np.diff(ends) == 1).all():
            return None
        part = slice(ends[0], ends[-1])
        return cls(start, entries.columns[part].astype(np.intp), entries.order[part])

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.columns.size)


@dataclass(frozen=True, eq=False)
class ConeEntries:
    """The entries in the rows of ``count`` equal cones, by cone and then by column.

    A slot is a column with an entry in a cone. Entry e is at ``places[e]`` of the values and in row
    ``rows[e]`` of the cones (count * dim); slot t has the entries from ``starts[t]`` on and is
    column ``columns[t]``; cone j has the slots from ``ends[j]`` to ``ends[j + 1]``.
    """

    dim: int
    places: Ints
    rows: Ints
    starts: Ints
    columns: NDArray[np.int32]
    ends: Ints

    @classmethod
    def of(cls, entries: RowEntries, start: int, count: int, dim: int) -> ConeEntries:
        first = entries.indptr[start : start + count * dim + 1]
        part = slice(first[0], first[-1])
        rows, columns = np.repeat(np.arange(count * dim), np.diff(first)), entries.columns[part]
        cones = rows // dim
        order = np.lexsort((columns, cones))
        rows, columns, cones = rows[order], columns[order], cones[order]
        new = np.ones(order.size, dtype=bool)
        new[1:] = (np.diff(columns) != 0) | (np.diff(cones) != 0)
        starts = np.flatnonzero(new)
        ends = np.searchsorted(cones[starts], np.arange(count + 1))
        return cls(dim, entries.order[part][order], rows, starts, columns[starts], ends)

    def combined(self, weights: Floats, on: NDArray[np.bool_], values: Floats) -> Rows:
        """``weights`` (count, k, dim) times the rows of each cone, where ``on`` (count, k)."""
        count, k = on.shape
        cone, number = np.nonzero(on)
        if not cone.size:
            return Rows(np.zeros(0), self.columns[:0], cone)
        lengths = np.diff(self.ends)[cone]
        entries = values[self.places]
        if k <= max(2, count):  # each k for all cones at once
            data = np.empty((k, self.starts.size))
            for r in range(k):
                products = weights[:, r].reshape(-1)[self.rows] * entries
                data[r] = self._summed(products)
            slots = _ranges(self.ends[cone], lengths)
            if k > 1 or not on.all():
                values = data.reshape(-1)[slots + np.repeat(number * self.starts.size, lengths)]
            else:
                values = data[0]
            return Rows(values, self.columns[slots], lengths)
        parts = [np.zeros(0)]
        for j in range(count):
            parts.append(self._one(j, weights[j, on[j]], entries).reshape(-1))
        return Rows(np.concatenate(parts), self.columns[_ranges(self.ends[cone], lengths)], lengths)

    def _one(self, j: int, weights: Floats, entries: Floats) -> Floats:
        """The combinations (k, slots) of the rows of cone j."""
        slots = slice(self.ends[j], self.ends[j + 1])
        starts = np.append(self.starts, entries.size)[slots.start : slots.stop + 1]
        part = slice(starts[0], starts[-1])
        rows, entries = self.rows[part] - j * self.dim, entries[part]
        if starts.size - 1 == entries.size:
            return weights[:, rows] * entries
        matrix = np.zeros((self.dim, starts.size - 1))
        matrix[rows, np.repeat(np.arange(starts.size - 1), np.diff(starts))] = entries
        return weights @ matrix

    def _summed(self, products: Floats) -> Floats:
        """The sums over the entries of each slot."""
        if self.starts.size == products.size:
            return products
        return np.add.reduceat(products, self.starts)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1, ... of each range, one range after the other."""
    ends = np.cumsum(lengths)
    shifts = starts - ends
    shifts += lengths
    return np.repeat(shifts, lengths) + np.arange(ends[-1] if ends.size else 0)
