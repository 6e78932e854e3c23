"""The twins in NumPy of what is compiled, function by function, with the same parameters.

Arrays are C-contiguous, of float64, int64 and bool; `c/` takes them by position only.

Where the compiled code gains nothing that NumPy could have too, a twin says so in the terms of the
interface: no element has a least-distance form, no library shares a signal.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ddot

from .._types import Floats
from .measures import measure
from .systems import bounds_suffice, factorize, prepare, solve

__all__ = [
    "all_finite",
    "bounds_suffice",
    "call_each",
    "cholesky",
    "equilibrate",
    "factorize",
    "from_least_distance",
    "interrupted_since",
    "measure",
    "memory",
    "prepare",
    "products",
    "products_on_pattern",
    "row_squares",
    "same_entries",
    "share_interrupts",
    "solve",
    "to_least_distance",
    "watch_interrupts",
]

Pattern = NDArray[np.int32]

SHORT = 8192
"""Up to this length a dot product is computed by one thread."""


def memory(size: int) -> Any:
    return np.empty(size, np.uint8)


def all_finite(*arrays: Floats) -> bool:
    """A cheap look: True says that all entries are finite, False that some may not be."""
    # Sums of finite numbers are finite unless they overflow.
    for values in arrays:
        if values.size > SHORT:
            with np.errstate(invalid="ignore", over="ignore"):
                total = values.sum()
        else:
            flat = values.ravel("K")
            total = ddot(flat, flat) if flat.size else 0.0  # NumPy's would warn of an overflow
        if not math.isfinite(total):
            return False
    return True


@np.errstate(all="ignore")
def row_squares(m: int, n: int, A: Floats, out: Floats) -> None:
    # einsum would sum in an order that the size of the batch decides
    np.add.reduce(np.square(A), axis=-1, out=out)


@np.errstate(all="ignore")
def cholesky(n: int, P: Floats, U: Floats, asymmetry: float, share: float) -> bool:
    diagonal = P.diagonal(axis1=-2, axis2=-1)
    size = np.maximum.reduce(diagonal, axis=-1, initial=0.0)
    apart = np.abs(P - P.swapaxes(-1, -2)).max(axis=(-2, -1), initial=0.0)
    if not (apart <= asymmetry * size).all():
        return False
    try:
        U[...] = np.linalg.cholesky(P.swapaxes(-1, -2)).swapaxes(-1, -2)
    except np.linalg.LinAlgError:
        return False
    return bool((U.diagonal(axis1=-2, axis2=-1) ** 2 > share * diagonal).all())


@np.errstate(all="ignore")
def products(
    rows: int,
    n: int,
    begin: int,
    end: int,
    sign: float,
    z: Floats,
    zeta: Floats,
    w: Floats,
    x: Floats,
    out: Floats,
) -> None:
    z, zeta, w, x = _vectors(rows, n, z, zeta, w, x)
    part = slice(begin, end)
    left = np.stack((z[part], zeta[part]), axis=-1) * sign
    np.matmul(left, np.stack((w[part], x[part]), axis=-2), out=out.reshape(-1, rows, n)[part])


@np.errstate(all="ignore")
def products_on_pattern(
    rows: int,
    n: int,
    group: int,
    sign: float,
    indptr: Pattern,
    indices: Pattern,
    z: Floats,
    zeta: Floats,
    w: Floats,
    x: Floats,
    out: Floats,
) -> None:
    z, zeta, w, x = _vectors(rows, n, z, zeta, w, x)
    values = out.reshape(-1, indices.size)
    values.fill(0.0)
    for entries, columns in runs(indptr):
        at, counts = indices[entries], np.diff(indptr[columns.start : columns.stop + 1])
        for k in range(len(w)):
            w_k, x_k = (np.repeat(v[k, columns], counts) for v in (w, x))
            values[k // group, entries] += sign * (z[k, at] * w_k + zeta[k, at] * x_k)


def runs(indptr: Pattern, entries: int = 32_768) -> Iterator[tuple[slice, slice]]:
    """Runs of columns with about so many entries: (which entries, which columns)."""
    ends = np.searchsorted(indptr, np.arange(entries, indptr[-1], entries))
    edges = np.unique(np.concatenate(([0], ends, [indptr.size - 1]))).tolist()
    for first, end in itertools.pairwise(edges):
        yield slice(int(indptr[first]), int(indptr[end])), slice(first, end)


def _vectors(rows: int, n: int, *vectors: Floats) -> list[Floats]:
    """z, zeta, w and x, each with as many rows as w: the rows of shorter ones come in turn."""
    if rows <= 0 or n <= 0:
        raise ValueError("the vectors and their products do not have sizes that fit")
    count, widths = vectors[2].size // n, (rows, rows, n, n)
    parts = (v.reshape(-1, width) for v, width in zip(vectors, widths, strict=True))
    return [v if len(v) == count else np.tile(v, (count // len(v), 1)) for v in parts]


def equilibrate(
    rounds: int, near: float, indptr: Pattern, indices: Pattern, magnitudes: Floats, scale: Floats
) -> None:
    columns = np.repeat(np.arange(scale.size), np.diff(indptr))
    for _ in range(rounds):
        largest = np.zeros(scale.size)
        np.maximum.at(largest, indices, magnitudes)
        np.maximum.at(largest, columns, magnitudes)
        largest[largest == 0.0] = 1.0
        if largest.min(initial=1.0) >= 1.0 / near and largest.max(initial=1.0) <= near:
            break
        factor = 1.0 / np.sqrt(largest)
        magnitudes *= factor[indices]
        magnitudes *= factor[columns]
        scale *= factor


def same_entries(
    indptr: Pattern,
    indices: Pattern,
    order: Pattern | None,
    rows: NDArray[np.signedinteger[Any]],
    columns: NDArray[np.signedinteger[Any]],
) -> bool:
    if order is not None:
        rows, columns = rows[order], columns[order]
    if not np.array_equal(indices, rows):
        return False
    return np.array_equal(np.repeat(np.arange(indptr.size - 1), np.diff(indptr)), columns)


def to_least_distance(
    n: int,
    m: int,
    least: float,
    pivot: float,
    dependent: float,
    P: Floats,
    q: Floats,
    A: Floats,
    l: Floats,
    u: Floats,
    U: Floats | None,
    state: Floats,
    equalities: Pattern,
) -> None:
    equalities.fill(-1)


def from_least_distance(
    n: int,
    m: int,
    P: Floats,
    q: Floats,
    A: Floats,
    l: Floats,
    u: Floats,
    U: Floats | None,
    state: Floats,
    equalities: Pattern,
    t: Floats,
    dual: Floats,
    x: Floats,
    multipliers: Floats,
) -> None:
    x[...], multipliers[...] = t, dual


def call_each(
    function: int, count: int, addresses: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(addresses))(function)
    for k in range(count):
        call(*(place + k * step for place, step in zip(addresses, steps, strict=True)))


def share_interrupts(paths: tuple[str, ...]) -> int:
    return 0


def watch_interrupts(seconds: float) -> None:
    pass


def interrupted_since(start: float) -> bool:
    return False
