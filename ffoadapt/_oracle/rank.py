"""Whether matrices have full rank, in terms that do not depend on the units of rows and columns."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigvalsh, svdvals

from .._types import Floats
from .lapack import cholesky

__all__ = ["SPECTRAL", "SURE", "deficient", "definite_factor"]


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


def definite_factor(matrix: Floats) -> Floats | None:
    """The Cholesky factor as `lapack` uses it, or None where a pivot shows a lost rank."""
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
