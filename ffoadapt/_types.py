"""Types that annotations share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Ints", "Shape"]

Floats: TypeAlias = NDArray[np.float64]

Ints: TypeAlias = NDArray[np.intp]
"""Indices, as NumPy's own functions give them."""

Shape: TypeAlias = tuple[int, ...]
