"""What users hand in, checked where it comes in: real numbers, and sparse matrices that are sound.

Compiled code and solvers follow the indices of a matrix without a look, and NumPy makes numbers of
much that is none: words, None, what a mask hides. Nothing of that comes further than here.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._cones import Cone
from .._exceptions import ParameterError, ProblemError, ShapeError
from .._plugins.framework import Framework
from .._types import Floats

__all__ = [
    "OTHERS",
    "SPARSE",
    "check_bounds",
    "check_cones",
    "checked",
    "coordinates",
    "dense",
    "identity",
    "matrix",
    "numbers",
    "odd_size",
    "plain",
    "vector",
]

SPARSE = (sparse.sparray, sparse.spmatrix)
"""scipy's sparse types; to ask for them takes less time than sparse.issparse."""

_FLOAT64 = np.dtype(np.float64)

_PLAIN = (np.ndarray, np.generic, list, tuple, int, float, *SPARSE)
"""What NumPy reads; arrays of other types are for their framework to read."""

_OURS = (np.ndarray, np.generic, *SPARSE)

OTHERS: set[type] = set()
"""Types that are none of these, as they come; to look one up takes a tenth of the time."""

_WORDS = {
    **{"c": "it is complex", "M": "it holds dates", "m": "it holds spans of time"},
    **dict.fromkeys("UST", "it holds words"),
}
"""What arrays of these kinds of dtype hold."""


def checked(name: str, value: Any, sparse_too: bool = False) -> Any:
    """The value; see `numbers` for what it is not. Other frameworks' arrays are theirs to check.

    Arrays become plain ndarrays; lists stay lists, which have no precision of their own.
    """
    if not isinstance(value, _PLAIN):
        if len(OTHERS) < 1000:  # there are classes made on the fly
            OTHERS.add(type(value))
        return value
    if sparse_too and isinstance(value, SPARSE):
        return value
    if isinstance(value, list | tuple):
        _check_entries(name, value)
    array = numbers(name, value)
    if isinstance(value, np.ndarray):
        return array
    if isinstance(value, list | tuple) and array.dtype == _FLOAT64:
        return array.tolist()  # integers that only float64 can hold became floats
    return value


def dense(framework: Framework, value: Any) -> Any:
    """A sparse value of a parameter as a full array; its gradient is on the value's pattern.

    Others are returned as they are.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, SPARSE):
        return value.toarray()
    try:
        if framework.sparse_parts(value) is None:
            return value
    except (ParameterError, ShapeError):
        pass  # sparse, of another kind than qp takes
    return value.to_dense() if hasattr(value, "to_dense") else value.todense()


def _check_entries(name: str, value: Any) -> None:
    """Raise where a list holds another framework's arrays, whose gradients would be lost."""
    entries = value
    while len(entries) and isinstance(entries[0], list | tuple):
        entries = entries[0]
    arrays = [e for e in entries if hasattr(e, "shape") and not isinstance(e, _OURS)]
    if arrays:
        kind = f"{type(arrays[0]).__module__.partition('.')[0]}.{type(arrays[0]).__name__}"
        raise ParameterError(
            f"{name} is a {type(value).__name__} that holds a {kind}; expected one array. Join "
            "its entries with the framework's own function (stack), through which gradients flow"
        )


