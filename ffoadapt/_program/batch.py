"""A batch of canonical programs of one structure, and the way from it to a solver and back.

    minimize    1/2 x'Px + q'x      subject to  Ax + s = b,  s in K        (dual z in K*)

A batch shares one `Structure` (sizes, cones, sparsity patterns) and holds its numbers as stacked
arrays whose leading axis is the batch, or 1 where all elements share them. Dense stays dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _kernel
from .._runtime import blas
from .._runtime.lazy import lazy
from .._runtime.memory import empty, read_only
from .._types import Floats, Ints
from .forms import BoxForm, ConeForm, SplitForm
from .pattern import Pattern
from .structure import Structure

__all__ = ["EPS", "FAINT", "FAR", "BoxData", "DataSizes", "ProgramBatch", "allowance", "largest"]


EPS = float(np.finfo(np.float64).eps)

FAINT = 1e-150
"""Numbers below this have squares that may be 0."""

FAR = 1e2
"""See `DataSizes.farthest`."""

NEAR = 1e4
"""Programs whose numbers are within this factor of 1 are solved in their own units."""


@dataclass(slots=True, eq=False)
class BoxData:
    """l <= Ax <= u as stated: A's pattern (None: dense) and numbers, each with a leading axis.

    ``crossed`` is by how much l was above u, relative to the larger of the two, where that might be
    rounding: their mean was taken for both there. None where it nowhere was.
    """

    pattern: Pattern | None
    A: Floats
    lower: Floats
    upper: Floats
    crossed: Floats | None = None


@dataclass(slots=True, eq=False)
class DataSizes:
    """How large the data of a batch are; each with leading axis B or 1.

    Attributes
    ----------
    reach
        (B or 1, 1) the largest |b_i| / norm_i: how far from 0 the constraints are.
    farthest
        (B or 1, 1) bounds count as no further away than this: `FAR` times the furthest other row,
        or the nearest of them where there is no other. One at 1e15 says nothing of a program.
    steepness, curvature
        (B or 1, 1) the largest entries of q and of P (which are on its diagonal).
    regular
        Whether none of these three is 0 anywhere.
    """

    reach: Floats
    farthest: Floats
    steepness: Floats
    curvature: Floats
    regular: bool

    @classmethod
    def of(cls, batch: ProgramBatch) -> DataSizes:
        """Those of a batch."""
        b = batch.b if batch.unbounding is None else np.where(np.isfinite(batch.b), batch.b, 0.0)
        far, bounds = np.abs(b) / batch.norms, batch.structure.nonnegative
        held = np.maximum.reduce(far, axis=-1, keepdims=True, initial=0.0, where=~bounds)
        nearest = np.minimum.reduce(
            np.where(bounds & (far > 0.0), far, np.inf), axis=-1, keepdims=True, initial=np.inf
        )
        with np.errstate(over="ignore"):
            farthest = FAR * np.where(held > 0.0, held, nearest)
        reach = largest(np.where(bounds, np.minimum(far, farthest), far))
        steepness, curvature = map(largest, (batch.q, _diagonal(batch)))
        least = np.minimum(np.minimum(reach, steepness), curvature)
        regular = np.count_nonzero(least) == least.size
        return cls(reach, farthest, steepness, curvature, regular)


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
        return None if blas.finite(self.b) else np.isposinf(self.b)

    @lazy
    def squares(self) -> Floats:
        """(B or 1, m) squared norms of the rows of A, the largest of its rows for each curved cone,
        1 for empty rows."""
        squares = _row_squares(self)
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
        objective are all within `NEAR` of 1, or 0."""
        return _near_one(self)

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
        if form == "box":
            return self._box_forms()
        return self._split_forms() if form == "split" else self._cone_forms()

    def stacked(self, form: str) -> ConeForm | BoxForm | SplitForm:
        """All elements of a dense batch at once, in the named view: its arrays with an axis of the
        batch in front, of stride 0 where the elements share them. Nobody can write to them."""
        if form == "box":
            box = self._stated()
            data = map(self._repeated, (self.P, self.q, box.A, box.lower, box.upper))
            factor = None if self.P_factor is None else self._repeated(self.P_factor)
            P, q, A, lower, upper = data
            return BoxForm(P, q, A, lower, upper, factor)
        if form == "split":
            eq, ineq = self.structure.split
            rows = self.A[:, ineq], self.b[:, ineq], self.A[:, eq], self.b[:, eq]
            return SplitForm(*map(self._repeated, (self.P, self.q, *rows)))
        A, b, free = self.A, self.b, self.unbounding
        if free is not None:
            A, b = np.where(free[..., None], 0.0, A), np.where(free, 1.0, b)
        P, q, A, b = map(self._repeated, (self.P, self.q, A, b))
        return ConeForm(P, q, A, b, self.structure.cones, self.structure.layout)

    def _repeated(self, values: Floats) -> Floats:
        if len(values) == self.size:
            return read_only(values)
        return np.broadcast_to(values, (self.size, *values.shape[1:]))

    def _stated(self) -> BoxData:
        """The constraints as l <= Ax <= u."""
        if self.box is not None:
            return self.box
        eq, lower = self.structure.split[0], np.empty(self.b.shape)
        lower.fill(-np.inf)
        lower[:, eq] = self.b[:, eq]
        return BoxData(self.structure.A, self.A, lower, self.b)

    def view(self, form: str, i: int) -> ConeForm | BoxForm | SplitForm:
        """Element i in the named view."""
        return next(self.take(slice(i, i + 1)).views(form))

    def _cone_forms(self) -> Iterator[ConeForm]:
        """Canonical programs with finite b.

        A nonnegative row with b = inf becomes 0'x + s = 1: it constrains nothing, its multiplier is
        0, and pattern and sizes stay what they are.
        """
        A, b = self._each("A"), self._each("b")
        if self.unbounding is not None:
            freed = list(map(_freed, A, b, self._elements(self.unbounding)))
            A, b = iter([a for a, _ in freed]), iter([b_i for _, b_i in freed])
        always = repeat(self.structure.cones), repeat(self.structure.layout)
        return map(ConeForm, self._each("P"), self._each("q"), A, b, *always)

    def _box_forms(self) -> Iterator[BoxForm]:
        box = self._stated()
        A = self._elements(box.A, box.pattern)
        bounds = map(self._elements, (box.lower, box.upper))
        factor = repeat(None) if self.P_factor is None else self._elements(self.P_factor)
        return map(BoxForm, self._each("P"), self._each("q"), A, *bounds, factor)

    def _split_forms(self) -> Iterator[SplitForm]:
        eq, ineq = self.structure.split
        h, b = map(self._elements, (self.b[:, ineq], self.b[:, eq]))
        if self.structure.A is None:
            G, E = map(self._elements, (self.A[:, ineq], self.A[:, eq]))
        else:
            rows = [self.matrix("A", i).tocsr() for i in range(self.A.shape[0])]
            G, E = (
                repeat(rows[0][part].tocsc(), self.size)
                if len(rows) == 1
                else iter([r[part].tocsc() for r in rows])
                for part in (ineq, eq)
            )
        return map(SplitForm, self._each("P"), self._each("q"), G, h, E, b)

    def _each(self, name: str) -> Iterator[Any]:
        """The datum of this name, element by element, as an ndarray or a CSC matrix."""
        return self._elements(getattr(self, name), getattr(self.structure, name, None))

    def _elements(self, values: NDArray[Any], pattern: Pattern | None = None) -> Iterator[Any]:
        """(B or 1, ...) element by element; what the batch shares is made into a matrix once."""
        if pattern is None and len(values) == 1:
            shared = values[0]
            shared.setflags(False)
            return repeat(shared, self.size)
        values = read_only(values)
        if pattern is None:
            return iter(values)
        if len(values) == 1:
            return repeat(pattern.matrix(values[0]), self.size)
        return map(pattern.matrix, values)

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

    def shifted(self, shift: Floats, bend: Floats | None = None) -> ProgramBatch:
        """The same programs with b + shift (B, m) in the place of b, and stated bounds with it, and
        q + bend (B, n) in the place of q."""
        q = self.q if bend is None else self.q + bend
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


