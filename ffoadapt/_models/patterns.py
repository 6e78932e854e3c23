"""The sparse matrices of users: their patterns, and the order in which their values come."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _kernel
from .._exceptions import ParameterError, ShapeError
from .._program.pattern import Pattern
from .._types import Floats, Shape

__all__ = ["Orders", "Parts", "arranged", "put_on_patterns", "restored"]

Parts = tuple[Any, Any, Any]
"""Rows and columns of the entries of a matrix, and their values in a framework's array."""

Orders = Mapping[str, NDArray[np.int32]]
"""In which order the values of matrices, by name, must be taken for their patterns."""

KEPT = 64
"""So many of the latest patterns are known again."""

_SIGNED = (np.dtype(np.int32), np.dtype(np.int64))

_latest: list[tuple[Pattern, NDArray[np.int32] | None]] = []
_lock = threading.Lock()


def put_on_patterns(
    data: dict[str, Any], shapes: Mapping[str, tuple[int, int]], parts: Mapping[str, Parts]
) -> tuple[Mapping[str, Pattern], Orders]:
    """Puts the values of all matrices in their places in ``data``, since some are sparse: those of
    ``parts``. Returns their patterns, and orders where the values are not in order.

    A dense matrix among sparse ones keeps all its entries, zeros too: its gradient is dense.
    """
    patterns: dict[str, Pattern] = {}
    orders: dict[str, NDArray[np.int32]] = {}
    for name, shape in shapes.items():
        if name in parts:
            _check_shape(name, tuple(data[name].shape), shape)
            rows, columns, data[name] = parts[name]
            patterns[name], order = _known(rows, columns, shape, name)
            if order is not None:
                orders[name] = order
        else:
            patterns[name], data[name] = _whole(name, data[name], shape)
    return patterns, orders


def _check_shape(name: str, shape: Shape, expected: Shape) -> None:
    if shape == expected:
        return
    text = f"the sparse {name} has shape {shape}; expected {expected}"
    if len(shape) > 2:
        text += (
            ". A sparse matrix has no batch axes: make the batch dense, or solve its programs one "
            "by one"
        )
    raise ShapeError(text)


def _whole(name: str, value: Any, shape: tuple[int, int]) -> tuple[Pattern, Any]:
    """The pattern of all entries of a dense matrix, of none where it is None, and their values."""
    if value is None:
        return Pattern.of(sparse.csc_matrix(shape))
    if isinstance(value, list | tuple | int | float):
        value = np.asarray(value, dtype=np.float64)
    if tuple(value.shape[-2:]) != shape:
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; expected {shape}")
    lead = tuple(value.shape[:-2])
    return Pattern.full(shape), value.swapaxes(-1, -2).reshape(*lead, shape[0] * shape[1])


def _known(
    rows: Any, columns: Any, shape: Shape, name: str = "matrix"
) -> tuple[Pattern, NDArray[np.int32] | None]:
    """The pattern with these entries and their order in it (None: as they are); the latest are
    kept.

    They are compared, not hashed: that takes a third of the time, and no copy of the indices,
    which the caller may write to.
    """
    with _lock:
        latest = list(_latest)
    known = next((each for each in latest if _same(*each, rows, columns, shape)), None)
    if known is None:
        known = _ordered(rows, columns, shape, name)
    with _lock:
        others = [each for each in _latest if each is not known]
        _latest[:] = [known, *others[: KEPT - 1]]
    return known


def _same(
    pattern: Pattern, order: NDArray[np.int32] | None, rows: Any, columns: Any, shape: Shape
) -> bool:
    """Whether these entries are those of the pattern, in this order."""
    if pattern.shape != shape or pattern.nnz != len(rows):
        return False
    kind = rows.dtype if rows.dtype == columns.dtype and rows.dtype in _SIGNED else np.int64
    entries = (np.ascontiguousarray(v, dtype=kind) for v in (rows, columns))
    return bool(_kernel.kernel.same_entries(pattern.indptr, pattern.indices, order, *entries))


def _ordered(
    rows: Any, columns: Any, shape: Shape, name: str = "matrix"
) -> tuple[Pattern, NDArray[np.int32] | None]:
    count = len(rows)
    numbers = np.arange(1.0, count + 1.0)  # from 1: a value of 0 would be dropped
    try:
        matrix = sparse.coo_matrix((numbers, (rows, columns)), shape=shape)
    except ValueError as error:  # out of range
        raise ParameterError(f"the sparse {name} has indices of no entry: {error}") from error
    pattern, numbered = Pattern.of(matrix)
    if pattern.nnz != count:
        raise ShapeError(
            f"the sparse {name} has duplicate entries; sum them first (coalesce() in torch, "
            "sum_duplicates() in JAX)"
        )
    order = numbered.astype(np.int32) - np.int32(1)
    return pattern, None if (order == np.arange(count)).all() else order


def arranged(value: Floats | None, order: NDArray[np.int32] | None) -> Floats | None:
    """The entries of the last axis in the model's order."""
    return value if value is None or order is None else value[..., order]


def restored(grad: Floats | None, order: NDArray[np.int32] | None) -> Floats | None:
    """The entries of the last axis in the user's order."""
    if grad is None or order is None:
        return grad
    made = np.empty_like(grad)
    made[..., order] = grad
    return made
