"""`SmoothLayer.check_gradients`: the gradient against differences of solves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._layers.gradient_check import GradientCheck, compared, generator
from .._types import Floats
from .function import SmoothFunction

__all__ = ["check_gradients"]


FLOOR = 1e-4
"""Derivatives of <v, y> are no smaller than this share of |v| |y| over the leaf's size, as far as
differences of solves can tell: these end within 1e-13 of the solution."""


def check_gradients(
    function: SmoothFunction, values: Sequence[Floats], directions: int, tolerance: float, seed: int
) -> GradientCheck:
    """Compare one random cotangent's gradient along random directions of each leaf."""
    rng = generator(seed, directions)
    own = function.apart()
    (y, *_), state = own.forward(values, quiet=True)
    cotangent = rng.standard_normal(y.shape)
    gradients = own.vjp(state, [cotangent, None, None, None, None], [True] * len(values))

    def along(moved: list[Floats]) -> float:
        # From the solution, so that another local minimum is not found.
        return float(np.vdot(cotangent, own.forward(moved, quiet=True, start=y)[0][0]))

    floor = FLOOR * float(np.linalg.norm(cotangent) * np.linalg.norm(y))
    errors = compared(function.names, values, gradients, along, rng, directions, floor=floor)
    return GradientCheck(errors, tolerance)
