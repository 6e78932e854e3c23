"""Automatic differentiation in reverse mode: it stands where the framework that you adapt will be.

It knows nothing of ffoadapt, as a vendor's package would not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Array", "gradient"]


class Array:
    """Numbers, the arrays that they were computed from, and how a cotangent goes back to these."""

    __array_ufunc__ = None  # NumPy leaves its operators to ours

    def __init__(
        self,
        value: Any,
        inputs: Sequence[Array] = (),
        back: Callable[[Any], Sequence[Any]] | None = None,
    ) -> None:
        self.value, self.inputs, self.back = np.asarray(value), inputs, back
        self.shape, self.dtype, self.ndim = self.value.shape, self.value.dtype, self.value.ndim

    def __add__(self, other: Array) -> Array:
        return Array(self.value + other.value, (self, other), lambda g: (g, g))

    def __mul__(self, other: Any) -> Array:
        """The product with a number, or with an array of the same shape."""
        if not isinstance(other, Array):
            return Array(self.value * other, (self,), lambda g: (g * other,))
        a, b = self.value, other.value
        return Array(a * b, (self, other), lambda g: (g * b, g * a))

    __rmul__ = __mul__

    def sum(self) -> Array:
        """The sum of all numbers."""
        return Array(self.value.sum(), (self,), lambda g: (np.full(self.shape, g),))


def gradient(function: Callable[..., Array], arrays: Sequence[Array]) -> list[Any]:
    """The gradients of ``function(*arrays)``, a number, with respect to each array."""
    result = function(*arrays)
    order: list[Array] = []
    _visit(result, order, set())
    cotangents: dict[int, Any] = {id(result): np.ones(())}
    for array in reversed(order):
        cotangent = cotangents.get(id(array))
        if cotangent is None or array.back is None:
            continue
        for source, part in zip(array.inputs, array.back(cotangent), strict=True):
            if part is not None:
                cotangents[id(source)] = cotangents.get(id(source), 0.0) + part
    zeros = (np.zeros(array.shape) for array in arrays)
    return [
        Array(np.asarray(cotangents.get(id(array), zero), dtype=array.dtype))
        for array, zero in zip(arrays, zeros, strict=True)
    ]


def _visit(array: Array, order: list[Array], seen: set[int]) -> None:
    if id(array) not in seen:
        seen.add(id(array))
        for source in array.inputs:
            _visit(source, order, seen)
        order.append(array)
