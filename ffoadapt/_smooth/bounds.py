"""Bounds of a smooth program: constants, or a function of params through which gradients flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._exceptions import DifferentiationError, ParameterError, ProblemError, ShapeError
from .._plugins.framework import Framework
from .._types import Floats, Shape
from . import differences
from .functions import UNFIT
from .model import Model

__all__ = ["Bounds", "BoundsFunction", "bounds_of", "sizes_of"]


class Bounds:
    """The bounds of one element, and their gradients in the leaves."""

    def __init__(self, lower: Floats, upper: Floats, pull: Any = None, push: Any = None) -> None:
        """``pull(lower_bar, upper_bar)`` gives gradients in the leaves, ``push(tangents)`` the
        tangents of both; None where they are constants."""
        self.lower, self.upper, self.pull, self.push = lower, upper, pull, push


def bounds_of(
    framework: Framework, bounds: Any, rebuild: Any, shape: Shape
) -> Callable[[Model], Bounds]:
    """What gives an element's bounds."""
    if not callable(bounds):
        lower, upper = (b.reshape(-1) for b in constant_bounds(bounds, shape))
        fixed = Bounds(lower, upper)
        return lambda model: fixed
    if framework.gradients_by_hand:

        def by_hand(model: Model) -> Bounds:
            pair = called(bounds, rebuild([np.array(leaf) for leaf in model.numbers]))
            lower, upper = (b.reshape(-1) for b in constant_bounds(pair, shape))
            return Bounds(lower, upper, _no_pull, _no_pull)

        return by_hand
    return BoundsFunction(framework, bounds, rebuild, shape).at


class BoundsFunction:
    """lower(params) and upper(params) as the gradient of their sum, weighted."""

    def __init__(self, framework: Framework, function: Any, rebuild: Any, shape: Shape) -> None:
        self.framework, self.function = framework, function
        self.rebuild, self.shape = rebuild, shape
        self.n = int(np.prod(shape))
        self.absent = (False, False)

    def __call__(self, low: Any, high: Any, *leaves: Any) -> Any:
        returned = called(self.function, self.rebuild(leaves))
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise ParameterError(
                f"bounds returned a {type(returned).__name__}; expected a pair (lower, upper)"
            )
        self.absent = returned[0] is None, returned[1] is None
        total = 0.0 * low.sum()
        for weight, bound in ((low, returned[0]), (high, returned[1])):
            if bound is not None:
                if isinstance(bound, list | tuple | np.ndarray):
                    bound = self.framework.from_numpy(np.asarray(bound, dtype=np.float64))
                _fits(bound, self.shape)
                total = total + (weight.reshape(self.shape) * bound).sum()
        return total

    def at(self, model: Model) -> Bounds:
        """The bounds at the parameters of an element."""
        with self.framework.precise():
            low, high = self._both(model.leaves)
        low = np.where(self.absent[0], -np.inf, low)
        high = np.where(self.absent[1], np.inf, high)
        if np.isnan(low).any() or np.isnan(high).any():
            raise ProblemError("the bounds hold NaN; expected numbers, or infinities for none")

        def pull(low_bar: Floats, high_bar: Floats) -> list[Any]:
            gradients = self._gradients(low_bar, high_bar, model.leaves, True)[2:]
            return [
                None if g is None else np.asarray(g, dtype=np.float64).reshape(leaf.shape)
                for g, leaf in zip(gradients, model.numbers, strict=True)
            ]

        return Bounds(low, high, pull, lambda tangents: self._push(model, tangents))

    def _gradients(
        self, low: Floats, high: Floats, leaves: Sequence[Any], needed: bool
    ) -> list[Any]:
        framework = self.framework
        with framework.precise():
            given = [framework.from_numpy(low), framework.from_numpy(high), *leaves]
            gradients = framework.gradients(self, given, [True, True, *(needed for _ in leaves)])[1]
            return [None if g is None else framework.to_numpy(g) for g in gradients]

    def _both(self, leaves: Sequence[Any]) -> list[Floats]:
        """The values, which are gradients in their weights."""
        ones = np.ones(self.n)
        gradients = self._gradients(ones, ones, leaves, False)[:2]
        return [np.zeros(self.n) if g is None else np.asarray(g).reshape(self.n) for g in gradients]

    def _push(self, model: Model, tangents: Sequence[Floats | None]) -> tuple[Floats, Floats]:
        """How both change along tangents of the leaves."""
        pairs = list(zip(tangents, model.numbers, strict=True))
        moving = [(np.abs(t) / sizes_of(x)).max(initial=0.0) for t, x in pairs if t is not None]
        ratio = float(max(moving, default=0.0))
        if ratio == 0.0:
            return np.zeros(self.n), np.zeros(self.n)
        at = differences.steps(ratio)
        rows = []
        for step in np.concatenate((at, -at)):
            moved = [x if t is None else x + step * t for t, x in pairs]
            with self.framework.precise():
                rows.append(np.stack(self._both([self.framework.from_numpy(x) for x in moved])))
        table = np.where(np.isfinite(rows), rows, 0.0)
        low_dot, high_dot = differences.line_derivative(table, at)[0]
        return low_dot, high_dot


def called(function: Callable[[Any], Any], params: Any) -> Any:
    """What the user's bounds are at these params."""
    try:
        return function(params)
    except UNFIT as error:
        raise ParameterError(
            f"bounds failed on these params with {type(error).__name__}: {error}"
        ) from error


def _fits(bound: Any, shape: Shape) -> None:
    own = tuple(np.shape(bound))
    if len(own) > len(shape) or any(
        k not in (1, n) for k, n in zip(own[::-1], shape[::-1], strict=False)
    ):
        raise ShapeError(f"bounds returned one of shape {own}; expected {shape}, as start has")


def sizes_of(x: Floats) -> Floats:
    """Of numbers, no smaller than a share of the largest."""
    size = np.abs(x)
    sizes: Floats = np.maximum(size, 1e-2 * (float(size.max(initial=0.0)) or 1.0))
    return sizes


def constant_bounds(bounds: Any, shape: Shape) -> tuple[Floats, Floats]:
    """A pair of numbers or arrays (None for no bound) as arrays of y's shape."""
    if bounds is None:
        bounds = (None, None)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ParameterError(
            f"bounds is {bounds!r}; expected a pair (lower, upper) of numbers or arrays, or a "
            "function of params that returns one"
        )
    arrays = []
    for name, bound, none in (("lower", bounds[0], -np.inf), ("upper", bounds[1], np.inf)):
        try:
            array = np.asarray(none if bound is None else bound, dtype=np.float64)
            arrays.append(np.broadcast_to(array, shape))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ParameterError(
                f"the {name} bounds are no numbers of shape {shape}: {error}"
            ) from error
        if np.isnan(array).any():
            raise ParameterError(f"the {name} bounds hold NaN")
    return arrays[0], arrays[1]


def _no_pull(*_: Any) -> Any:
    raise DifferentiationError(
        "bounds that depend on params have no gradient with NumPy; write them for torch or JAX"
    )
