"""Lists of a framework's arrays as one vector, with the operators that all frameworks share.

Python's numbers keep the dtype and the device of the arrays; nothing here knows a framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flat", "cast", "constant", "finite", "less", "like", "plus", "total", "zeros"]

Arrays = list[Any]
Floats = NDArray[np.float64]


def constant(array: Any) -> Any:
    """A copy without gradient."""
    return (array.detach() if hasattr(array, "detach") else array) * 1


def zeros(arrays: Sequence[Any]) -> Arrays:
    """Zeros shaped like them."""
    return [a * 0 for a in arrays]


def plus(a: Sequence[Any], b: Sequence[Any], scale: float = 1.0) -> Arrays:
    """a + scale * b."""
    return [p + scale * q for p, q in zip(a, b, strict=True)]


def less(a: Sequence[Any], b: Sequence[Any]) -> Arrays:
    """a - b."""
    return [p - q for p, q in zip(a, b, strict=True)]


def total(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """The inner product of the vectors, as a number of the framework."""
    parts = [(p * q).sum() for p, q in zip(a, b, strict=True)]
    return sum(parts[1:], parts[0])


def finite(arrays: Sequence[Any]) -> bool:
    """Whether every entry is a finite number; 0 times another one is NaN."""
    return all(float((a * 0).sum()) == 0.0 for a in arrays)


def like(array: Any, model: Any) -> Any:
    """The array in the dtype and on the device of another of its framework."""
    if hasattr(array, "to"):
        return array.to(model)
    return array.astype(model.dtype)


def cast(array: Any, dtype: str) -> Any:
    """The array in the dtype of that NumPy name."""
    if hasattr(array, "astype"):
        return array.astype(dtype)
    names = {"float32": "float", "float64": "double", "int32": "int", "int64": "long"}
    return getattr(array, names.get(dtype, dtype))()


class Flat:
    """Between leaves and one float64 NumPy vector, for the few things that are done in NumPy.

    The leaves have the shapes, dtypes and devices of ``models``; wide ones are float64 whatever
    these are, see `ffoadapt.Framework.precise`.
    """

    def __init__(self, framework: Any, models: Sequence[Any]) -> None:
        self.framework, self.models = framework, list(models)
        ends = list(accumulate((prod(m.shape) for m in models), initial=0))
        self.parts = [
            (slice(start, end), tuple(m.shape))
            for start, end, m in zip(ends, ends[1:], models, strict=False)
        ]
        self.all_wide = all("float64" in str(m.dtype) for m in models)
        self.devices = [m.device if hasattr(m, "to") else None for m in models]

    def vector(self, arrays: Sequence[Any]) -> Floats:
        """A copy of the numbers of the leaves, None being zero."""
        to_numpy, parts = self.framework.to_numpy, self.parts
        joined = np.zeros(parts[-1][0].stop if parts else 0)
        for array, (part, shape) in zip(arrays, parts, strict=True):
            if array is not None:
                joined[part].reshape(shape)[...] = to_numpy(array)
        return joined

    def arrays(self, vector: Floats, wide: bool = False) -> Arrays:
        """The leaves with these numbers."""
        from_numpy = self.framework.from_numpy
        each = [from_numpy(vector[part].reshape(shape)) for part, shape in self.parts]
        if not wide and not self.all_wide:
            return [like(a, m) for a, m in zip(each, self.models, strict=True)]
        return [
            a if device is None else a.to(device)
            for a, device in zip(each, self.devices, strict=True)
        ]

    def widened(self, arrays: Sequence[Any]) -> Arrays:
        """The leaves in float64."""
        return list(arrays) if self.all_wide else self.arrays(self.vector(arrays), wide=True)

    def narrowed(self, arrays: Sequence[Any]) -> Arrays:
        """Wide leaves in the dtypes of the models."""
        if self.all_wide:
            return list(arrays)
        return [like(a, m) for a, m in zip(arrays, self.models, strict=True)]
