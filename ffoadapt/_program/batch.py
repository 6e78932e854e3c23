"""A batch of canonical programs of one structure, and the way from it to a solver and back.

    minimize    1/2 x'Px + q'x      subject to  Ax + s = b,  s in K        (dual z in K*)

A batch shares one `Structure` (sizes, cones, sparsity patterns) and holds its numbers as stacked
arrays whose leading axis is the batch, or 1 where all elements share them. Dense stays dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _kernel
from .._runtime.lazy import lazy
from .._types import Floats, Ints
from . import views
from .forms import BoxForm, ConeForm, SplitForm
from .pattern import Pattern
from .sizes import EPS, FAINT, FAR, DataSizes, allowance, largest, near_one, row_squares
from .structure import Structure
from .views import BoxData

__all__ = ["EPS", "FAINT", "FAR", "BoxData", "DataSizes", "ProgramBatch", "allowance", "largest"]


@dataclass(eq=False)
class ProgramBatch:
    """The numbers of B programs of one structure.

    Attributes
    ----------
    P, A
        Dense: (B or 1, n, n) and (B or 1, m, n). Sparse: the (B or 1, nnz) values on the pattern.
    q, b
        (B or 1, n) and (B or 1, m).
    box
        For programs stated as l <= Ax <= u: the data as stated.
    P_factor
        Where all P are positive definite beyond doubt: their Cholesky factors, once somebody made
        them (`ffoadapt._oracle.batched.definite`).
    precision
        The distance from 1 to the next number in the coarsest type of the data, as they came.
    """

    structure: Structure
    size: int
    P: Floats
    q: Floats
    A: Floats
    b: Floats
    box: BoxData | None = None
    P_factor: Floats | None = None
    precision: float = EPS

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be computed again."""
        state = {name: self.__dict__[name] for name in self.__dataclass_fields__}
        return {**state, "P_factor": None}

    @lazy
    def unbounding(self) -> NDArray[np.bool_] | None:
        """(B or 1, m) the rows with b = inf, which constrain nothing; None where b is finite."""
        return None if _kernel.kernel.all_finite(self.b) else np.isposinf(self.b)

    @lazy
    def squares(self) -> Floats:
        """(B or 1, m) squared norms of the rows of A, the largest of its rows for each curved cone,
        1 for empty rows."""
        squares = row_squares(self)
        for cone, start, count in self.structure.groups:
            if not cone.polyhedral:
                block = squares[:, start : start + count * cone.dim].reshape(-1, count, cone.dim)
                block[:] = block.max(axis=-1, keepdims=True)
        self._has_empty = np.count_nonzero(squares) != squares.size
        if self._has_empty:
            squares[squares == 0.0] = 1.0
        return squares

    _has_empty = False
    """Whether there are rows, or blocks of curved cones, whose squares are 0; see `squares`."""

    @lazy
    def faint(self) -> bool:
        """Whether there are rows of numbers so small that their squares are 0."""
        if not self.A.size or not self.squares.size or not self._has_empty:
            return False
        size = np.abs(self.A)
        return bool(((size > 0.0) & (size < FAINT)).any())

    @lazy
    def norms(self) -> Floats:
        """Their roots."""
        return np.sqrt(self.squares)

    @lazy
    def sizes(self) -> DataSizes:
        """The sizes of the data."""
        return DataSizes.of(self)

    @lazy
    def near_one(self) -> NDArray[np.bool_]:
        """(B,) whether norms of rows, largest entries of columns, the right-hand side and the
        objective are all within `polyhedral.Limits.near` of 1, or 0."""
        return near_one(self)

    def matrix(self, name: str, i: int) -> Any:
        """P or A of element i as an ndarray or a CSC matrix (numbers not copied)."""
        values: Floats = getattr(self, name)
        pattern: Pattern | None = getattr(self.structure, name)
        value = values[i if values.shape[0] > 1 else 0]
        return value if pattern is None else pattern.matrix(value)

    def views(self, form: str) -> Iterator[ConeForm | BoxForm | SplitForm]:
        """All elements, one after the other, in the named view (box, split: polyhedral only).

        Nobody can write to their arrays: they are the user's, or those of other elements too.
        """
        return views.each(self, form)

    def stacked(self, form: str) -> ConeForm | BoxForm | SplitForm:
        """All elements of a dense batch at once, in the named view: its arrays with an axis of the
        batch in front, of stride 0 where the elements share them. Nobody can write to them."""
        return views.stacked(self, form)

    def view(self, form: str, i: int) -> ConeForm | BoxForm | SplitForm:
        """Element i in the named view."""
        return next(self.take(slice(i, i + 1)).views(form))

    def empty_dual(self, form: str) -> Floats:
        """An array for the duals of all elements in the named view; the pairs (z_ineq, y_eq) of
        the split view go to their canonical rows."""
        rows = self.structure.m
        if form == "box" and self.box is not None:
            rows = self.box.lower.shape[-1]
        return np.empty((self.size, rows))

    def canonical_dual(self, form: str, dual: Floats) -> Floats:
        """z (B, m) of the duals of all elements in the named view."""
        structure = self.structure
        if form != "box":
            return dual
        if structure.box is not None:
            return structure.box.dual(dual)
        ineq = structure.split[1]
        dual[:, ineq] = np.maximum(dual[:, ineq], 0.0)
        return dual

    def as_dense(self) -> ProgramBatch:
        """The same programs with ndarrays; small ones are kept."""
        if self.structure.dense:
            return self
        return self._dense if self.structure.small else self._filled()

    @lazy
    def _dense(self) -> ProgramBatch:
        return self._filled()

    def _filled(self) -> ProgramBatch:
        structure = self.structure
        box = self.box
        if box is not None:
            box = BoxData(None, _filled(box.pattern, box.A), box.lower, box.upper)
        return ProgramBatch(
            Structure(structure.n, structure.m, structure.cones, box=structure.box),
            self.size,
            _filled(structure.P, self.P),
            self.q,
            _filled(structure.A, self.A),
            self.b,
            box=box,
            precision=self.precision,
        )

    def as_sparse(self) -> ProgramBatch:
        """The same programs on the union over the batch of the nonzeros of each matrix."""
        structure = self.structure
        if not structure.dense:
            return self
        P_pattern, P = _sparsified(self.P)
        A_pattern, A = _sparsified(self.A)
        box = self.box
        if box is not None:
            box = BoxData(*_sparsified(box.A), box.lower, box.upper)
        return ProgramBatch(
            Structure(
                structure.n, structure.m, structure.cones, P_pattern, A_pattern, structure.box
            ),
            self.size,
            P,
            self.q,
            A,
            self.b,
            box=box,
            precision=self.precision,
        )

    def shifted(self, shift: Floats, tilt: Floats | None = None) -> ProgramBatch:
        """The same programs with b + shift (B, m) in the place of b, and stated bounds with it, and
        q + tilt (B, n) in the place of q."""
        q = self.q if tilt is None else self.q + tilt
        b, box, rows = self.b + shift, self.box, self.structure.box
        if box is not None and rows is not None:
            j, k = rows.equal.size, rows.equal.size + rows.upper.size
            sides = (
                np.broadcast_to(v, (self.size, rows.rows)).copy() for v in (box.lower, box.upper)
            )
            lower, upper = sides
            lower[:, rows.equal] = upper[:, rows.equal] = b[:, :j]
            upper[:, rows.upper] = b[:, j:k]
            lower[:, rows.lower] = -b[:, k:]
            box = BoxData(box.pattern, box.A, lower, upper)
        return replace(self, q=q, b=b, box=box)

    def take(self, elements: slice | Ints) -> ProgramBatch:
        """The batch of these elements; shared data stay shared."""
        size = len(range(self.size)[elements] if isinstance(elements, slice) else elements)

        def pick(values: Floats) -> Floats:
            return values if values.shape[0] == 1 else values[elements]

        box = self.box
        if box is not None:
            crossed = None if box.crossed is None else pick(box.crossed)
            sides = pick(box.lower), pick(box.upper)
            box = BoxData(box.pattern, pick(box.A), *sides, crossed)
        P, q, A, b = (pick(v) for v in (self.P, self.q, self.A, self.b))
        P_factor = None if self.P_factor is None else pick(self.P_factor)
        return ProgramBatch(self.structure, size, P, q, A, b, box, P_factor, self.precision)

    def multiply(self, name: str, vectors: Floats, transpose: bool = False) -> Floats:
        """P or A (or the transpose) of each element times the (B, n or m) rows of ``vectors``.

        Leading axes before the batch axis are allowed. Every element is multiplied by itself, also
        where they share a matrix: what an element gives must not depend on its neighbours.
        """
        values: Floats = getattr(self, name)
        pattern: Pattern | None = getattr(self.structure, name)
        if pattern is None:
            matrix = values.swapaxes(-1, -2) if transpose else values
            return (matrix @ vectors[..., None])[..., 0]
        if vectors.ndim == 2 and len(vectors) == 1:
            return pattern.multiply(values[0], vectors[0], transpose)[None]
        if values.shape[0] == 1:
            matrix = pattern.matrix(values[0])
            flat = vectors.reshape(math.prod(vectors.shape[:-1]), vectors.shape[-1])
            out = (matrix.T if transpose else matrix) @ flat.T
            return np.ascontiguousarray(out.T).reshape(*vectors.shape[:-1], out.shape[0])
        rows = pattern.shape[1 if transpose else 0]
        out = np.empty((*vectors.shape[:-1], rows))
        for i in range(values.shape[0]):
            matrix = pattern.matrix(values[i])
            out[..., i, :] = ((matrix.T if transpose else matrix) @ vectors[..., i, :].T).T
        return out


def _filled(pattern: Pattern | None, values: Floats) -> Floats:
    assert pattern is not None
    dense = np.zeros((values.shape[0], *pattern.shape))
    dense[:, pattern.indices, pattern.columns] = values
    return dense


def _sparsified(dense: Floats) -> tuple[Pattern, Floats]:
    union = sparse.csc_matrix((dense != 0.0).any(axis=0))
    pattern = Pattern(union.shape, union.indptr, union.indices)
    return pattern, dense[:, pattern.indices, pattern.columns]
