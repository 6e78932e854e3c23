"""What the method needs of NumPy, torch and JAX besides the array standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from ._method import Algebra

__all__ = ["algebra_of"]


def algebra_of(array: Any) -> Algebra:
    """The algebra of the framework that an array belongs to."""
    if isinstance(array, np.ndarray):
        return NumpyAlgebra()
    if array_api_compat.is_torch_array(array):
        from ._torch import TorchAlgebra

        return TorchAlgebra(array.device)
    from ._jax import JaxAlgebra

    return JaxAlgebra()


class NumpyAlgebra:
    xp: Any = array_api_compat.array_namespace(np.zeros(1))

    def factor(self, matrix: Any) -> Callable[[Any], Any]:
        try:
            lower = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            lower = None
        if lower is None:
            return lambda v: np.linalg.solve(matrix, v[..., None])[..., 0]
        inverse = np.linalg.inv(lower)
        back = np.swapaxes(inverse, -1, -2)
        return lambda v: (back @ (inverse @ v[..., None]))[..., 0]

    def repeat(self, step: Callable[[Any], Any], state: Any, limit: int) -> Any:
        with np.errstate(all="ignore"):
            for _ in range(limit):
                if state.done.all():
                    break
                state = step(state)
        return state
