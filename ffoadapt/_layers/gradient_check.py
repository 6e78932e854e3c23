"""`Layer.check_gradients`: the layer's gradient against differences of tight solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._exceptions import ProblemError
from .._types import Floats
from .outcome import Latest

__all__ = ["GradientCheck", "check_gradients", "compared", "generator"]


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
    function: Any,
    names: Sequence[str],
    values: Sequence[Any],
    *,
    directions: int = 3,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> GradientCheck:
    """Compare one random cotangent's gradient along random directions of each parameter.

    ``function`` is a `SolveFunction`, or one like it.

    The solves are polished to full accuracy, so their differences are those of the solution map.
    """
    rng = generator(seed, directions)
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

    def along(moved: list[Floats]) -> float:
        variables, _ = stepping.forward(moved, quiet=True)
        return sum(float(np.vdot(c, m)) for c, m in zip(cotangents, variables, strict=True))

    errors = compared(names, arrays, gradients, along, rng, directions, noise=noise)
    return GradientCheck(errors, tolerance)


def generator(seed: int, directions: int) -> np.random.Generator:
    """Of the random cotangents and directions; raises `ProblemError` where there would be none."""
    if directions < 1:
        raise ProblemError(f"directions={directions}; expected at least 1")
    return np.random.default_rng(seed)


def compared(
    names: Sequence[str],
    values: Sequence[Floats],
    gradients: Sequence[Floats | None],
    along: Callable[[list[Floats]], float],
    rng: np.random.Generator,
    directions: int,
    *,
    noise: float = 0.0,
    floor: float = 0.0,
) -> dict[str, float]:
    """How gradients differ from central differences of ``along(values)``: the largest relative
    difference for each name.

    ``noise`` is what values of ``along`` may be off by, and ``floor``, over the size of a value,
    what derivatives are no smaller than, as far as differences can tell.
    """
    errors = {}
    for k, (name, value, gradient) in enumerate(zip(names, values, gradients, strict=True)):
        assert gradient is not None
        finite = np.isfinite(value)
        largest = float(np.abs(value[finite]).max(initial=0.0)) or 1.0
        step, size = STEP * largest, 1e-3 * float(np.linalg.norm(gradient))
        worst = 0.0
        for _ in range(directions):
            direction = np.where(finite, _direction(rng, value), 0.0)
            ends = [
                along([*values[:k], value + sign * direction, *values[k + 1 :]])
                for sign in (step, -step)
            ]
            expected = (ends[0] - ends[1]) / (2.0 * step)
            claimed = float(np.vdot(gradient, direction))
            scale = max(abs(expected), abs(claimed), size, floor / largest, 1e-10)
            worst = max(worst, (abs(expected - claimed) - noise / step) / scale)
        errors[name] = worst
    return errors


def _direction(rng: np.random.Generator, value: Floats) -> Floats:
    """A random direction; symmetric where the value is a symmetric matrix, and stays one."""
    direction = rng.standard_normal(value.shape)
    if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
        mirrored = value.swapaxes(-1, -2)
        if np.array_equal(value, mirrored):
            direction = 0.5 * (direction + direction.swapaxes(-1, -2))
    return direction
