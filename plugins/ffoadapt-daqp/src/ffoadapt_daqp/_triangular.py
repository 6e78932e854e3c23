"""Triangular solves by BLAS, large ones without the GIL.

scipy's wrapper of dtrsm holds the GIL, and the threads of a batch would take turns. scipy also
exports the function itself (`cython_blas`): called through ctypes it runs in parallel.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import LowLevelCallable
from scipy.linalg import blas, cython_blas

__all__ = ["solve"]

Floats = NDArray[np.float64]

SHORT = 150
"""Up to this order the wrapper is used: handing the GIL over would cost more than it gains."""


def _function(name: str, arguments: int) -> Any:
    """A function of `cython_blas`; all of its arguments are pointers."""
    found = LowLevelCallable.from_cython(cython_blas, name)
    kind = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer = kind(("PyCapsule_GetPointer", ctypes.pythonapi))
    address = pointer(found.function, found.signature.encode())
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


_dtrsm = _function("dtrsm", 11)
_ONE, _GENERAL = ctypes.byref(ctypes.c_double(1.0)), ctypes.byref(ctypes.c_char(b"N"))


def solve(L: Floats, columns: Floats, transposed: bool = False) -> None:
    """Overwrite the (n, k) ``columns``, in Fortran order, with L^-1 or L'^-1 times them.

    L (n, n) is lower triangular in C order, so that BLAS sees an upper triangular L'.
    """
    if len(L) <= SHORT:
        blas.dtrsm(1.0, L.T, columns, trans_a=int(not transposed), overwrite_b=1)
        return
    flags = map(ctypes.c_char, b"LUN" if transposed else b"LUT")
    side, triangle, on = map(ctypes.byref, flags)
    n, k = map(ctypes.byref, map(ctypes.c_int, columns.shape))
    _dtrsm(side, triangle, on, _GENERAL, n, k, _ONE, L.ctypes.data, n, columns.ctypes.data, n)
