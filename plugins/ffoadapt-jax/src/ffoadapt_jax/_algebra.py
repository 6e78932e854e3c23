"""The `ffoadapt.experimental.Algebra` of JAX.

On a CPU, jaxlib 0.10 splits a batch of LAPACK calls over its threads and waits for them in one of
them: two such calls at once, on two cores, wait forever. So batches are eliminated in JAX's own
operations there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["JaxAlgebra"]


class JaxAlgebra:
    """Loops are compiled; of arrays that are mapped (`jax.vmap`) too."""

    xp: Any = jnp

    def eye(self, like: Any) -> Any:
        return jnp.eye(like.shape[-1], dtype=jnp.float64)

    def numbers(self, like: Any) -> Any:
        return jnp.arange(like.shape[-1], dtype=jnp.float64)

    def factor(self, matrix: Any) -> tuple[Any, Any]:
        return _half(matrix)  # two products are as stable as two substitutions, the inverse is not

    def substitute(self, factors: Any, columns: Any) -> Any:
        return jnp.swapaxes(factors, -1, -2) @ (factors @ columns)

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        return jax.lax.fori_loop(0, count, step, carry)

    def until(
        self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any, limit: int
    ) -> Any:
        def going(both: Any) -> Any:
            count, carry = both
            return (count < limit) & jnp.any(goes_on(carry))

        def stepped(both: Any) -> Any:
            return both[0] + 1, step(both[1])

        return jax.lax.while_loop(going, stepped, (jnp.asarray(0), carry))[1]

    def seldom(
        self, needed: Any, function: Callable[..., Any], given: tuple[Any, ...], otherwise: Any
    ) -> Any:
        def once(both: Any) -> Any:
            return jnp.zeros_like(both[0]), function(*given)

        first = jnp.any(needed), otherwise
        return jax.lax.while_loop(lambda both: both[0], once, first)[1]


@jax.custom_batching.custom_vmap
def _half(matrix: Any) -> Any:
    """The inverse of the lower Cholesky factor, and whether the matrix is positive definite."""
    return _by_library(matrix)


def _by_library(matrix: Any) -> Any:
    lower = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    half = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
    return half, jnp.all(jnp.isfinite(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)


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
    pivots = jnp.diagonal(both, axis1=-2, axis2=-1)
    half = both[..., n:] / jnp.sqrt(jnp.maximum(pivots, least[..., 0]))[..., None]
    return half, jnp.all(pivots > 0.0, axis=-1)


@_half.def_vmap
def _(size: int, batched: Any, matrix: Any) -> Any:
    inverse = jax.lax.platform_dependent(matrix, cpu=_by_elimination, default=_by_library)
    return inverse, (True, True)
