"""Inverses of symmetric matrices, regular or not, in shapes that no value decides.

By elimination in JAX's own operations. On a CPU, jaxlib 0.10 splits a batch of LAPACK calls over
its threads and waits for them in one of them: two such calls at once, on two cores, wait forever.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["inverse"]

RANK = 1e-11
"""A pivot below this counts as zero, in a matrix whose rows have a largest entry near 1."""


def inverse(K: Any) -> Any:
    """The Moore-Penrose inverse of a symmetric matrix: least squares, minimum norm.

    From any generalized inverse X (K X K = K) and the projection N on the null space it is
    (I - N) X (I - N); of a regular K it is X.
    """
    scale = _equilibrated(K)
    size = scale.size

    def step(carry: Any) -> Any:
        """First X and the null space; then, for a singular K, N, with the inverse of null'null."""
        count, matrix, X, null = carry
        solved, found = _eliminated(matrix)
        outside = jnp.eye(size) - null @ solved @ null.T
        X = jnp.where(count == 0, solved * scale * scale[:, None], outside @ X @ outside)
        found = found * scale[:, None]
        length = jnp.sqrt(jnp.square(found).sum(axis=0))
        null = jnp.where(count == 0, found / jnp.where(length == 0.0, 1.0, length), null)
        return count + 1, null.T @ null + jnp.diag(1.0 * (null == 0.0).all(axis=0)), X, null

    def going(carry: Any) -> Any:
        count, _, _, null = carry
        return (count == 0) | ((count == 1) & (null != 0.0).any())

    nothing = jnp.zeros((size, size))
    start = jnp.asarray(0), K * scale * scale[:, None], nothing, nothing
    return jax.lax.while_loop(going, step, start)[2]


def _eliminated(K: Any) -> tuple[Any, Any]:
    """A generalized inverse, and the null space as columns, most of them 0; Gauss and Jordan.

    Complete pivoting: each step exchanges a row i of y = K x for a column j, and those without a
    pivot of size stay: their columns of x are free, and what the others do with them is the null
    space.
    """
    size = K.shape[0]
    rows = jnp.arange(size)

    def step(_: Any, carry: Any) -> Any:
        T, column, row = carry  # the column exchanged for each row, or size; the row for a column
        free_row, free_column = column == size, row == size
        magnitude = jnp.where(free_row[:, None] & free_column, jnp.abs(T), -1.0)
        i = jnp.argmax(magnitude.max(axis=1))
        j = jnp.argmax(jnp.where(free_column, jnp.abs(T[i]), -1.0))
        pivot = T[i, j]
        found = free_row[i] & free_column[j] & (jnp.abs(pivot) > RANK)
        at_i, at_j = (rows == i) & found, (rows == j) & found
        across = jnp.where(at_j, -1.0, T[i]) / jnp.where(found, pivot, 1.0)
        down = jnp.where(at_i, 1.0, jnp.where(found, T[:, j], 0.0))
        T = jnp.where(at_i[:, None] | at_j, 0.0, T) - down[:, None] * across
        return T, jnp.where(at_i, j, column), jnp.where(at_j, i, row)

    none = jnp.full(size, size)
    T, column, row = jax.lax.fori_loop(0, size, step, (K, none, none))
    # Row i of T is x[column[i]] in terms of y[row[j]], or of x[j] where that is free.
    T = jnp.pad(T, ((0, 1), (0, 1)))
    free = (row == size)[None, :]
    null = jnp.where(free, T[row][:, :size] + jnp.eye(size), 0.0)
    return T[row][:, column], null


def _equilibrated(K: Any, rounds: int = 12) -> Any:
    """Ruiz scaling: the rows of diag(d) |K| diag(d) have a largest entry near 1."""

    def round_(_: Any, scale: Any) -> Any:
        largest = (jnp.abs(K) * scale).max(axis=1) * scale
        return scale / jnp.sqrt(jnp.where(largest == 0.0, 1.0, largest))

    return jax.lax.fori_loop(0, rounds, round_, jnp.ones(K.shape[0]))
