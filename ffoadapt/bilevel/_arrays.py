"""Lists of a framework's arrays as one vector, with the operators that all frameworks share.

Python's numbers keep the dtype and the device of the arrays; nothing here knows a framework.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    ``wide`` leaves are float64 whatever the model's dtype; see `ffoadapt.Framework.precise`.
    """

    def __init__(self, framework: Any, models: Sequence[Any], wide: bool = False) -> None:
        self.framework, self.models, self.wide = framework, list(models), wide
        self.shapes = [tuple(m.shape) for m in models]
        self.ends = np.cumsum([0, *(int(np.prod(s)) for s in self.shapes)]).tolist()

    def vector(self, arrays: Sequence[Any]) -> Floats:
        """The numbers of the leaves, None being zero."""
        parts = [
            np.zeros(end - start)
            if a is None
            else np.asarray(self.framework.to_numpy(a), dtype=np.float64).reshape(-1)
            for a, start, end in zip(arrays, self.ends, self.ends[1:], strict=False)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def arrays(self, vector: Floats) -> Arrays:
        """The leaves with these numbers."""
        cuts = zip(self.shapes, self.ends, self.ends[1:], strict=False)
        found = [self.framework.from_numpy(vector[a:b].reshape(shape)) for shape, a, b in cuts]
        if not self.wide:
            return [like(a, m) for a, m in zip(found, self.models, strict=True)]
        return [
            a.to(m.device) if hasattr(a, "to") else a
            for a, m in zip(found, self.models, strict=True)
        ]
