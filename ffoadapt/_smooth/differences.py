"""Derivatives along a line from function values: Ridders' table of central differences.

C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software
4 (1982): differences at steps t, t/r, t/r^2, ... are extrapolated to step 0; where neighbours in
the table agree best, the difference between them is the estimate of the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["line_derivative", "steps"]

Floats = NDArray[np.float64]

START, FACTOR, LEVELS = 1e-2, 4.0, 5
"""The largest step of a table, relative to what moves; from one to the next; how many."""

EPS = float(np.finfo(np.float64).eps)


def steps(span: float) -> Floats:
    """The steps of a table where a unit step moves by ``span``, relatively; each needs the function
    at plus and at minus it."""
    found: Floats = START / span / FACTOR ** np.arange(LEVELS, dtype=np.float64)
    return found


def line_derivative(ends: Floats, at: Floats) -> tuple[Floats, float, float]:
    """The derivative from values at plus, and then at minus the steps ``at``: (2 levels, *shape).

    Returns
    -------
    derivative
        (*shape,); NaN where no two steps gave numbers.
    error
        Estimate of its largest error, rounding of the values included.
    best
        The step whose plain difference is nearest to it.
    """
    ahead, behind = np.split(ends, 2)
    shape = ahead.shape[1:]
    plain = (ahead - behind).reshape(len(at), -1) / (2.0 * at)[:, None]
    fine = np.isfinite(plain).all(axis=-1)
    if fine.sum() < 2:
        return np.full(shape, np.nan), np.inf, float(at[-1])
    at, plain = at[fine], plain[fine]
    best, error = plain[-1], _largest(plain[-1] - plain[-2])
    column: Sequence[Floats] = list(plain)
    ratio = 1.0
    while len(column) > 1:
        ratio *= FACTOR**2
        above = [(ratio * b - a) / (ratio - 1.0) for a, b in pairwise(column)]
        for k, value in enumerate(above):
            doubt = max(_largest(value - column[k]), _largest(value - column[k + 1]))
            if doubt < error:
                best, error = value, doubt
        column = above
    nearest = int(np.abs(plain - best).max(axis=-1, initial=0.0).argmin())
    error = max(error, EPS * _largest(ahead[fine]) / float(at[nearest]))
    return best.reshape(shape), error, float(at[nearest])


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