def odd_size(data: Mapping[str, Any]) -> str | None:
    """What to say where the sizes of a program's vectors do not fit its matrices; None where they
    do, or where the matrices do not fit each other.

    ``data`` are those of `qp`, `box_qp` or `cone_program` by name. A vector that several others
    outvote is named alone, else both that do not fit.
    """
    shapes = {name: tuple(np.shape(value)) for name, value in data.items() if value is not None}
    matrices = {k: shapes[k][-2:] for k in ("P", "G", "A") if len(shapes.get(k, ())) > 1}
    words = {k: f"the sparse {k}" if isinstance(data[k], SPARSE) else k for k in matrices}
    columns = {shape[1] for shape in matrices.values()}
    square = matrices.get("P", (0, 0))
    if len(columns) == 1 and square[0] == square[1] and shapes.get("q"):
        (n,) = columns
        if shapes["q"][-1] != n:
            said = " and ".join(f"{words[k]} has shape {shapes[k]}" for k in matrices)
            return f"q has shape {shapes['q']}, but {said}; expected ({n},)"
    for k, sides in (("G", "h"), ("A", "bul")):
        sizes = {side: shapes[side][-1] for side in sides if shapes.get(side)}
        odd = [side for side in sizes if k in matrices and sizes[side] != matrices[k][0]]
        if len(odd) != 1:
            continue
        (side,), (rows, n) = odd, matrices[k]
        other = next((name for name in sizes if name != side), None)
        if other is not None:
            said = f"{words[k]} has shape {shapes[k]} and {other} has shape {shapes[other]}"
            return f"{side} has shape {shapes[side]}; expected ({rows},), because {said}"
        return (
            f"{words[k]} has shape {shapes[k]}; expected ({sizes[side]}, {n}) for {side} of shape "
            f"{shapes[side]}, or {side} of shape ({rows},)"
        )
    return None


def plain(value: NDArray[Any]) -> bool:
    """Whether there is nothing left to check of an ndarray that is of no other type."""
    aligned: bool = value.dtype is _FLOAT64 and value.flags.aligned
    return aligned


def numbers(name: str, value: Any) -> NDArray[Any]:
    """The value as an ndarray of real numbers: floats, integers or booleans, as they are.

    Raises
    ------
    ParameterError
        Where it is sparse, or an entry is no real number: complex, a word, a date, None, hidden by
        a mask, a sequence among numbers, an integer beyond float64.
    """
    if type(value) is np.ndarray and plain(value):
        return value
    if isinstance(value, SPARSE):
        raise ParameterError(
            f"{name} is a sparse {type(value).__name__}; expected a dense array. Only the matrices "
            "P, G and A of qp, box_qp, cone_program and ConeProgram may be sparse; convert it with "
            ".toarray()"
        )
    if isinstance(value, np.ma.MaskedArray) and (hidden := int(np.ma.getmaskarray(value).sum())):
        raise ParameterError(
            f"{name} is a masked array with {hidden} masked entries; expected a number everywhere. "
            "Fill them in with .filled(number)"
        )
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            _check_objects(array)
            array = array.astype(np.float64)
        elif array.dtype.kind == "f" and array.dtype.itemsize > 8:  # of the platform's own
            array = array.astype(np.float64)
        elif not array.dtype.isnative and array.dtype.kind in "fiu":
            array = array.astype(array.dtype.newbyteorder("="))
        elif array.dtype.kind not in "fiub" and not _is_float(array.dtype):
            raise TypeError(_WORDS.get(array.dtype.kind, f"its dtype is {array.dtype}"))
        if not array.flags.aligned:  # compiled code takes no other
            array = array.copy()
    except Exception as error:  # a conversion of foreign objects may raise anything
        raise ParameterError(
            f"{name} is no array of numbers: {error}; expected real numbers that float64 can "
            "hold, in rows of one length"
        ) from error
    return array


def _check_objects(array: NDArray[Any]) -> None:
    for entry in array.ravel().tolist():
        if not isinstance(entry, Real):
            raise TypeError(f"it holds a {type(entry).__name__}")


def _is_float(dtype: np.dtype[Any]) -> bool:
    """Whether this is a type of floats from outside of NumPy, such as bfloat16."""
    return dtype.kind == "V" and dtype.names is None and np.can_cast(dtype, np.float64)


