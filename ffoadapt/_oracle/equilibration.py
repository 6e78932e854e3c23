"""Symmetric Ruiz scaling: d with the rows of diag(d) |K| diag(d) of largest entry near 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _kernel
from .._types import Floats
from .workspace import Workspace

__all__ = ["dense_scaling", "sparse_scaling", "units"]


NEAR = 2.0
"""Equilibration ends where the largest entries of all rows are within this factor of 1."""


def dense_scaling(K: Floats, rounds: int = 12) -> Floats:
    """That of a symmetric matrix K (r, r), to 10 %."""
    magnitude: Any = np.abs(K)
    scale = np.ones(K.shape[0])
    for _ in range(rounds):
        largest = (magnitude * scale).max(axis=1, initial=0.0) * scale
        largest[largest == 0.0] = 1.0
        if np.abs(largest - 1.0).max(initial=0.0) < 0.1:
            break
        scale /= np.sqrt(largest)
    return scale


def units(P: Floats, C: Floats) -> tuple[float, float]:
    """Units of x and of the rows in which P, and then C, have size 1."""
    curvature, steepness = (float(np.abs(v).max(initial=0.0)) for v in (P, C))
    x = 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0
    return x, 1.0 / (steepness * x) if steepness > 0.0 else 1.0


def sparse_scaling(
    space: Workspace, data: Floats, diagonal: Floats, start: tuple[float, float], rounds: int = 10
) -> Floats:
    """That of the triangle in a workspace with these entries and this diagonal, up to a factor 4.

    It starts from `units`. Without these the rows alone could make every largest entry 1, and P,
    in far smaller units, would drown in the regularization. Powers of 2, which scale without
    rounding.
    """
    scale = np.repeat(start, (space.n, diagonal.size - space.n))
    magnitudes = np.abs(data)
    magnitudes[space.last] = np.abs(diagonal)
    space.scaled(magnitudes, scale)
    if _kernel.kernel is not None:
        upper = space.upper.indptr, space.upper.indices
        _kernel.kernel.equilibrate(rounds, NEAR, *upper, magnitudes, scale)
    else:
        _even_out(space, magnitudes, scale, rounds)
    powers: Floats = np.exp2(np.round(np.log2(scale)))
    return powers


def _even_out(space: Workspace, magnitudes: Floats, scale: Floats, rounds: int) -> None:
    """What compiled code does in `sparse_scaling`: both arrays are changed."""
    for _ in range(rounds):
        largest = space.largest(magnitudes)
        largest[largest == 0.0] = 1.0
        if largest.min() >= 1.0 / NEAR and largest.max() <= NEAR:
            break
        factor = 1.0 / np.sqrt(largest)
        space.scaled(magnitudes, factor)
        scale *= factor
