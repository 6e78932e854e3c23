"""Ghost systems of dense polyhedral programs, on the arrays of any library.

With C the active rows of A, and 0 in the others, and D = 1 for these, 0 for the active ones,

    K = [ P  C' ]      K (w, mu) = (top, bottom), bottom = 0 in rows that are not active,
        [ C  -D ]      whose mu is then 0 too.

Functions work along the last axes of the arrays of a namespace ``xp``, any axes before are batches,
and no value decides a shape. What the namespace lacks is of an `Algebra`.
"""

from __future__ import annotations

from typing import Any

from .algebra import Algebra

__all__ = ["inverse", "matrix", "relative_sizes", "times"]

RANK = 1e-11
"""A pivot below this counts as zero, in a matrix whose rows have a largest entry near 1."""

SCALINGS = 12
"""Rounds of symmetric scaling."""


def matrix(xp: Any, P: Any, C: Any, active: Any, eye: Any = None) -> Any:
    """K (..., n + m, n + m) of P (..., n, n), C (..., m, n) and active (..., m).

    ``eye`` is the identity (m, m), where C is not on the device that ``xp`` takes by itself.
    """
    eye = xp.eye(C.shape[-2]) if eye is None else eye
    D = xp.where(active[..., None], 0.0, eye)
    below = xp.concatenate((C, -D), axis=-1)
    P = xp.broadcast_to(P, (*C.shape[:-2], *P.shape[-2:]))
    above = xp.concatenate((P, xp.swapaxes(C, -1, -2)), axis=-1)
    return xp.concatenate((above, below), axis=-2)


def times(matrix: Any, vectors: Any) -> Any:
    """The products (..., rows) with the vectors (..., columns)."""
    return (matrix @ vectors[..., None])[..., 0]


def relative_sizes(
    xp: Any, r: Any, g: Any, top: Any, bottom: Any, up: Any, w: Any, steepness: Any, axis: int = -1
) -> tuple[Any, Any]:
    """Two sizes of a residual (r, g) of the right-hand side (top, bottom), vectors along ``axis``.

    The second is the larger of the sizes of the blocks relative to their terms. It says whether to
    refine: a block can be all rounding and still be small beside the other, as w is at the vertex
    of a linear program, where it should be 0; in z w' it meets multipliers of any size.

    The first says whether there is a solution. It is relative to the right-hand side or, where that
    is smaller, the second: the blocks have units of their own, which can make rounding in one look
    large in the other. ``up`` is C'mu and ``steepness`` the squared size of C.
    """
    r2, g2, top2, bottom2, up2, w2 = (
        xp.sum(xp.square(v), axis=axis) for v in (r, g, top, bottom, up, w)
    )
    both = _ratio(xp, r2 + g2, top2 + bottom2)
    upper, lower = _ratio(xp, r2, top2 + up2), _ratio(xp, g2, bottom2 + steepness * w2)
    blocks = xp.maximum(upper, lower)
    return xp.sqrt(xp.minimum(both, blocks)), xp.sqrt(blocks)


def _ratio(xp: Any, error: Any, size: Any) -> Any:
    nothing = size == 0.0  # NaN stays
    return xp.where(nothing, 0.0, error / xp.where(nothing, 1.0, size))