def allowance(precision: float) -> float:
    """What rounding may have done to data, relative to the size of a row or a diagonal entry, where
    ``precision`` is the distance from 1 to the next number of their type."""
    return max(8.0 * precision, 1e-12)


def largest(values: Floats) -> Floats:
    """(B or 1, 1) largest magnitude in each row."""
    sizes: Floats = abs(values)
    if len(sizes) == 1 and sizes.size:  # to find where it is takes a sixth of the time of `max`
        k = int(sizes.argmax())
        return sizes[:, k : k + 1]
    return np.maximum.reduce(sizes, axis=-1, keepdims=True, initial=0.0)


def _row_squares(batch: ProgramBatch) -> Floats:
    """(B or 1, m) squared Euclidean norms of the rows of A."""
    pattern = batch.structure.A
    if pattern is None:
        if _kernel.kernel is not None:
            A = np.ascontiguousarray(batch.A, dtype=np.float64)
            squares = np.empty(A.shape[:2])
            _kernel.kernel.squares(*A.shape[1:], A, squares)
            return squares
        # einsum would sum in an order that B decides
        return np.add.reduce(np.square(batch.A, out=empty(*batch.A.shape)), axis=-1)
    rows = pattern.shape[0]
    # Counts of nothing are integers, whatever the weights.
    counts = [np.bincount(pattern.indices, v * v, minlength=rows) for v in batch.A]
    return np.array(counts, dtype=np.float64)


