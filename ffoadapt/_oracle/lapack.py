"""Cholesky, triangular solves and ranks from scipy's LAPACK, large ones in place without the GIL.

scipy's Python wrappers of LAPACK hold the GIL, so threads would take turns. scipy.linalg also
exports the functions themselves (`cython_lapack`, `cython_blas`); called through ctypes they run in
parallel. Below `GIL_ORDER` that takes longer than it saves. Arrays are C-ordered; a symmetric
matrix is its own transpose, so LAPACK's lower triangle is the upper one here: a factor U with
U'U = M.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import blas, cython_blas, cython_lapack, eigvalsh, lapack, svdvals

from .._runtime.costs import GIL_ORDER
from .._types import Floats

__all__ = [
    "SPECTRAL",
    "SURE",
    "cholesky",
    "deficient",
    "definite_factor",
    "solve_both",
    "solve_factor",
    "solve_rows",
]


RANK = 1e-10
"""A Cholesky pivot below this fraction of its diagonal entry counts as a lost rank."""

SURE = 1e-5
"""Where all pivots are above this fraction, the rank is full. Below it a pivot may be the rounding
that earlier small pivots have amplified, and eigenvalues decide."""

NULL = 1e-14
"""An eigenvalue below this, times the order, of the matrix with diagonal 1 counts as zero."""

SPECTRAL = 1e-11
"""An eigenvalue or singular value below this fraction of the largest, of a matrix whose rows and
columns are scaled to one size, counts as zero."""


def _function(module: Any, name: str, arguments: int) -> Any:
    """A LAPACK function by its name; all of its arguments are pointers."""
    capsule = module.__pyx_capi__[name]
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    pointer = get_pointer(capsule, get_name(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(pointer)


_potrf = _function(cython_lapack, "dpotrf", 5)
_trsm = _function(cython_blas, "dtrsm", 11)

_L, _N, _R, _T = (ctypes.byref(ctypes.c_char(letter)) for letter in (b"L", b"N", b"R", b"T"))
_ONE = ctypes.byref(ctypes.c_double(1.0))


@lru_cache(maxsize=4096)
def _size(n: int) -> Any:
    """A pointer to a size or leading dimension."""
    return ctypes.byref(ctypes.c_int(n))


def _data(array: Floats) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def cholesky(matrix: Floats) -> bool:
    """Overwrite a C-ordered (n, n) with its factor U (upper; below it stays); False if it has none.

    Zeros are not written below the diagonal: only the functions here know how to use the factor.
    """
    if len(matrix) <= GIL_ORDER:
        failed: int = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)[1]
        return not failed
    n = _size(matrix.shape[0])
    info = ctypes.c_int()
    _potrf(_L, n, _data(matrix), n, ctypes.byref(info))
    return info.value == 0


def solve_rows(U: Floats, rows: Floats) -> None:
    """Overwrite each row c of a C-ordered (k, n) with U'^-1 c."""
    if not rows.size:
        return
    if len(U) <= GIL_ORDER:
        blas.dtrsm(1.0, U.T, rows.T, lower=1, overwrite_b=1)
    else:
        k, n = map(_size, rows.shape)
        _trsm(_L, _L, _N, _N, n, k, _ONE, _data(U), n, _data(rows), n)


def solve_factor(U: Floats, columns: Floats, transposed: bool) -> None:
    """Overwrite a C-ordered (n, K) with U'^-1 (``transposed``) or U^-1 times it."""
    if not columns.size:
        return
    if columns.shape[1] == 1:  # dtrsm would take many times as long
        columns[:, 0] = blas.dtrsv(U.T, columns[:, 0], lower=1, trans=int(not transposed))
    elif len(U) <= GIL_ORDER:
        blas.dtrsm(1.0, U.T, columns.T, side=1, lower=1, trans_a=int(transposed), overwrite_b=1)
    else:
        n, k = map(_size, columns.shape)
        on = _T if transposed else _N
        _trsm(_R, _L, on, _N, k, n, _ONE, _data(U), n, _data(columns), k)


def solve_both(U: Floats, columns: Floats) -> None:
    """Overwrite a C-ordered (n, K) with (U'U)^-1 times it."""
    solve_factor(U, columns, transposed=True)
    solve_factor(U, columns, transposed=False)


def definite_factor(matrix: Floats) -> Floats | None:
    """The Cholesky factor, or None where a pivot shows a lost rank."""
    U = np.array(matrix, order="C")
    if not U.shape[0]:
        return U
    if not cholesky(U):
        return None
    if not _pivots_above(SURE, U, matrix):
        if not _pivots_above(RANK, U, matrix):
            return None
        scale = 1.0 / np.sqrt(matrix.diagonal())
        if eigvalsh(matrix * scale * scale[:, None])[0] <= NULL * len(scale):
            return None
    return U


def _pivots_above(fraction: float, U: Floats, matrix: Floats) -> bool:
    """Whether all Cholesky pivots are above this fraction of their diagonal entries."""
    pivots = U.diagonal()
    return bool(np.logical_and.reduce(pivots * pivots > fraction * matrix.diagonal()))


def deficient(M: Floats) -> bool:
    """Whether the rows of M are dependent, whatever the units of its rows and columns."""
    if not len(M) or len(M) > M.shape[1]:
        return bool(len(M))
    M = _balanced(M)
    if not np.isfinite(M).all():  # beyond float64
        return True
    values = svdvals(M)
    return not values[-1] > SPECTRAL * values[0]


def _balanced(M: Floats, rounds: int = 50) -> Floats:
    """diag(r) M diag(c) with the rows and columns of largest entry near 1."""
    M = M.copy()
    for _ in range(rounds):
        largest = [np.abs(M).max(axis=axis, keepdims=True, initial=0.0) for axis in (1, 0)]
        for size in largest:
            size[size == 0.0] = 1.0
        if all(np.abs(size - 1.0).max(initial=0.0) < 0.1 for size in largest):
            break
        M /= np.sqrt(largest[0])
        M /= np.sqrt(largest[1])
    return M
