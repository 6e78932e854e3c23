"""The NumPy framework: arrays in, arrays out. Derivatives are asked for on results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .._exceptions import ParameterError
from .._runtime.text import words
from .framework import Differentiable, Framework

__all__ = ["NumpyFramework"]

_FLOAT64 = np.dtype(np.float64)


class NumpyFramework(Framework):
    """Plain evaluation in the dtype of the inputs."""

    gradients_by_hand = True

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        plain = [a for a in arrays if type(a) is np.ndarray and a.dtype is _FLOAT64]
        if len(plain) == len(arrays):
            return function.forward(plain)[0]
        values = [_numbers(array) for array in arrays]
        outputs, _ = function.forward(values)
        floating = [a.dtype for a in map(np.asarray, arrays) if a.dtype.kind == "f" and a.ndim]
        dtype = np.result_type(*floating) if floating else np.dtype(np.float64)
        return [output.astype(dtype, copy=False) for output in outputs]

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def from_numpy(self, array: Any) -> Any:
        return np.array(array, dtype=np.float64)

    def gradients(
        self, function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
    ) -> tuple[Any, list[Any]]:
        """The function returns both itself: its value, and one gradient (or None) an array."""
        value, gradients = function(*arrays)
        return value, [g if on else None for g, on in zip(gradients, needed, strict=True)]

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        if not sparse.issparse(array):
            return None
        coo = sparse.coo_matrix(array)
        return coo.row, coo.col, coo.data


def _numbers(array: Any) -> Any:
    """Real numbers in their own type, which says what rounding may have done to them."""
    try:
        numbers = np.asarray(array)
        if numbers.dtype.kind == "f":
            return numbers
        if numbers.dtype.kind != "c":
            return numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"an argument is no array of numbers: {words(error)}") from error
    raise ParameterError("an argument is complex; expected real numbers")
