"""The adapter: arrays to NumPy, and a forward and backward pair as a function of the framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffoadapt import Differentiable, Framework

from ._tape import Array

__all__ = ["TemplateFramework"]


class TemplateFramework(Framework):
    """Arrays of any floating dtype; numbers are computed in float64."""

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        given = [a if isinstance(a, Array) else Array(a) for a in arrays]
        floating = [a.dtype for a in given if a.dtype.kind == "f"]
        dtype = np.result_type(*floating) if floating else np.dtype(np.float64)
        needed = [a.dtype.kind == "f" for a in given]
        outputs, state = function.forward([a.value for a in given])

        def output(k: int) -> Array:
            def back(cotangent: Any) -> list[Any]:
                all_but_one: list[Any] = [None] * len(outputs)  # of zeros
                all_but_one[k] = np.asarray(cotangent, dtype=np.float64)
                return function.vjp(state, all_but_one, needed)

            return Array(outputs[k].astype(dtype), given, back)

        return [output(k) for k in range(len(outputs))]

    def to_numpy(self, array: Any) -> Any:
        return array.value if isinstance(array, Array) else np.asarray(array)
