"""The programs of a batch as solvers see them: one after the other, or stacked.

Nobody can write to the arrays: they are the user's, or those of other elements too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._runtime.memory import read_only
from .._types import Floats
from .forms import BoxForm, ConeForm, SplitForm
from .pattern import Pattern

if TYPE_CHECKING:
    from .batch import ProgramBatch

__all__ = ["BoxData", "each", "stacked", "without_free_rows"]


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


def each(batch: ProgramBatch, form: str) -> Iterator[ConeForm | BoxForm | SplitForm]:
    """See `ProgramBatch.views`."""
    P, q = _matrices(batch, "P"), _elements(batch, batch.q)
    if form == "box":
        return _box_forms(batch, P, q)
    return _split_forms(batch, P, q) if form == "split" else _cone_forms(batch, P, q)


def stacked(batch: ProgramBatch, form: str) -> ConeForm | BoxForm | SplitForm:
    """See `ProgramBatch.stacked`."""
    if form == "box":
        box = _stated(batch)
        given = batch.P, batch.q, box.A, box.lower, box.upper
        boxes = BoxForm(*(_repeated(batch, v) for v in given))
        if batch.P_factor is not None:
            boxes._cholesky = _repeated(batch, batch.P_factor)
        return boxes
    if form == "split":
        eq, ineq = batch.structure.split
        rows = batch.A[:, ineq], batch.b[:, ineq], batch.A[:, eq], batch.b[:, eq]
        return SplitForm(*(_repeated(batch, v) for v in (batch.P, batch.q, *rows)))
    A, b, free = batch.A, batch.b, batch.unbounding
    if free is not None:
        A, b = np.where(free[..., None], 0.0, A), np.where(free, 1.0, b)
    P, q, A, b = (_repeated(batch, v) for v in (batch.P, batch.q, A, b))
    return ConeForm(P, q, A, b, batch.structure.cones, batch.structure.layout)


def _repeated(batch: ProgramBatch, values: Floats) -> Floats:
    if len(values) == batch.size:
        return read_only(values)
    return np.broadcast_to(values, (batch.size, *values.shape[1:]))


def _stated(batch: ProgramBatch) -> BoxData:
    """The constraints as l <= Ax <= u."""
    if batch.box is not None:
        return batch.box
    eq, lower = batch.structure.split[0], np.empty(batch.b.shape)
    lower.fill(-np.inf)
    lower[:, eq] = batch.b[:, eq]
    return BoxData(batch.structure.A, batch.A, lower, batch.b)


def _cone_forms(batch: ProgramBatch, P: Iterator[Any], q: Iterator[Any]) -> Iterator[ConeForm]:
    """Canonical programs with finite b.

    A nonnegative row with b = inf becomes 0'x + s = 1: it constrains nothing, its multiplier is 0,
    and pattern and sizes stay what they are.
    """
    A, b = _matrices(batch, "A"), _elements(batch, batch.b)
    if batch.unbounding is not None:
        freed = list(map(without_free_rows, A, b, _elements(batch, batch.unbounding)))
        A, b = iter([a for a, _ in freed]), iter([b_i for _, b_i in freed])
    always = repeat(batch.structure.cones), repeat(batch.structure.layout)
    return map(ConeForm, P, q, A, b, *always)


def _box_forms(batch: ProgramBatch, P: Iterator[Any], q: Iterator[Any]) -> Iterator[BoxForm]:
    box = _stated(batch)
    A = _elements(batch, box.A, box.pattern)
    bounds = _elements(batch, box.lower), _elements(batch, box.upper)
    forms = map(BoxForm, P, q, A, *bounds)
    if batch.P_factor is None:
        return forms
    return map(_with_factor, forms, _elements(batch, batch.P_factor))


def _with_factor(form: BoxForm, factor: Floats) -> BoxForm:
    """The form, with the Cholesky factor of its P."""
    form._cholesky = factor
    return form


def _split_forms(batch: ProgramBatch, P: Iterator[Any], q: Iterator[Any]) -> Iterator[SplitForm]:
    eq, ineq = batch.structure.split
    h, b = _elements(batch, batch.b[:, ineq]), _elements(batch, batch.b[:, eq])
    if batch.structure.A is None:
        G, E = _elements(batch, batch.A[:, ineq]), _elements(batch, batch.A[:, eq])
    else:
        rows = [batch.matrix("A", i).tocsr() for i in range(batch.A.shape[0])]
        G, E = (
            repeat(rows[0][part].tocsc(), batch.size)
            if len(rows) == 1
            else iter([r[part].tocsc() for r in rows])
            for part in (ineq, eq)
        )
    return map(SplitForm, P, q, G, h, E, b)


def _matrices(batch: ProgramBatch, name: str) -> Iterator[Any]:
    """P or A element by element, as an ndarray or a CSC matrix."""
    return _elements(batch, getattr(batch, name), getattr(batch.structure, name))


def _elements(
    batch: ProgramBatch, values: NDArray[Any], pattern: Pattern | None = None
) -> Iterator[Any]:
    """(B or 1, ...) element by element; what the batch shares is made into a matrix once."""
    if pattern is None and len(values) == 1:
        shared = values[0]
        shared.setflags(False)
        return repeat(shared, batch.size)
    values = read_only(values)
    if pattern is None:
        return iter(values)
    if len(values) == 1:
        return repeat(pattern.matrix(values[0]), batch.size)
    return map(pattern.matrix, values)


def without_free_rows(A: Any, b: Floats, free: NDArray[np.bool_]) -> tuple[Any, Floats]:
    """One element's A and b with the rows that constrain nothing made 0'x + s = 1."""
    if not free.any():
        return A, b
    A = A.copy()
    if sparse.issparse(A):
        A.data[free[A.indices]] = 0.0
    else:
        A[free] = 0.0
    return A, np.where(free, 1.0, b)
