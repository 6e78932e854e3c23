"""How large the numbers of a batch of programs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._kernel import polyhedral
from .._types import Floats

if TYPE_CHECKING:
    from .batch import ProgramBatch

__all__ = [
    "EPS",
    "FAINT",
    "FAR",
    "DataSizes",
    "allowance",
    "diagonal",
    "largest",
    "near_one",
    "row_squares",
]

EPS = float(np.finfo(np.float64).eps)

FAINT = 1e-150
"""Numbers below this have squares that may be 0."""

FAR = polyhedral.LIMITS.far
"""See `DataSizes.farthest`."""


class DataSizes(polyhedral.Sizes):
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
    """

    @classmethod
    def of(cls, batch: ProgramBatch) -> DataSizes:
        """Those of a batch."""
        b = batch.b if batch.unbounding is None else np.where(np.isfinite(batch.b), batch.b, 0.0)
        data = np.abs(b) / batch.norms, batch.structure.nonnegative, batch.q, diagonal(batch)
        with np.errstate(over="ignore"):
            return cls(*polyhedral.data_sizes(np, *data))


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


def row_squares(batch: ProgramBatch) -> Floats:
    """(B or 1, m) squared Euclidean norms of the rows of A."""
    pattern = batch.structure.A
    if pattern is None:
        A = np.ascontiguousarray(batch.A, dtype=np.float64)
        squares = np.empty(A.shape[:2])
        _kernel.kernel.row_squares(A.shape[1], A.shape[2], A, squares)
        return squares
    rows = pattern.shape[0]
    # Counts of nothing are integers, whatever the weights.
    counts = [np.bincount(pattern.indices, v * v, minlength=rows) for v in batch.A]
    return np.array(counts, dtype=np.float64)


def near_one(batch: ProgramBatch) -> NDArray[np.bool_]:
    """(B,) see `ProgramBatch.near_one`."""
    pattern, diagonal = batch.structure.A, np.zeros((1, batch.structure.n))
    if pattern is None:
        columns = np.maximum.reduce(np.abs(batch.A), axis=-2, initial=0.0)
        diagonal = batch.P.diagonal(axis1=-2, axis2=-1)
    else:
        columns = pattern.largest(batch.A)
        P_pattern = batch.structure.P
        if P_pattern is not None and not columns.all():
            diagonal = P_pattern.largest(batch.P)
    columns = np.where(columns > 0.0, columns, diagonal)
    rows = np.where(batch.squares == 1.0, 0.0, batch.norms)
    return np.broadcast_to(polyhedral.near_one(np, batch.sizes, rows, columns), batch.size)


def diagonal(batch: ProgramBatch) -> Floats:
    """(B or 1, entries) the diagonal of P."""
    pattern = batch.structure.P
    if pattern is None:
        return batch.P.diagonal(axis1=-2, axis2=-1)
    return batch.P[:, pattern.diagonal]
