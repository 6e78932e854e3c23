"""The hypergradient: d f(x, y(x)) / dx, from first derivatives alone.

For a lower level that is a callable x -> y, the framework differentiates through it. For a plain
function g, `_implicit` solves it and takes the three steps of the oracle of `SmoothLayer`, with its
conjugate gradients and differences, in float64: y by L-BFGS, from where it was; H d = -f_y; and
the difference of g_x along d. `hypergradient` is the seam: whoever has another oracle replaces
`_implicit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._smooth import differences, krylov
from .._types import Floats
from ._arrays import cast
from ._problem import BilevelProblem

__all__ = ["Reduced", "hypergradient"]

Arrays = list[Any]

PAIRS = 10
"""How many steps of L-BFGS are kept, from one hypergradient to the next."""

ITERATIONS = 200
"""Of L-BFGS, and of conjugate gradients, for one hypergradient."""

REFRESH = 100
"""After that many hypergradients the step of the differences is measured again."""


@dataclass(frozen=True)
class Reduced:
    """f(x, y(x)), its gradient in x, y (no array where the lower level gives it), what to keep."""

    value: float
    gradient: Arrays
    y: Arrays
    memory: Mapping[str, Any]
    record: Mapping[str, float]


def hypergradient(
    problem: BilevelProblem,
    x: Arrays,
    y: Arrays,
    memory: Mapping[str, Any],
    batch: Any,
    tolerance: float,
) -> Reduced:
    """The value and the gradient of f(x, y(x)); ``memory`` is what an earlier call kept, or {}."""
    if problem.kind != "function":
        value, gradient = problem.total(x, batch)
        return Reduced(float(value), gradient, y, {}, {})
    with problem.framework.precise(), np.errstate(over="ignore", invalid="ignore"):
        return _implicit(problem, x, y, memory, _wide_batch(batch), tolerance)


def _wide_batch(batch: Any) -> Any:
    """The floating-point arrays of a batch in float64, as x and y are here."""
    if isinstance(batch, Mapping):
        return {key: _wide_batch(part) for key, part in batch.items()}
    if isinstance(batch, list | tuple):
        return tuple(_wide_batch(part) for part in batch)
    if hasattr(batch, "dtype") and "float" in str(batch.dtype) and "64" not in str(batch.dtype):
        return cast(batch, "float64")
    return batch


def _implicit(
    problem: BilevelProblem,
    x: Arrays,
    y: Arrays,
    memory: Mapping[str, Any],
    batch: Any,
    tolerance: float,
) -> Reduced:
    level = _Level(problem, x, batch)
    minimum = _minimize(level.lower, problem.flat_y.vector(y), memory.get("pairs"), tolerance)
    f, fx, fy = problem.upper(level.x, level.leaves(minimum.point), batch)
    right = -problem.flat_y.vector(fy)
    age = int(memory.get("age", 0))
    steps = dict(memory.get("steps", {})) if age % REFRESH else {}

    def difference(name: str, function: Callable[[Floats], Floats], along: Floats) -> Floats:
        return _difference(function, minimum.point, along, steps, name)

    d, residual, curved = _adjoint(
        lambda p: difference("curvature", level.slope, p), right, tolerance
    )
    total = problem.flat_x.vector(fx)
    if d.any():
        total = total + difference("output", level.slope_x, d)
    record = {
        "lower_error": minimum.error,
        "adjoint_residual": residual,
        "lowest_curvature": curved,
    }
    return Reduced(
        float(f),
        problem.flat_x.arrays(total),
        problem.flat_y.narrowed(level.leaves(minimum.point)),
        {"pairs": minimum.pairs, "steps": steps, "age": age + 1},
        record,
    )


class _Level:
    """g at one x and at points of NumPy, in float64."""

    def __init__(self, problem: BilevelProblem, x: Arrays, batch: Any) -> None:
        self.problem, self.batch = problem, batch
        self.x = problem.flat_x.widened(x)
        self._last: tuple[Floats, Arrays] | None = None

    def leaves(self, point: Floats) -> Arrays:
        """Of y; those of the last point are kept."""
        if self._last is None or self._last[0] is not point:
            self._last = point, self.problem.flat_y.arrays(point, wide=True)
        return self._last[1]

    def lower(self, point: Floats) -> tuple[float, Floats]:
        """g and its gradient in y."""
        value, _, slope = self.problem.lower(self.x, self.leaves(point), self.batch, "y")
        return float(value), self.problem.flat_y.vector(slope)

    def slope(self, point: Floats) -> Floats:
        """The gradient of g in y."""
        _, _, slope = self.problem.lower(self.x, self.leaves(point), self.batch, "y")
        return self.problem.flat_y.vector(slope)

    def slope_x(self, point: Floats) -> Floats:
        """The gradient of g in x."""
        _, slope, _ = self.problem.lower(self.x, self.leaves(point), self.batch, "x")
        return self.problem.flat_x.vector(slope)


def _adjoint(
    product: Callable[[Floats], Floats], right: Floats, tolerance: float
) -> tuple[Floats, float, float]:
    """H d = right, the relative residual, and the lowest curvature p'Hp / p'p on the way.

    It stops with what it has where the curvature is not positive.
    """
    if not right.any():
        return np.zeros_like(right), 0.0, np.inf

    def apply(p: Floats) -> tuple[Floats, Floats]:
        iterated = product(p)
        return iterated, iterated

    limit = min(ITERATIONS, 2 * right.size)
    iterated = krylov.conjugate_gradients(apply, right, lambda r: r, tolerance, limit)
    return iterated.x, iterated.residual, iterated.lowest


def _difference(
    function: Callable[[Floats], Floats],
    point: Floats,
    along: Floats,
    steps: dict[str, float],
    name: str,
) -> Floats:
    """The derivative of ``function`` along a direction, at a step that is measured once.

    The step is relative: of the largest entry that moves, to the point's size.
    """
    span = float(np.abs(along).max()) / max(1.0, float(np.abs(point).max(initial=0.0)))
    if (known := steps.get(name)) is not None:
        t = known / span
        return (function(point + t * along) - function(point - t * along)) / (2.0 * t)
    at = differences.steps(span)
    ends = np.stack([function(point + t * along) for t in (*at, *-at)])
    derivative, _, best = differences.line_derivative(ends, at)
    steps[name] = best * span
    return derivative


# ---------------------------------------------------------------------------------- lower level


@dataclass(frozen=True)
class _Minimum:
    point: Floats
    error: float
    pairs: Mapping[str, Any]


def _size(vector: Floats) -> float:
    return float(np.abs(vector).max(initial=0.0))


def _minimize(
    function: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    pairs: Mapping[str, Any] | None,
    tolerance: float,
) -> _Minimum:
    """L-BFGS; the error is the length of the step that it would take next, relative to the point.

    By that it stops, which a factor on the objective does not change. ``pairs`` are the steps and
    differences of gradients that an earlier call kept.
    """
    S = list(pairs["s"]) if pairs else []
    Y = list(pairs["y"]) if pairs else []
    products = [float(s @ y) for s, y in zip(S, Y, strict=True)]
    point, (value, slope) = start, function(start)
    error = np.inf
    for _ in range(ITERATIONS):
        direction = _two_loops(slope, S, Y, products, point)
        error = _size(direction) / max(1.0, _size(point)) if S else np.inf
        if error <= tolerance or not slope.any():
            error = error if slope.any() else 0.0
            break
        step = _searched(function, point, value, slope, direction)
        if step is None:
            if not S:
                break
            S, Y, products = [], [], []  # what was kept does not fit here: start afresh
            continue
        new, new_value, new_slope = step
        s, y = new - point, new_slope - slope
        if (product := float(s @ y)) > 1e-12 * math.sqrt(float(s @ s) * float(y @ y)):
            S, Y = [*S, s][-PAIRS:], [*Y, y][-PAIRS:]
            products = [*products, product][-PAIRS:]
        point, value, slope = new, new_value, new_slope
    kept = {"s": S, "y": Y}
    return _Minimum(point, error, kept)


def _two_loops(
    slope: Floats, S: list[Floats], Y: list[Floats], products: list[float], point: Floats
) -> Floats:
    """-(inverse Hessian) slope; without pairs a thousandth of the point's size along -slope.

    ``products`` are s'y of the pairs.
    """
    if not S:
        length = 1e-3 * max(1.0, _size(point))
        return -slope * (length / max(_size(slope), 1e-300))
    q, weights = -slope, []
    for s, y, product in zip(reversed(S), reversed(Y), reversed(products), strict=True):
        weight = float(s @ q) / product
        weights.append(weight)
        q -= weight * y
    q *= products[-1] / float(Y[-1] @ Y[-1])
    for s, y, product, weight in zip(S, Y, products, reversed(weights), strict=True):
        q += (weight - float(y @ q) / product) * s
    return q


def _searched(
    function: Callable[[Floats], tuple[float, Floats]],
    point: Floats,
    value: float,
    slope: Floats,
    direction: Floats,
) -> tuple[Floats, float, Floats] | None:
    """The first of the steps 1, 1/4, ... that descends, by value or, in its noise, by slope."""
    down = float(slope @ direction)
    if not down < 0.0:
        return None
    t = 1.0
    noise = 1e-14 * abs(value)
    for _ in range(30):
        new = point + t * direction
        new_value, new_slope = function(new)
        if np.isfinite(new_value) and np.isfinite(new_slope).all():
            if new_value <= value + 1e-4 * t * down:
                return new, new_value, new_slope
            flat = abs(new_value - value) <= noise
            if flat and np.linalg.norm(new_slope) < np.linalg.norm(slope):
                return new, new_value, new_slope
        t *= 0.25
    return None