def _near_one(batch: ProgramBatch) -> NDArray[np.bool_]:
    n, size, pattern = batch.structure.n, batch.size, batch.structure.A
    bent = np.zeros((1, n))
    if pattern is None:
        columns = np.maximum.reduce(np.abs(batch.A), axis=-2, initial=0.0)
        bent = batch.P.diagonal(axis1=-2, axis2=-1)
    else:
        columns = pattern.largest(batch.A)
        P_pattern = batch.structure.P
        if P_pattern is not None and not columns.all():
            bent = P_pattern.largest(batch.P)
    columns = np.where(columns > 0.0, columns, bent)
    known = batch.sizes
    steepness = np.maximum(known.steepness, known.curvature)
    rows = np.where(batch.squares == 1.0, 0.0, batch.norms)
    # Curvature may be small beside q, but not so small that its square is 0.
    near = np.broadcast_to((known.curvature == 0.0) | (known.curvature > 1e-100), (size, 1)).copy()
    for sizes in (rows, columns, known.reach, steepness):
        least, most = 1.0 / NEAR, NEAR
        fine = (sizes == 0.0) | ((sizes >= least) & (sizes <= most))
        near &= np.logical_and.reduce(fine, axis=-1, keepdims=True)
    return near[:, 0]


def _diagonal(batch: ProgramBatch) -> Floats:
    """(B or 1, entries) the diagonal of P."""
    pattern = batch.structure.P
    if pattern is None:
        return batch.P.diagonal(axis1=-2, axis2=-1)
    return batch.P[:, pattern.diagonal]


def _freed(A: Any, b: Floats, free: NDArray[np.bool_]) -> tuple[Any, Floats]:
    """One element's A and b with the rows that constrain nothing made 0'x + s = 1."""
    if not free.any():
        return A, b
    A = A.copy()
    if sparse.issparse(A):
        A.data[free[A.indices]] = 0.0
    else:
        A[free] = 0.0
    return A, np.where(free, 1.0, b)


def _filled(pattern: Pattern | None, values: Floats) -> Floats:
    assert pattern is not None
    dense = np.zeros((values.shape[0], *pattern.shape))
    dense[:, pattern.indices, pattern.columns] = values
    return dense


def _sparsified(dense: Floats) -> tuple[Pattern, Floats]:
    union = sparse.csc_matrix((dense != 0.0).any(axis=0))
    pattern = Pattern(union.shape, union.indptr, union.indices)
    return pattern, dense[:, pattern.indices, pattern.columns]
