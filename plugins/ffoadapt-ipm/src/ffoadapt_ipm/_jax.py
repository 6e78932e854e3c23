"""The algebra of JAX.

On a CPU, jaxlib 0.10 splits a batch of LAPACK calls over its threads and waits for them in one of
them: two such calls at once, on two cores, wait forever. So batches are eliminated in JAX's own
operations there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import jax
import jax.numpy as jnp

__all__ = ["JaxAlgebra"]


class JaxAlgebra:
    xp: Any = array_api_compat.array_namespace(jnp.zeros(1))

    def eye(self, like: Any) -> Any:
        return jnp.eye(like.shape[-1], dtype=like.dtype)

    def factor(self, matrix: Any) -> Callable[[Any], Any]:
        half = _half(matrix)  # two products are as stable as two substitutions, the inverse is not
        back = jnp.swapaxes(half, -1, -2)
        return lambda v: (back @ (half @ v[..., None]))[..., 0]

    def repeat(self, step: Callable[[Any], Any], state: Any, limit: int) -> Any:
        def going(carry: Any) -> Any:
            count, state = carry
            return (count < limit) & ~state.over.all()

        def stepped(carry: Any) -> Any:
            return carry[0] + 1, step(carry[1])

        return jax.lax.while_loop(going, stepped, (jnp.asarray(0), state))[1]


@jax.custom_batching.custom_vmap
def _half(matrix: Any) -> Any:
    """The inverse of the lower Cholesky factor of a positive definite matrix."""
    return _by_library(matrix)


def _by_library(matrix: Any) -> Any:
    lower = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)


def _by_elimination(matrix: Any) -> Any:
    """Row k leaves the rows below it: of the matrix, and of what becomes the inverse of L."""
    n = matrix.shape[-1]
    below = jnp.arange(n)[:, None] > jnp.arange(n)
    eye = jnp.broadcast_to(jnp.eye(n, dtype=matrix.dtype), matrix.shape)

    least = 1e-16 * jnp.max(jnp.diagonal(matrix, axis1=-2, axis2=-1), axis=-1)[..., None, None]

    def step(k: Any, both: Any) -> Any:
        row = jax.lax.dynamic_index_in_dim(both, k, -2)
        column = jax.lax.dynamic_index_in_dim(both, k, -1)
        under = jax.lax.dynamic_index_in_dim(below, k, -1)
        pivot = jnp.maximum(jax.lax.dynamic_index_in_dim(row, k, -1), least)
        return both - jnp.where(under, column / pivot, 0.0) * row

    both = jax.lax.fori_loop(0, n, step, jnp.concatenate((matrix, eye), axis=-1))
    pivots = jnp.maximum(jnp.diagonal(both, axis1=-2, axis2=-1), least[..., 0])
    return both[..., n:] / jnp.sqrt(pivots)[..., None]


@_half.def_vmap
def _(size: int, batched: Any, matrix: Any) -> Any:
    return jax.lax.platform_dependent(matrix, cpu=_by_elimination, default=_by_library), True
