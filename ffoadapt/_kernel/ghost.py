"""Ghost systems of dense polyhedral programs, on the arrays of any library.

With C the active rows of A, and 0 in the others, and D = 1 for these, 0 for the active ones,

    K = [ P  C' ]      K (w, mu) = (top, bottom), bottom = 0 in rows that are not active,
        [ C  -D ]      whose mu is then 0 too.

Functions work along the last axes of the arrays of a namespace ``xp``, any axes before are batches,
and no value decides a shape.
Loops are those of a `Loops`: Python's own, or what a library compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["EAGER", "Loops", "inverse", "matrix", "positive_definite", "relative_sizes", "times"]

RANK = 1e-11
"""A pivot below this counts as zero, in a matrix whose rows have a largest entry near 1."""

SCALINGS = 12
"""Rounds of symmetric scaling."""


class Loops(Protocol):
    """Loops over carried arrays (tuples), whose shapes and types stay."""

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        """``carry = step(k, carry)`` for k = 0, ..., count - 1."""

    def until(self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any) -> Any:
        """``carry = step(carry)`` as long as ``goes_on(carry)``."""


class _Eager:
    """Python's loops, for libraries that compute at once; `until` is for one element."""

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        for k in range(count):
            carry = step(k, carry)
        return carry

    def until(self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any) -> Any:
        while goes_on(carry):
            carry = step(carry)
        return carry


EAGER: Loops = _Eager()


def matrix(xp: Any, P: Any, C: Any, active: Any) -> Any:
    """K (..., n + m, n + m) of P (..., n, n), C (..., m, n) and active (..., m)."""
    m = C.shape[-2]
    D = xp.where(active, 0.0, 1.0)[..., None] * xp.eye(m)
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


def positive_definite(xp: Any, loops: Loops, M: Any) -> Any:
    """Whether a symmetric matrix (n, n) is: the pivots of its elimination are positive."""

    def step(k: Any, carry: Any) -> Any:
        S, fine = carry
        row = S[k]
        fine = fine & (row[k] > 0.0)
        return S - row[:, None] * row / xp.where(fine, row[k], 1.0), fine

    return loops.repeat(M.shape[0], step, (M, xp.asarray(True)))[1]


def inverse(xp: Any, loops: Loops, K: Any) -> Any:
    """The Moore-Penrose inverse of a symmetric matrix (N, N): least squares, minimum norm.

    From any generalized inverse X (K X K = K) and the projection N on the null space it is
    (I - N) X (I - N); of a regular K it is X.
    """
    scale = _equilibrated(xp, loops, K)
    size = scale.shape[0]

    def step(carry: Any) -> Any:
        """First X and the null space; then, for a singular K, N, with the inverse of null'null."""
        count, matrix, X, null = carry
        solved, basis = _eliminated(xp, loops, matrix)
        outside = xp.eye(size) - null @ solved @ null.T
        X = xp.where(count == 0, solved * scale * scale[:, None], outside @ X @ outside)
        basis = basis * scale[:, None]
        length = xp.sqrt(xp.sum(xp.square(basis), axis=0))
        null = xp.where(count == 0, basis / xp.where(length == 0.0, 1.0, length), null)
        empty = xp.where(xp.all(null == 0.0, axis=0), 1.0, 0.0)
        return count + 1, null.T @ null + empty * xp.eye(size), X, null

    def goes_on(carry: Any) -> Any:
        count, _, _, null = carry
        return (count == 0) | ((count == 1) & xp.any(null != 0.0))

    nothing = xp.zeros((size, size))
    start = xp.asarray(0), K * scale * scale[:, None], nothing, nothing
    return loops.until(goes_on, step, start)[2]


def _eliminated(xp: Any, loops: Loops, K: Any) -> tuple[Any, Any]:
    """A generalized inverse, and the null space as columns, most of them 0; Gauss and Jordan.

    Complete pivoting: each step exchanges a row i of y = K x for a column j, and those without a
    pivot of size stay: their columns of x are free, and what the others do with them is the null
    space.
    """
    size = K.shape[0]
    rows = xp.arange(size)

    def step(_: Any, carry: Any) -> Any:
        T, column, row = carry  # the column exchanged for each row, or size; the row for a column
        free_row, free_column = column == size, row == size
        magnitude = xp.where(free_row[:, None] & free_column, xp.abs(T), -1.0)
        i = xp.argmax(xp.max(magnitude, axis=1))
        j = xp.argmax(xp.where(free_column, xp.abs(T[i]), -1.0))
        pivot = T[i, j]
        exchanged = free_row[i] & free_column[j] & (xp.abs(pivot) > RANK)
        at_i, at_j = (rows == i) & exchanged, (rows == j) & exchanged
        across = xp.where(at_j, -1.0, T[i]) / xp.where(exchanged, pivot, 1.0)
        down = xp.where(at_i, 1.0, xp.where(exchanged, T[:, j], 0.0))
        T = xp.where(at_i[:, None] | at_j, 0.0, T) - down[:, None] * across
        return T, xp.where(at_i, j, column), xp.where(at_j, i, row)

    none = xp.full(size, size)
    T, column, row = loops.repeat(size, step, (K, none, none))
    # Row i of T is x[column[i]] in terms of y[row[j]], or of x[j] where that is free.
    T = xp.pad(T, ((0, 1), (0, 1)))
    free = (row == size)[None, :]
    null = xp.where(free, T[row][:, :size] + xp.eye(size), 0.0)
    return T[row][:, column], null


def _equilibrated(xp: Any, loops: Loops, K: Any) -> Any:
    """Ruiz scaling: the rows of diag(d) |K| diag(d) have a largest entry near 1."""

    def step(_: Any, scale: Any) -> Any:
        largest = xp.max(xp.abs(K) * scale, axis=1) * scale
        return scale / xp.sqrt(xp.where(largest == 0.0, 1.0, largest))

    return loops.repeat(SCALINGS, step, xp.ones(K.shape[0]))
