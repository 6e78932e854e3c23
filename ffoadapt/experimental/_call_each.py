"""Calls of a C function for all elements of a batch, without the interpreter in between."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._runtime import threads

__all__ = ["call_each"]

_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]
"""What all functions of `ctypes` are instances of, whatever library they are from."""


def call_each(function: Any, *arrays: NDArray[Any]) -> None:
    """Call a C function with pointers into arrays, once for each element of their first axis.

    For a `Solver.solve_batch` around a solver that has a C interface. The k-th call is
    ``function(&array_1[k], &array_2[k], ...)``. The GIL is released until all are done, so that
    threads do their parts of a batch at the same time; nor can a user interrupt it before, so give
    it no more at once than takes some tenths of a second. A thread whose batch the user has
    interrupted meanwhile gets a KeyboardInterrupt here.

    Parameters
    ----------
    function
        A function of a library that `ctypes` has loaded. It takes a pointer for each array, calls
        nothing of Python, and what it returns is not looked at.
    arrays
        One to four arrays of one length, or of length 1 where all calls share the element:
        numbers, or structures (`numpy.dtype` with ``align=True``), which may hold addresses
        (``u8``) of further arrays. The caller answers for their layout.

    Raises
    ------
    TypeError
        If the function is none of `ctypes`, or an array is no NumPy array of numbers or structures.
    ValueError
        If there are none, or too many, or of several lengths.
    """
    if not isinstance(function, _FUNCTION):
        raise TypeError(
            f"call_each takes a C function that ctypes has loaded, not {type(function).__name__}"
        )
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.hasobject or not array.ndim:
            kind = f"of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(
                f"call_each takes arrays of numbers or structures with an axis in front, not {kind}"
            )
    if not 1 <= len(arrays) <= 4:
        raise ValueError(f"call_each takes one to four arrays; it was given {len(arrays)}")
    count = min(map(len, arrays)) and max(map(len, arrays))
    if any(len(array) not in (1, count) for array in arrays):
        lengths = ", ".join(str(len(array)) for array in arrays)
        raise ValueError(f"call_each takes arrays of one length; they have {lengths}")
    threads.check()
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    places = tuple([array.ctypes.data for array in arrays])
    steps = tuple([array.strides[0] if len(array) > 1 else 0 for array in arrays])
    _kernel.kernel.call_each(address, count, places, steps)
