"""What the method needs of NumPy, torch and JAX besides the array standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from ffoadapt import BoxForm, Options

from ._method import Algebra, Answer, solve

__all__ = ["NumpyAlgebra", "algebra_of", "run"]

SHIFTS = (1e-14, 1e-12, 1e-10, 1e-8)
"""What is added to a diagonal, beside the largest entry, until the matrix is positive definite."""


def algebra_of(array: Any) -> Algebra:
    """The algebra of the framework that an array belongs to."""
    if isinstance(array, np.ndarray):
        return NumpyAlgebra()
    if array_api_compat.is_torch_array(array):
        from ._torch import TorchAlgebra

        return TorchAlgebra(array.device)
    from ._jax import JaxAlgebra

    return JaxAlgebra()


def run(program: BoxForm, options: Options) -> Answer:
    """`solve` in the framework of the program's arrays, with these options."""
    p, tolerance, limit = program, float(options["tolerance"]), int(options["max_iterations"])
    return solve(algebra_of(p.q), p.P, p.q, p.A, p.l, p.u, tolerance, limit)


class NumpyAlgebra:
    xp: Any = array_api_compat.array_namespace(np.zeros(1))

    def eye(self, like: Any) -> Any:
        return np.eye(like.shape[-1])

    def factor(self, matrix: Any) -> Callable[[Any], Any]:
        half = np.linalg.inv(_lower(matrix))
        back = np.swapaxes(half, -1, -2)
        return lambda v: (back @ (half @ v[..., None]))[..., 0]

    def repeat(self, step: Callable[[Any], Any], state: Any, limit: int) -> Any:
        with np.errstate(all="ignore"):
            for _ in range(limit):
                if state.over.all():
                    break
                state = step(state)
        return state


def _lower(matrix: Any) -> Any:
    """Cholesky factors. Of a matrix that rounding has made indefinite, as iterates that run to
    infinity do, that of the nearest multiple of the identity added; its neighbours keep theirs."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        if matrix.ndim > 2:
            return np.stack([_lower(one) for one in matrix])
    eye = np.eye(len(matrix)) * np.abs(matrix).max()
    for shift in SHIFTS if np.isfinite(eye).all() else ():
        try:
            return np.linalg.cholesky(matrix + shift * eye)
        except np.linalg.LinAlgError:
            continue
    return np.full_like(matrix, np.nan)
