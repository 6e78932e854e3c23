"""The ghost KKT systems of a batch of dense polyhedral programs, in NumPy.

With C the active rows of A, and 0 in the others, and D = 1 for these, 0 for the active ones,

    [ P  C' ] [ w  ]   [ v_x   ]
    [ C  -D ] [ mu ] = [ C v_z ]

has one shape for all elements: all are factorized at once. `c/system.c` is the compiled twin, which
also has the rows of curved cones. Here, elements with these, and large ones, are left to who takes
one after the other, as are those whose Cholesky pivots show a lost rank.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import Floats
from . import ghost

__all__ = ["Systems", "bounds_suffice", "factorize", "prepare", "solve"]

ORDER = 64
"""The largest order n + m of systems that are factorized together: beyond it LAPACK is as fast with
one after the other, and does not store the rows that are not active."""

ROUNDS = 8
"""Refinement steps at most, as in the compiled twin."""


class Systems(NamedTuple):
    """What `prepare` makes: the data, the active rows, and, once factorized, K, its inverse, and
    where there is one."""

    P: Floats
    A: Floats
    active: NDArray[np.bool_]
    curved: bool
    K: Floats
    inverse: Floats
    fine: NDArray[np.bool_]


def prepare(
    n: int,
    m: int,
    size: int,
    P: Floats,
    A: Floats,
    active: NDArray[np.bool_],
    U: Floats | None,
    curved: tuple[Floats, tuple[Any, ...]] | None,
    nearby: tuple[tuple[Systems, int] | None, ...] | None,
    counts: NDArray[np.int64],
    reused: NDArray[np.bool_],
) -> Systems:
    counts[...] = active.sum(axis=-1)
    for block in () if curved is None else curved[1]:
        counts += block[4].sum(axis=(1, 2))
    reused.fill(False)
    if P.shape[1:] != (n, n) or A.shape[1:] != (m, n) or active.shape != (size, m):
        raise ValueError("the arrays do not have the sizes of the batch")
    order = n + m if curved is None and n + m <= ORDER else 0
    K, inverse = np.empty((2, size, order, order))
    return Systems(P, A, active, curved is not None, K, inverse, np.zeros(size, dtype=bool))


@np.errstate(all="ignore")  # as where it is compiled
def factorize(
    batch: Systems,
    begin: int,
    end: int,
    share: float,
    fine: NDArray[np.bool_],
    lost: NDArray[np.int64],
) -> None:
    part = slice(begin, end)
    lost[part] = 0
    n = batch.P.shape[-1]
    if batch.K.shape[-1] != n + batch.A.shape[-2] or batch.curved:
        fine[part] = False
        return
    active = batch.active[part]
    C = np.where(active[..., None], batch.A[part] if len(batch.A) > 1 else batch.A, 0.0)
    P = batch.P[part] if len(batch.P) > 1 else batch.P
    batch.K[part] = ghost.matrix(np, P, C, active)
    batch.inverse[part], sure = _inverse(P, C, active, share)
    batch.fine[part] = fine[part] = sure & (active.sum(axis=-1) <= n)


@np.errstate(all="ignore")
def solve(
    batch: Systems,
    begin: int,
    end: int,
    limit: float,
    v_x: Floats,
    v_z: Floats,
    w: Floats,
    zeta: Floats,
    residual: Floats,
) -> None:
    at = np.flatnonzero(batch.fine[begin:end]) + begin
    (size, m), n = batch.active.shape, batch.P.shape[-1]
    if not at.size:
        return
    count = math.prod(v_x.shape[:-2])
    v_x, w = (v.reshape(count, size, n) for v in (v_x, w))
    v_z, zeta = (v.reshape(count, size, m) for v in (v_z, zeta))
    K, X = batch.K[at], batch.inverse[at]
    v = np.concatenate((v_x[:, at], np.where(batch.active[at], v_z[:, at], 0.0)), axis=-1)
    y, size = _refined(K, X, v, n, limit)
    w[:, at], zeta[:, at] = y[..., :n], y[..., n:]
    residual[at] = np.maximum.reduce(size, axis=0, initial=0.0)


def bounds_suffice(
    batch: Systems,
    begin: int,
    end: int,
    signs_x: Floats,
    signs_z: Floats,
    squares: Floats,
    figures: Floats,
    margins: Floats,
    rounding: float,
    sure: float,
    brief: float,
    small: float,
) -> bool:
    """No element: who asks has the bounds in NumPy too (`_oracle.certificate`)."""
    return begin == end


def _refined(K: Floats, X: Floats, v: Floats, n: int, limit: float) -> tuple[Floats, Floats]:
    """The solutions y of K y = v (k, B, n + m), and their relative residuals (k, B): those of plain
    solutions, without a limit, are said to be 0."""
    y = ghost.times(X, v)
    size = np.zeros(y.shape[:-1])
    if not limit < np.inf:
        return y, size
    left, size, blocks = _residual(K, v, y, n)
    for _ in range(ROUNDS):
        if not (blocks > limit).any():
            break
        trial = y + ghost.times(X, left)
        other, smaller, beside = _residual(K, v, trial, n)
        better = smaller < np.maximum(size, limit)
        last = not (size > limit).any()  # one step beyond, for the smaller block
        if not better.any():
            break
        y, left = (np.where(better[..., None], *v) for v in ((trial, y), (other, left)))
        size, blocks = np.where(better, smaller, size), np.where(better, beside, blocks)
        if last:
            break
    return y, size


def _residual(K: Floats, v: Floats, y: Floats, n: int) -> tuple[Floats, Floats, Floats]:
    """v - K y, and its two `ghost.relative_sizes`."""
    left, C = v - ghost.times(K, y), K[..., n:, :n]
    up = ghost.times(C.swapaxes(-1, -2), y[..., n:])
    steepness = np.sum(np.square(C), axis=(-2, -1))
    at = left[..., :n], left[..., n:], v[..., :n], v[..., n:], up, y[..., :n], steepness
    return left, *ghost.relative_sizes(np, *at)


def _inverse(
    P: Floats, C: Floats, active: NDArray[np.bool_], share: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """The inverses of the systems, and which have full rank beyond doubt: all pivots of Cholesky's
    factors of P and of the Schur complement keep this ``share`` of their diagonal.

    Where P has none, P + C'WC has the same w for any W > 0: mu is then shifted by W C w.
    """
    L, sure = _cholesky(P, share)
    W = np.zeros(active.shape)
    if not sure.all():
        norms = np.sum(np.square(C), axis=-1)
        size = np.abs(P.diagonal(axis1=-2, axis2=-1)).max(axis=-1, initial=0.0)[:, None]
        W = np.where(size > 0.0, size, 1.0) / np.where(norms > 0.0, norms, 1.0)
        W = np.where(sure[:, None], 0.0, W)
        L, sure = _cholesky(P + C.swapaxes(-1, -2) @ (W[..., None] * C), share)
    Y = C @ L.swapaxes(-1, -2)  # L is the inverse of the factor
    n, order = P.shape[-1], P.shape[-1] + C.shape[-2]
    S = Y @ Y.swapaxes(-1, -2)
    S[:, range(order - n), range(order - n)] += ~active
    M, regular = _cholesky(S, share)
    Y = M @ Y @ L
    X = np.empty((len(C), order, order))
    X[:, :n, :n] = L.swapaxes(-1, -2) @ L - Y.swapaxes(-1, -2) @ Y
    X[:, n:, :n] = M.swapaxes(-1, -2) @ Y
    X[:, n:, n:] = -(M.swapaxes(-1, -2) @ M)
    X[:, n:, n:][..., range(order - n), range(order - n)] += W * active
    X[:, :n, n:] = X[:, n:, :n].swapaxes(-1, -2)
    return X, sure & regular


def _cholesky(M: Floats, share: float) -> tuple[Floats, NDArray[np.bool_]]:
    """The inverses of the factors L, LL' = M (B, n, n), and where their pivots keep this share of
    the diagonal; elsewhere that of the identity."""
    try:
        L = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        if len(M) == 1:
            return np.eye(M.shape[-1])[None], np.zeros(1, dtype=bool)
        parts = [_cholesky(M[k : k + 1], share) for k in range(len(M))]
        factors, sures = zip(*parts, strict=True)
        return np.concatenate(factors), np.concatenate(sures)
    pivots = np.square(L.diagonal(axis1=-2, axis2=-1))
    sure = (pivots > share * M.diagonal(axis1=-2, axis2=-1)).all(axis=-1)
    return np.linalg.inv(np.where(sure[:, None, None], L, np.eye(M.shape[-1]))), sure
