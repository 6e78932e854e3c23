"""MLX: arrays to and from NumPy, and a solve as a function with derivatives of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from operator import add
from typing import Any

import mlx.core as mx
import numpy as np

from ffoadapt import Differentiable, DifferentiationError, Framework, ParameterError

__all__ = ["MlxFramework"]


class MlxFramework(Framework):
    """MLX arrays of any floating dtype; NumPy arrays are constants."""

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        dtype = _common_dtype([a for a in arrays if isinstance(a, mx.array)])
        given = [a if isinstance(a, mx.array) else _array(a, dtype) for a in arrays]
        return list(_solve(function, dtype)(*given))

    def to_numpy(self, array: Any) -> Any:
        return _numpy(array) if isinstance(array, mx.array) else np.asarray(array)

    # -- functions of a user's

    def from_numpy(self, array: Any) -> mx.array:
        return _array(array, mx.float64)

    def precise(self) -> AbstractContextManager[Any]:
        return mx.stream(mx.cpu)  # GPUs of MLX have no float64

    def gradients(
        self, function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
    ) -> tuple[Any, list[Any]]:
        places = [k for k, on in enumerate(needed) if on]
        if not places:
            return _scalar(function)(*arrays), [None] * len(arrays)
        value, gradients = mx.value_and_grad(_scalar(function), places)(*arrays)
        each = iter(_listed(gradients))
        return value, [next(each) if on else None for on in needed]

    def curvature(
        self, function: Callable[..., Any], arrays: Sequence[Any], directions: Sequence[Any]
    ) -> list[Any]:
        first = mx.grad(_scalar(function), list(range(len(arrays))))
        along = [
            mx.zeros_like(a) if d is None else d for a, d in zip(arrays, directions, strict=True)
        ]
        return list(mx.jvp(first, list(arrays), along)[1])


def _solve(function: Differentiable, dtype: mx.Dtype) -> Callable[..., Any]:
    """(*parameters) -> outputs of one call, whose state stays with it."""
    state: Any = None

    @mx.custom_function
    def solve(*arrays: mx.array) -> tuple[mx.array, ...]:
        nonlocal state
        outputs, state = function.forward([_numpy(a) for a in arrays])
        return tuple(_array(out, dtype) for out in outputs)

    @solve.vjp
    def _(arrays: Any, cotangents: Any, outputs: Any) -> Any:
        arrays = _listed(arrays)
        needed = [mx.issubdtype(a.dtype, mx.floating) for a in arrays]

        def back(*cotangents: mx.array) -> Any:
            gradients = function.vjp(state, [_float64(c) for c in cotangents], needed)
            return tuple(
                mx.zeros_like(a) if g is None else _array(g, a.dtype)
                for g, a in zip(gradients, arrays, strict=True)
            )

        return _once(back, arrays, _listed(cotangents))

    @solve.jvp
    def _(arrays: Any, tangents: Any) -> Any:
        def along(*tangents: mx.array) -> Any:
            moves = function.jvp(state, [_float64(t) for t in tangents])
            return tuple(_array(move, dtype) for move in moves)

        arrays, tangents = _listed(arrays), _listed(tangents)
        given = [
            mx.zeros_like(a) if t is None else t for a, t in zip(arrays, tangents, strict=True)
        ]
        return _once(along, arrays, given)

    return solve


def _once(derivative: Callable[..., Any], arrays: Any, directions: Any) -> Any:
    """A first derivative, which has none itself: MLX would take it for a constant."""

    @mx.custom_function
    def first(*both: mx.array) -> Any:
        return derivative(*both[len(arrays) :])

    def second(*_: Any) -> Any:
        raise DifferentiationError(
            "second derivatives of a solution are not available: take mx.stop_gradient of the "
            "gradient, or finite differences of it"
        )

    first.vjp(second)
    first.jvp(second)
    return first(*arrays, *directions)


def _listed(arrays: Any) -> Any:
    """MLX gives one array without a list."""
    return [arrays] if isinstance(arrays, mx.array) else arrays


def _scalar(function: Callable[..., Any]) -> Callable[..., mx.array]:
    def scalar(*arrays: Any) -> mx.array:
        value = function(*arrays)
        if value.size != 1:
            raise ParameterError(f"a function returned shape {value.shape}; expected a scalar")
        return value.reshape(())

    return scalar


def _array(array: Any, dtype: mx.Dtype) -> mx.array:
    return mx.array(np.asarray(array, order="C"), dtype=dtype)


def _float64(array: mx.array) -> Any:
    return _numpy(array).astype(np.float64, copy=False)


def _numpy(array: mx.array) -> Any:
    """A copy in the dtype in which it came; NumPy has no bfloat16, its numbers come as float32."""
    try:
        mx.eval(array)
    except (RuntimeError, ValueError) as error:
        raise ParameterError(
            "an argument has no numbers under mx.vmap and mx.compile, and a solver needs numbers: "
            "give a batch a leading axis instead of vmap, and compile what is before and behind"
        ) from error
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)


def _common_dtype(arrays: Sequence[mx.array]) -> mx.Dtype:
    if any(mx.issubdtype(a.dtype, mx.complexfloating) for a in arrays):
        raise ParameterError("an argument is complex; expected real numbers")
    none = [mx.zeros(0, a.dtype) for a in arrays if mx.issubdtype(a.dtype, mx.floating)]
    return reduce(add, none).dtype if none else mx.float32
