"""Arrays in memory that is used again, and memory that is not to be written to.

The system takes the memory of large arrays back when they are freed, and hands it out anew page by
page. For the matrices of a batch and their gradients that takes as long as to compute them. The
compiled code keeps such memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .costs import LARGE_ARRAY

__all__ = ["empty", "read_only"]


def empty(*shape: int) -> NDArray[np.float64]:
    """As `numpy.empty`."""
    count = math.prod(shape)
    if count < LARGE_ARRAY:
        return np.empty(shape)
    return np.frombuffer(_kernel.kernel.memory(8 * count)).reshape(shape)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view through which nobody writes."""
    view = array[...]  # takes a third of the time of `view` and `flags`
    view.setflags(write=False)
    return view
