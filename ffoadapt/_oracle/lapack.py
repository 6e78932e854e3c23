"""Cholesky and triangular solves from scipy's LAPACK, in place and without the GIL.

scipy's Python wrappers of LAPACK hold the GIL, so threads would take turns. scipy.linalg also
exports the functions themselves (`cython_lapack`, `cython_blas`); called through ctypes they run in
parallel. Arrays are C-ordered; a symmetric matrix is its own transpose, so LAPACK's lower triangle
is the upper one here: a factor U with U'U = M.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

__all__ = ["cholesky", "solve_factor", "solve_rows"]

Floats = NDArray[np.float64]


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
    """A pointer to a size or leading dimension, which LAPACK wants to be at least 1."""
    return ctypes.byref(ctypes.c_int(n))


def _data(array: Floats) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def cholesky(matrix: Floats) -> bool:
    """Overwrite a C-ordered (n, n) with its factor U (upper; below it stays); False if it has none.

    Zeros are not written below the diagonal: only the functions here know how to use the factor.
    """
    n = _size(matrix.shape[0])
    info = ctypes.c_int()
    _potrf(_L, n, _data(matrix), n, ctypes.byref(info))
    return info.value == 0


def _solve(side: Any, transposed: Any, U: Floats, B: Floats, rows: int, columns: int) -> None:
    if rows and columns:
        m, k, n = _size(rows), _size(columns), _size(U.shape[0])
        _trsm(side, _L, transposed, _N, m, k, _ONE, _data(U), n, _data(B), m)


def solve_rows(U: Floats, rows: Floats) -> None:
    """Overwrite each row c of a C-ordered (k, n) with U'^-1 c."""
    _solve(_L, _N, U, rows, rows.shape[1], rows.shape[0])


def solve_factor(U: Floats, columns: Floats, transposed: bool) -> None:
    """Overwrite a C-ordered (n, K) with U'^-1 (``transposed``) or U^-1 times it."""
    _solve(_R, _T if transposed else _N, U, columns, columns.shape[1], columns.shape[0])
