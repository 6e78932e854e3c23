"""`Layer.check_gradients`: the layer's gradient against differences of tight solves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._exceptions import ProblemError
from .._types import Floats
from .function import SolveFunction
from .outcome import Latest

__all__ = ["GradientCheck", "check_gradients"]


STEP = 1e-5
"""Relative to the size of a parameter."""

NOISE = 1e-13
"""What a polished solve may be off by, relatively: where a gradient is 0 differences are not."""


@dataclass(frozen=True)
class GradientCheck:
    """How the gradient of each parameter compares with central differences.

    Attributes
    ----------
    errors
        ``{parameter: largest relative difference over the directions tried}``.
    tolerance
        What counts as agreement.
    """

    errors: dict[str, float]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every parameter agrees."""
        return not self.disagreeing

    @property
    def disagreeing(self) -> list[str]:
        """The parameters that do not agree."""
        return [name for name, error in self.errors.items() if not error <= self.tolerance]

    def __str__(self) -> str:
        lines = [
            f"  {name}: {error:.1e}{'' if error <= self.tolerance else '  <- disagrees'}"
            for name, error in self.errors.items()
        ]
        if self.ok:
            verdict = "the gradients agree with central differences"
        else:
            verdict = (
                f"the gradients of {', '.join(self.disagreeing)} disagree with central "
                "differences; see report(): at a kink they must, and where x is not unique"
            )
        return "\n".join(
            [f"{verdict} (relative difference, tolerance {self.tolerance:.0e})", *lines]
        )


def check_gradients(
    function: SolveFunction,
    names: Sequence[str],
    values: Sequence[Any],
    *,
    directions: int = 3,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> GradientCheck:
    """Compare one random cotangent's gradient along random directions of each parameter.

    The solves are polished to full accuracy, so their differences are those of the solution map.
    """
    if directions < 1:
        raise ProblemError(f"directions={directions}; expected at least 1")
    rng = np.random.default_rng(seed)
    tight = function.with_settings(replace(function.settings, polish=True))
    tight.latest = Latest()  # these are no calls of the user's
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    outputs, state = tight.forward(arrays, quiet=True)
    cotangents = [rng.standard_normal(out.shape) for out in outputs]
    gradients = tight.vjp(state, list(cotangents), [True] * len(arrays), quiet=True)
    # Differences step out of what is declared: off a diagonal, over a bound.
    stepping = tight.with_settings(replace(tight.settings, check_attributes=False))

    noise = NOISE * sum(
        float(np.vdot(np.abs(c), np.abs(out))) for c, out in zip(cotangents, outputs, strict=True)
    )

    def along(k: int, value: Floats) -> float:
        moved, _ = stepping.forward([*arrays[:k], value, *arrays[k + 1 :]], quiet=True)
        return sum(float(np.vdot(c, m)) for c, m in zip(cotangents, moved, strict=True))

    errors = {}
    for k, (name, value, gradient) in enumerate(zip(names, arrays, gradients, strict=True)):
        assert gradient is not None
        finite = np.isfinite(value)
        step = STEP * (float(np.abs(value[finite]).max(initial=0.0)) or 1.0)
        size = float(np.linalg.norm(gradient))
        worst = 0.0
        for _ in range(directions):
            direction = np.where(finite, _direction(rng, value), 0.0)
            ahead, behind = along(k, value + step * direction), along(k, value - step * direction)
            expected = (ahead - behind) / (2 * step)
            found = float(np.vdot(gradient, direction))
            scale = max(abs(expected), abs(found), 1e-3 * size, 1e-10)
            worst = max(worst, (abs(expected - found) - noise / step) / scale)
        errors[name] = worst
    return GradientCheck(errors, tolerance)


def _direction(rng: np.random.Generator, value: Floats) -> Floats:
    """A random direction; symmetric where the value is a symmetric matrix, and stays one."""
    direction = rng.standard_normal(value.shape)
    if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
        mirrored = value.swapaxes(-1, -2)
        if np.array_equal(value, mirrored):
            direction = 0.5 * (direction + direction.swapaxes(-1, -2))
    return direction
