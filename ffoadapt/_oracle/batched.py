"""The ghost KKT systems of many small dense polyhedral programs at once.

The algorithm of `dense`, with numpy's stacked LAPACK: all elements keep all m rows of A, and an
inactive row is replaced by mu_i = 0, so that every element has the same sizes. An element whose
Cholesky pivots show a lost rank is marked and left to `DenseFactor`.
"""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dense import REFINE, SURE, relative_sizes

__all__ = ["BatchedFactor", "suits"]

Floats = NDArray[np.float64]

LARGEST = 28
"""Above this n, one LAPACK call an element costs no more than numpy's stacked ones (measured)."""


def suits(n: int, m: int) -> bool:
    """Whether elements are better factorized at once than one by one.

    The size of the batch does not decide, so that an element gives the same alone and among others.
    """
    return n <= LARGEST and m <= 4 * LARGEST


class BatchedFactor:
    """Factorizations of B systems with P (B or 1, n, n), A (B or 1, m, n), active (B, m).

    Attributes
    ----------
    fine
        (B,) bool: elements of full rank; the solutions of others mean nothing.
    """

    def __init__(
        self, P: Floats, A: Floats, active: NDArray[np.bool_], L: Floats | None = None
    ) -> None:
        """``L`` are the Cholesky factors of P where somebody has made them."""
        size, m = active.shape
        self.P, self.active = P, active
        self.fine = np.ones(size, dtype=bool)
        self.L = L = self._inverse_factor(P, L)
        self.C = np.where(active[:, :, None], A, 0.0)
        if m:
            self.Y = Y = self.C @ L.swapaxes(-1, -2)
            S = Y @ Y.swapaxes(-1, -2)
            S.reshape(size, m * m)[:, :: m + 1][~active] = 1.0
            self.S = self._inverse_factor(S)

    def solve(self, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats, Floats]:
        """w (B, n, K), zeta (B, m, K), relative residual (B,) for v_x (B, n, K), v_z (B, m, K)."""
        g = np.where(self.active[:, :, None], v_z, 0.0)
        w, mu = self._apply(v_x, g)
        r, p, size, blocks = self._residual(v_x, g, w, mu)
        rough = blocks > REFINE  # each element by itself, whatever its neighbours need
        if np.logical_or.reduce(rough):
            dw, dmu = self._apply(r, p)
            w[rough] += dw[rough]
            mu[rough] += dmu[rough]
            size = self._residual(v_x, g, w, mu)[2]
        return w, mu, size

    def _apply(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        t = self.L @ top
        if not self.C.shape[1]:
            return self.L.swapaxes(-1, -2) @ t, bottom.copy()
        mu = self.S.swapaxes(-1, -2) @ (self.S @ (self.Y @ t - bottom))
        return self.L.swapaxes(-1, -2) @ (t - self.Y.swapaxes(-1, -2) @ mu), mu

    def _residual(
        self, top: Floats, bottom: Floats, w: Floats, mu: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Both blocks of the residual, and its sizes (B,), as in `DenseFactor`."""
        up = self.C.swapaxes(-1, -2) @ mu
        r, p = top - self.P @ w - up, bottom - self.C @ w
        sizes = relative_sizes(r, p, top, bottom, up, w, self._steepness)
        size, blocks = (np.maximum.reduce(v, axis=-1, initial=0.0) for v in sizes)
        return r, p, size, blocks

    @cached_property
    def _steepness(self) -> Floats:
        """(B, 1) the squared sizes of C."""
        found: Floats = np.einsum("bij,bij->b", self.C, self.C)[:, None]
        return found

    def _inverse_factor(self, matrices: Floats, given: Floats | None = None) -> Floats:
        """Inverses of the Cholesky factors; identity where there is none, and marked."""
        L = _cholesky(matrices) if given is None else given
        pivots, diagonal = (M.diagonal(axis1=-2, axis2=-1) for M in (L, matrices))
        pivots = pivots * pivots
        good = np.logical_and.reduce(pivots > SURE * diagonal, axis=-1)
        if not np.logical_and.reduce(good):
            L[~good] = np.eye(matrices.shape[-1])
            self.fine = self.fine & good
        inverse: Any = np.linalg.inv(L)
        return inverse


def _cholesky(matrices: Floats) -> Floats:
    """The lower Cholesky factors; zero where there is none."""
    L: Any
    try:
        L = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        L = np.zeros_like(matrices)
        for i, matrix in enumerate(matrices):
            with contextlib.suppress(np.linalg.LinAlgError):
                L[i] = np.linalg.cholesky(matrix)
    return L
