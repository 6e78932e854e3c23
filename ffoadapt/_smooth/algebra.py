"""Singular values and eigenvalues: of small matrices by LAPACK itself, for NumPy's wrappers take
several times as long as they do. LAPACK of scipy holds the GIL, so large ones are left to NumPy."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from .._types import Floats

__all__ = ["eigh", "svd"]


SMALL = 64
"""The order of a small matrix."""


def svd(A: Floats, full: bool) -> tuple[Floats, Floats, Floats]:
    """As `numpy.linalg.svd`."""
    if max(A.shape) <= SMALL:
        left, values, right, failed = lapack.dgesdd(A, full_matrices=full)
        if not failed:
            return left, values, right
    return np.linalg.svd(A, full_matrices=full)


def eigh(A: Floats) -> tuple[Floats, Floats]:
    """As `numpy.linalg.eigh`."""
    if 0 < len(A) <= SMALL:
        values, vectors, failed = lapack.dsyevd(A, lower=1)
        if not failed:
            return values, vectors
    return np.linalg.eigh(A)
