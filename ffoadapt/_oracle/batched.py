"""The ghost KKT systems of many small dense polyhedral programs at once.

The algorithm of `dense`, with numpy's stacked LAPACK: all elements keep all m rows of A, and an
inactive row is replaced by mu_i = 0, so that every element has the same sizes. An element whose
Cholesky pivots show a lost rank is marked and left to `DenseFactor`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dense import REFINE, SURE, relative_sizes
from .stacked import cholesky, inverse

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
        """``L`` are the Cholesky factors of P where somebody has made them and found them sure."""
        size, m = active.shape
        self.P, self.active = P, active
        self.fine = np.ones(size, dtype=bool)
        self.L = inverse(self._sure_factor(P) if L is None else L)
        self.C = C = np.where(active[:, :, None], A, 0.0)
        self._Ct, self._Lt = C.swapaxes(-1, -2), self.L.swapaxes(-1, -2)
        self._steepness = np.add.reduce(
            np.square(C.reshape(size, m * P.shape[-1])), axis=-1, keepdims=True
        )
        if m:
            self.Y = Y = C @ self._Lt
            self._Yt = Y.swapaxes(-1, -2)
            S = Y @ self._Yt
            S.reshape(size, m * m)[:, :: m + 1][~active] = 1.0
            self.S = inverse(self._sure_factor(S))
            self._St = self.S.swapaxes(-1, -2)

    def solve(self, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats, Floats]:
        """w (B, n, K), zeta (B, m, K), relative residual (B,) for v_x (B, n, K), v_z (B, m, K)."""
        g = np.where(self.active[:, :, None], v_z, 0.0)
        w, mu = self._apply(v_x, g)
        r, p, size, blocks = self._residual(v_x, g, w, mu)
        rough = blocks > REFINE  # each element by itself, whatever its neighbours need
        if np.count_nonzero(rough):
            dw, dmu = self._apply(r, p)
            w[rough] += dw[rough]
            mu[rough] += dmu[rough]
            size = self._residual(v_x, g, w, mu)[2]
        return w, mu, size

    def _apply(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        t = self.L @ top
        if not self.C.shape[1]:
            return self._Lt @ t, bottom.copy()
        mu = self._St @ (self.S @ (self.Y @ t - bottom))
        t -= self._Yt @ mu
        return self._Lt @ t, mu

    def _residual(
        self, top: Floats, bottom: Floats, w: Floats, mu: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Both blocks of the residual, and its sizes (B,), as in `DenseFactor`."""
        up = self._Ct @ mu
        r, p = top - self.P @ w - up, bottom - self.C @ w
        size, blocks = relative_sizes(r, p, top, bottom, up, w, self._steepness)
        if size.shape[-1] == 1:
            return r, p, size[:, 0], blocks[:, 0]
        return r, p, size.max(axis=-1, initial=0.0), blocks.max(axis=-1, initial=0.0)

    def _sure_factor(self, matrices: Floats) -> Floats:
        """The Cholesky factors; the identity where a pivot is not sure, and marked."""
        L = cholesky(matrices)
        pivots = L.diagonal(axis1=-2, axis2=-1)
        sure = np.square(pivots) > SURE * matrices.diagonal(axis1=-2, axis2=-1)  # not where NaN
        if np.count_nonzero(sure) != sure.size:
            good = sure.all(axis=-1)
            L[~good] = np.eye(matrices.shape[-1])
            self.fine = self.fine & good
        return L
