"""The ghost KKT systems of many small dense polyhedral programs at once.

The algorithm of `dense`, with stacked products and the inverses of the Cholesky factors: all
elements keep all m rows of A, and an inactive row is replaced by mu_i = 0, so that every element
has the same sizes. An element whose Cholesky pivots show a lost rank is marked and left to
`DenseFactor`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dense import REFINE, SURE, relative_sizes
from .stacked import cholesky, chunks, invert_factors

__all__ = ["BatchedFactor", "suits"]

Floats = NDArray[np.float64]

LARGEST = 36
"""Above this n, or twice this m (all rows are kept), one LAPACK call an element costs no more than
stacked products (measured)."""


def suits(n: int, m: int) -> bool:
    """Whether elements are better factorized at once than one by one.

    The size of the batch does not decide, so that an element gives the same alone and among others.
    """
    return n <= LARGEST and m <= 2 * LARGEST


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
        """``L`` are the inverses of the Cholesky factors of P, of which somebody is sure."""
        size, m = active.shape
        self._parts = chunks(size, max(m, P.shape[-1]) ** 2) or [slice(0, 0)]

        def of(values: Floats, part: slice) -> Floats:
            return values if len(values) == 1 else values[part]

        self._chunks = [
            _Chunk(of(P, part), of(A, part), active[part], None if L is None else of(L, part))
            for part in self._parts
        ]
        fine = [chunk.fine for chunk in self._chunks]
        self.fine = fine[0] if len(fine) == 1 else np.concatenate(fine)

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """w (B, n, K), zeta (B, m, K), relative residual (B,) for v_x (B, n, K), v_z (B, m, K).

        Without ``refine`` it is the plain solution, as in `DenseFactor.solve`.
        """
        if len(self._chunks) == 1:
            return self._chunks[0].solve(v_x, v_z, refine)
        w, zeta, residual = np.empty(v_x.shape), np.empty(v_z.shape), np.empty(len(v_x))
        for part, chunk in zip(self._parts, self._chunks, strict=True):
            w[part], zeta[part], residual[part] = chunk.solve(v_x[part], v_z[part], refine)
        return w, zeta, residual


class _Chunk:
    """`BatchedFactor` for so few systems that all are treated at once."""

    def __init__(
        self, P: Floats, A: Floats, active: NDArray[np.bool_], L: Floats | None = None
    ) -> None:
        size, m = active.shape
        self.P, self.A, self.active = P, A, active[:, :, None]
        self.fine = ~np.zeros(size, dtype=bool)
        self._penalty: Floats | None = None
        C = (A * self.active).reshape(size, m * P.shape[-1], 1)
        self._steepness = (C.swapaxes(-1, -2) @ C)[..., 0]
        if L is None:
            L = self._factor_of_hessian(C.reshape(size, m, P.shape[-1]))
        self.L = L
        if m:
            self.Y = Y = (A @ L.swapaxes(-1, -2)) * self.active
            S = Y @ Y.swapaxes(-1, -2)
            S.reshape(size, m * m)[:, :: m + 1] += ~active
            L, sure = _sure_factor(S)
            self.fine &= sure
            self.S = invert_factors(L)

    def _factor_of_hessian(self, C: Floats) -> Floats:
        """The inverse factors of P, and of P + C'DC where P has none, as in `DenseFactor`."""
        L, sure = _sure_factor(self.P)
        if np.count_nonzero(sure) == sure.size:
            return invert_factors(L)
        size, n = len(C), C.shape[-1]
        weak = ~np.broadcast_to(sure, size)
        P, C = np.broadcast_to(self.P, (size, n, n)), C[weak]
        curvature = np.abs(P[weak].diagonal(axis1=-2, axis2=-1)).max(axis=-1, initial=0.0)
        curvature[curvature == 0.0] = 1.0
        squares = np.add.reduce(np.square(C), axis=-1)
        squares[squares == 0.0] = 1.0
        penalty = (curvature[:, None] / squares)[:, :, None] * self.active[weak]
        self._penalty = np.zeros(self.active.shape)
        self._penalty[weak] = penalty
        L = np.array(np.broadcast_to(L, (size, n, n)), order="C")
        L[weak], self.fine[weak] = _sure_factor(P[weak] + C.swapaxes(-1, -2) @ (penalty * C))
        return invert_factors(L)

    def solve(self, v_x: Floats, v_z: Floats, refine: bool) -> tuple[Floats, Floats, Floats]:
        g = v_z * self.active
        w, mu = self._apply(v_x, g)
        if not refine:
            return w, mu, np.zeros(len(w))
        r, p, size, blocks = self._residual(v_x, g, w, mu)
        rough = blocks > REFINE  # each element by itself, whatever its neighbours need
        if np.count_nonzero(rough):
            dw, dmu = self._apply(r, p)
            w[rough] += dw[rough]
            mu[rough] += dmu[rough]
            size = self._residual(v_x, g, w, mu)[2]
        return w, mu, size

    def _apply(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        if self._penalty is not None:
            top = top + self.A.swapaxes(-1, -2) @ (self._penalty * bottom)
        t = self.L @ top
        if not bottom.shape[1]:
            return self.L.swapaxes(-1, -2) @ t, bottom.copy()
        mu = self.S.swapaxes(-1, -2) @ (self.S @ (self.Y @ t - bottom))
        t -= self.Y.swapaxes(-1, -2) @ mu
        return self.L.swapaxes(-1, -2) @ t, mu

    def _residual(
        self, top: Floats, bottom: Floats, w: Floats, mu: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Both blocks of the residual, and its sizes (B,), as in `DenseFactor`."""
        up = self.A.swapaxes(-1, -2) @ mu
        r, p = top - self.P @ w - up, bottom - (self.A @ w) * self.active
        size, blocks = relative_sizes(r, p, top, bottom, up, w, self._steepness)
        if size.shape[-1] == 1:
            return r, p, size[:, 0], blocks[:, 0]
        return r, p, size.max(axis=-1, initial=0.0), blocks.max(axis=-1, initial=0.0)


def _sure_factor(matrices: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The Cholesky factors (B, n, n), the identity where a pivot is not sure, and where all are."""
    L = cholesky(matrices)
    pivots = L.diagonal(axis1=-2, axis2=-1)
    sure = np.square(pivots) > SURE * matrices.diagonal(axis1=-2, axis2=-1)  # not where NaN
    if np.count_nonzero(sure) == sure.size:
        return L, ~np.zeros(len(L), dtype=bool)
    good: NDArray[np.bool_] = np.logical_and.reduce(sure, axis=-1)
    L[~good] = np.eye(matrices.shape[-1])
    return L, good
