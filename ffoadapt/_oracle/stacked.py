"""Cholesky factors and inverses of stacks of small matrices, NaN where there is none.

numpy.linalg's own functions for stacks raise for all where one fails, and on a 10 x 10 matrix spend
more time on looking at their arguments than on the result. Both are avoided by calling what they
call; a NumPy that has moved that away gets the public functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cholesky", "inverse"]

Floats = NDArray[np.float64]


def cholesky(matrices: Floats) -> Floats:
    """The lower Cholesky factors of (B, n, n); NaN on the diagonal where there is none."""
    found: Floats
    with np.errstate(invalid="ignore"):
        found = _cholesky(matrices)
    return found


def inverse(matrices: Floats) -> Floats:
    """The inverses of (B, n, n), which must have one."""
    found: Floats = _inverse(matrices)
    return found


def _one_by_one(matrices: Floats) -> Floats:
    """`cholesky` by numpy's public function."""
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([_one_by_one(matrix[None]) for matrix in matrices])


_lapack = getattr(np.linalg, "_umath_linalg", None)
_cholesky: Any = getattr(_lapack, "cholesky_lo", _one_by_one)
_inverse: Any = getattr(_lapack, "inv", np.linalg.inv)
