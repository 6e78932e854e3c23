"""Cholesky factors of stacks of small matrices and the inverses of these factors.

numpy.linalg's own function for stacks raises for all where one matrix has no factor, and its `inv`
knows nothing of triangles. On a 10 x 10 matrix both spend more time on looking at their arguments
than on the result. So this calls what they call; a NumPy that has moved that away gets the public
function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

__all__ = ["cholesky", "chunks", "invert_factors"]

Floats = NDArray[np.float64]

CHUNK = 32_768
"""Entries of a chunk: a quarter of a megabyte."""


def cholesky(matrices: Floats) -> Floats:
    """The lower Cholesky factors of (B, n, n); NaN on the diagonal where there is none."""
    found: Floats
    with np.errstate(invalid="ignore"):
        found = _cholesky(matrices)
    return found


def invert_factors(L: Floats) -> Floats:
    """The inverses (B, n, n) of lower triangular matrices, whose upper triangles are 0.

    They are written over L where that is in C order.
    """
    L = np.ascontiguousarray(L)  # LAPACK would work on copies of anything else
    if L.shape[-1]:
        for U in L.swapaxes(-1, -2):  # as LAPACK sees it: upper triangular, by columns
            lapack.dtrtri(U, 0, 0, 1)
    return L


def chunks(count: int, entries: int) -> list[slice]:
    """Slices of ``count`` arrays of so many entries, small enough for the processor's cache.

    What is computed in chunks finds its operands there again, and each chunk takes over the memory
    of the temporary arrays of the one before.
    """
    step = max(1, CHUNK // max(1, entries))
    if 0 < count <= step:
        return [slice(count)]
    return [slice(k, k + step) for k in range(0, count, step)]


def _one_by_one(matrices: Floats) -> Floats:
    """`cholesky` by numpy's public function."""
    try:
        found: Any = np.linalg.cholesky(matrices)
        return found
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([_one_by_one(matrix[None]) for matrix in matrices])


_cholesky: Any = getattr(getattr(np.linalg, "_umath_linalg", None), "cholesky_lo", _one_by_one)