def inverse(algebra: Algebra, K: Any) -> Any:
    """The Moore-Penrose inverses of symmetric matrices (..., N, N): least squares, minimum norm.

    From any generalized inverse X (K X K = K) and the projection N on the null space it is
    (I - N) X (I - N); of a regular K it is X.
    """
    xp, scale = algebra.xp, _equilibrated(algebra, K)
    eye = algebra.eye(K)

    def step(carry: Any) -> Any:
        """First X and the null space; then, for a singular K, N, with the inverse of null'null."""
        count, matrix, X, null = carry
        solved, basis = _eliminated(algebra, matrix)
        across = xp.swapaxes(null, -1, -2)
        outside = eye - null @ solved @ across
        first = solved * scale[..., None, :] * scale[..., :, None]
        X = xp.where(count == 0, first, outside @ X @ outside)
        basis = basis * scale[..., :, None]
        length = xp.sqrt(xp.sum(xp.square(basis), axis=-2))
        null = xp.where(count == 0, basis / _or_one(xp, length)[..., None, :], null)
        empty = xp.all(null == 0.0, axis=-2)
        gram = xp.swapaxes(null, -1, -2) @ null + xp.where(empty[..., None], eye, 0.0)
        return count + 1, gram, X, null

    def goes_on(carry: Any) -> Any:
        count, _, _, null = carry
        return (count == 0) | ((count == 1) & xp.any(null != 0.0))

    nothing = xp.zeros_like(K)
    start = xp.sum(nothing), K * scale[..., None, :] * scale[..., :, None], nothing, nothing
    return algebra.until(goes_on, step, start, 2)[2]


def _eliminated(algebra: Algebra, K: Any) -> tuple[Any, Any]:
    """A generalized inverse, and the null space as columns, most of them 0; Gauss and Jordan.

    Complete pivoting: each step exchanges a row i of y = K x for a column j, and those without a
    pivot of size stay: their columns of x are free, and what the others do with them is the null
    space.
    """
    xp, size, rows = algebra.xp, K.shape[-1], algebra.numbers(K)

    def step(_: Any, carry: Any) -> Any:
        T, column, row = carry  # the column exchanged for each row, or size; the row for a column
        free_row, free_column = column == size, row == size
        both = free_row[..., :, None] & free_column[..., None, :]
        i = _place(xp, xp.max(xp.where(both, xp.abs(T), -1.0), axis=-1))
        at_i = (rows == i) & free_row
        across = xp.sum(xp.where(at_i[..., :, None], T, 0.0), axis=-2)
        j = _place(xp, xp.where(free_column, xp.abs(across), -1.0))
        at_j = (rows == j) & free_column
        pivot = xp.sum(xp.where(at_j, across, 0.0), axis=-1)[..., None]
        exchanged = xp.abs(pivot) > RANK
        at_i, at_j = at_i & exchanged, at_j & exchanged
        across = xp.where(at_j, -1.0, across) / xp.where(exchanged, pivot, 1.0)
        down = xp.sum(xp.where(at_j[..., None, :], T, 0.0), axis=-1)
        down = xp.where(at_i, 1.0, down)
        T = xp.where(at_i[..., :, None] | at_j[..., None, :], 0.0, T)
        T = T - down[..., :, None] * across[..., None, :]
        return T, xp.where(at_i, j, column), xp.where(at_j, i, row)

    none = xp.zeros_like(K[..., 0]) + size
    T, column, row = algebra.repeat(size, step, (K, none, none))
    # Row i of T is x[column[i]] in terms of y[row[j]], or of x[j] where that is free.
    ones = xp.ones_like(K)
    from_rows, from_columns = (xp.where(v[..., :, None] == rows, ones, 0.0) for v in (row, column))
    T = from_rows @ T
    null = xp.where((row == size)[..., None, :], T + algebra.eye(K), 0.0)
    return T @ xp.swapaxes(from_columns, -1, -2), null


def _place(xp: Any, values: Any) -> Any:
    """(..., 1) where the largest value along the last axis is."""
    return xp.argmax(values, axis=-1)[..., None]


def _equilibrated(algebra: Algebra, K: Any) -> Any:
    """Ruiz scaling (..., N): the rows of diag(d) |K| diag(d) have a largest entry near 1."""
    xp, size = algebra.xp, algebra.xp.abs(K)

    def step(_: Any, carry: Any) -> Any:
        (scale,) = carry
        largest = xp.max(size * scale[..., None, :], axis=-1) * scale
        return (scale / xp.sqrt(_or_one(xp, largest)),)

    return algebra.repeat(SCALINGS, step, (xp.ones_like(K[..., 0]),))[0]


def _or_one(xp: Any, values: Any) -> Any:
    return xp.where(values == 0.0, 1.0, values)
