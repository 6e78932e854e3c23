"""`SmoothLayer.check_gradients`: the gradient against differences of solves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._exceptions import ProblemError
from .._layers.gradient_check import GradientCheck
from .._types import Floats
from .function import SmoothFunction

__all__ = ["check_gradients"]


STEP = 1e-5
"""Relative to the size of a leaf."""

FLOOR = 1e-4
"""Derivatives of <v, y> are no smaller than this share of |v| |y| over the leaf's size, as far as
differences of solves can tell: these end within 1e-13 of the solution."""


def check_gradients(
    function: SmoothFunction, values: Sequence[Floats], directions: int, tolerance: float, seed: int
) -> GradientCheck:
    """Compare one random cotangent's gradient along random directions of each leaf."""
    if directions < 1:
        raise ProblemError(f"directions={directions}; expected at least 1")
    rng = np.random.default_rng(seed)
    own = function.apart()
    (y, *_), state = own.forward(values, quiet=True)
    cotangent = rng.standard_normal(y.shape)
    given = [cotangent, None, None, None, None]
    gradients = own.vjp(state, given, [True] * len(values))
    errors = {}
    for k, (name, value) in enumerate(zip(function.names, values, strict=True)):
        gradient, worst = gradients[k], 0.0
        assert gradient is not None
        largest = float(np.abs(value).max(initial=0.0)) or 1.0
        step = STEP * largest
        floor = FLOOR * float(np.linalg.norm(cotangent) * np.linalg.norm(y)) / largest
        for _ in range(directions):
            direction = rng.standard_normal(value.shape)
            ends = []
            for sign in (step, -step):
                moved = [*values[:k], value + sign * direction, *values[k + 1 :]]
                # From the solution, so that another local minimum is not found.
                ends.append(own.forward(moved, quiet=True, start=y)[0][0])
            expected = float(np.vdot(cotangent, ends[0] - ends[1])) / (2 * step)
            found = float(np.vdot(gradient, direction))
            size = 1e-3 * float(np.linalg.norm(gradient))
            scale = max(abs(expected), abs(found), size, floor, 1e-10)
            worst = max(worst, abs(expected - found) / scale)
        errors[name] = worst
    return GradientCheck(errors, tolerance)
