"""Functions for NumPy, whose users write the gradients by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._exceptions import ParameterError, ShapeError
from .._runtime.trees import flatten
from .._types import Floats

__all__ = ["ByHand", "combined"]


class ByHand:
    """What functions for NumPy return: (value, gradient in y), or (value, (in params, in y)).

    A vector of m values comes with gradients of shape (m, *shape).
    """

    def __init__(self, name: str, given: Any, y: Any) -> None:
        if not isinstance(given, tuple) or len(given) != 2:
            raise ParameterError(
                f"{name} returned a {type(given).__name__}; functions of NumPy arrays return "
                "(value, gradient), with gradient that in y or the pair (in params, in y). Write "
                "it for torch or JAX to have the gradient taken"
            )
        value, gradient = given
        pair = isinstance(gradient, tuple) and len(gradient) == 2
        self.params: Any = gradient[0] if pair else None
        rows = gradient[1] if pair else gradient
        self.value = np.asarray(value, dtype=np.float64).reshape(-1)
        if name == "objective" and self.value.size != 1:
            raise ShapeError(f"the objective returned shape {np.shape(value)}; expected a scalar")
        rows = np.asarray(rows, dtype=np.float64)
        if rows.size != self.value.size * y.size:
            raise ShapeError(
                f"{name} returned a gradient in y of shape {rows.shape}; expected "
                f"{(*np.shape(value), *y.shape)}"
            )
        self.rows = rows.reshape(self.value.size, y.size)

    def leaves(self, count: int) -> list[Any] | None:
        """Gradients in the leaves of params, each (rows, *shape); None where none were given."""
        if self.params is None:
            return None
        gradients = flatten(self.params)[0]
        if len(gradients) != count:
            raise ShapeError(
                f"a gradient in params has {len(gradients)} leaves; expected {count}, as params has"
            )
        return [np.asarray(g, np.float64).reshape(self.value.size, -1) for g in gradients]


def combined(w: Floats, objective: ByHand, rest: Sequence[ByHand], count: int) -> Any:
    """Value and gradients of the weighted total from those of the parts."""
    parts = [objective, *rest]
    values = np.concatenate([part.value for part in parts])
    y = w @ np.concatenate([part.rows for part in parts])
    leaves: list[Any] = [None] * count
    each = [part.leaves(count) for part in parts]
    if all(one is not None for one in each):
        stacked = zip(*(one for one in each if one is not None), strict=True)
        leaves = [w @ np.concatenate(rows) for rows in stacked]
    return float(w @ values), [y, values, *leaves]
