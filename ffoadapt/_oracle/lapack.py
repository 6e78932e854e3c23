"""Cholesky and triangular solves from scipy's LAPACK, in place, large ones without the GIL.

scipy's Python wrappers of LAPACK hold the GIL, so threads would take turns. scipy.linalg also
exports the functions themselves (`cython_lapack`, `cython_blas`); called through ctypes they run in
parallel. Below `SHORT` that takes longer than it saves. Arrays are C-ordered; a symmetric matrix is
its own transpose, so LAPACK's lower triangle is the upper one here: a factor U with U'U = M.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from scipy.linalg import blas, cython_blas, cython_lapack, lapack

from .._types import Floats

__all__ = ["SHORT", "cholesky", "solve_both", "solve_factor", "solve_rows"]


SHORT = 150
"""Up to this order the functions keep the GIL: handing it over would cost more than a second core
gains (measured)."""


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
    if len(matrix) <= SHORT:
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
    if len(U) <= SHORT:
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
    elif len(U) <= SHORT:
        blas.dtrsm(1.0, U.T, columns.T, side=1, lower=1, trans_a=int(transposed), overwrite_b=1)
    else:
        n, k = map(_size, columns.shape)
        on = _T if transposed else _N
        _trsm(_R, _L, on, _N, k, n, _ONE, _data(U), n, _data(columns), k)


def solve_both(U: Floats, columns: Floats) -> None:
    """Overwrite a C-ordered (n, K) with (U'U)^-1 times it."""
    solve_factor(U, columns, transposed=True)
    solve_factor(U, columns, transposed=False)