def coordinates(name: str, matrix: Any) -> sparse.coo_matrix:
    """A scipy.sparse matrix by coordinates: entries sorted by column and row, each once, in arrays
    of their own.

    Raises
    ------
    ShapeError
        Where it has not two axes.
    ParameterError
        Where its pointers, indices and values do not fit together, or are out of range, or its
        values are no real numbers.
    """
    if len(matrix.shape) != 2:
        raise ShapeError(f"the sparse {name} has shape {matrix.shape}; expected a matrix")
    try:
        if matrix.format in ("csr", "csc", "bsr"):
            matrix = _followed(matrix)
        entries = sparse.coo_matrix(matrix)  # checks that the indices are in range
        if not entries.row.size == entries.col.size == entries.data.size:
            raise ValueError("it has not as many row and column indices as values")
    except Exception as error:
        raise ParameterError(
            f"the arrays of the sparse {name} state no matrix: {error}. They were changed after it "
            "was made, or do not belong together; build it anew from rows, columns and values"
        ) from error
    entries.data = numbers(f"the sparse {name}", entries.data)
    entries.sum_duplicates()
    return entries


def _followed(matrix: Any) -> Any:
    """The matrix, where its pointers can be followed, without what is behind the last of them."""
    ends, size = np.asarray(matrix.indptr), min(len(matrix.indices), len(matrix.data))
    lines = matrix.shape[1 if matrix.format == "csc" else 0]
    if matrix.format == "bsr":
        lines //= matrix.blocksize[0]
    if ends.shape != (lines + 1,) or ends.dtype.kind not in "iu":
        raise ValueError(f"indptr has shape {ends.shape}, expected {lines + 1} integers")
    if ends[0] != 0 or (ends[1:] < ends[:-1]).any():
        raise ValueError("indptr does not ascend from 0")
    if ends[-1] > size:
        raise ValueError(f"indptr ends at {ends[-1]}, beyond its {size} entries")
    if max(len(matrix.indices), len(matrix.data)) > ends[-1]:
        end = int(ends[-1])
        parts = matrix.data[:end], matrix.indices[:end], ends
        return type(matrix)(parts, shape=matrix.shape)
    return matrix


def check_cones(cones: Any) -> tuple[Cone, ...]:
    """The cones as a tuple, each checked to be one."""
    try:
        cones = tuple(cones)
    except TypeError:
        raise ProblemError(f"cones is {cones!r}; expected a list of cones") from None
    for cone in cones:
        if not isinstance(cone, Cone):
            raise ProblemError(
                f"cones holds {cone!r}; expected ffoadapt.ZeroCone(m), NonnegativeCone(m), "
                "SecondOrderCone(m), PSDCone(n), ExponentialCone() or PowerCone(alpha)"
            )
    return cones


def vector(name: str, value: Any) -> Floats:
    """A (k,) float64 array of user data, a copy."""
    array = numbers(name, value)
    if array.ndim != 1:
        raise ShapeError(f"{name} has shape {array.shape}; expected one axis")
    return array.astype(np.float64)


def matrix(name: str, value: Any, rows: int, columns: int) -> Any:
    """A (rows, columns) ndarray or sparse matrix of user data, a copy; None stays None (zero)."""
    if value is None:
        if name != "P" and rows:
            raise ShapeError(f"{name} is missing, but its right-hand side has {rows} rows")
        return None
    array = coordinates(name, value) if sparse.issparse(value) else numbers(name, value)
    if array.shape != (rows, columns):
        raise ShapeError(f"{name} has shape {array.shape}; expected ({rows}, {columns})")
    return array if sparse.issparse(array) else array.astype(np.float64)


def identity(n: int, dense: bool) -> Any:
    """The A of a box program whose bounds are on x itself."""
    return np.eye(n) if dense else sparse.identity(n, format="csc")


def check_bounds(n: int, rows: int) -> None:
    """Raise unless there are as many bounds as variables."""
    if rows != n:
        raise ShapeError(
            f"A is None, so that l and u are bounds on x: expected {n} of each, got {rows}"
        )
