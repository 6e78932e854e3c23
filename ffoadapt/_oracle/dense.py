"""The ghost KKT system of one element by dense LAPACK.

With H = P + A'WA and C = GA, solve

    [ H  C' ] [ w  ]   [ v_x + A'W v_z ]
    [ C  0  ] [ mu ] = [ G v_z         ],      zeta = G' mu + W (A w - v_z).

By Cholesky of H and of the Schur complement C H^-1 C'. Where H is singular (linear programs),
H + C' D C has the same w for any D > 0 and is positive definite whenever the system has one
solution. Cholesky's pivots, relative to the diagonal, say in scale-free terms whether that is so;
where it is not, the Moore-Penrose solution comes from a spectral decomposition: the minimum-norm
multiplier of dependent rows, the least-squares w where it is not unique. Where rows alone depend on
each other, and clearly so, `dependent` has it sooner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh

from .._kernel.ghost import relative_sizes
from .._types import Floats
from .dependent import DependentRows
from .factor import REFINE, Rank
from .lapack import SPECTRAL, deficient, definite_factor, solve_both, solve_factor, solve_rows
from .rows import ElementRows

__all__ = ["DenseFactor"]


ROUNDS = 8
"""Refinement steps at most; one is enough unless rows nearly depend on each other."""


class DenseFactor:
    """A `Factor` of one element with P (n, n), A (m, n) and these ghost rows."""

    def __init__(self, P: Floats, A: Floats, rows: ElementRows) -> None:
        self.rows, self.A = rows, A
        C = np.ascontiguousarray(rows.G(A))
        self.H = H = _hessian(P, A, rows)
        self._steepness = float(np.vdot(C, C))
        # Unit rows are rows of A: C' mu is A' zeta, and a copy of them is not kept.
        self._C = C if rows.ghost.blocks else None
        self._penalty: Floats | None = None
        self._minimal: DependentRows | _Spectral | None = None
        self.dependent = self.free = 0
        if len(C) > len(H) or not self._factorized(C.copy()):
            self._minimal = DependentRows.of(H, C) or _Spectral(H, C)
            self.dependent, self.free = self._minimal.deficiency
        self.active = len(C)
        self.rank = Rank(self.active, self.dependent, self.free)

    def _factorized(self, C: Floats) -> bool:
        """Whether the factors are those of a system of full rank; C is overwritten."""
        H = self.H
        U = definite_factor(H)
        if U is None and len(C):
            self._penalty = _penalties(H, C)
            U = definite_factor(H + (C.T * self._penalty) @ C)
        if U is None:
            return False
        solve_rows(U, C)  # the rows U'^-1 c of H^-1 = U^-1 U'^-1
        S = definite_factor(C @ C.T)
        if S is None:
            return False
        self._U, self._S, self._Y = U, S, C
        return True

    def solve(
        self, v_x: Floats, v_z: Floats, refine: bool = True, random: bool = False
    ) -> tuple[Floats, Floats, Floats]:
        """See `Factor`; the residual of a solution that is not refined is not known, and 0."""
        rows, A = self.rows, self.A
        top, bottom = v_x + A.T @ rows.W(v_z) if rows.curved else v_x, rows.G(v_z)
        w, mu = self._apply(top, bottom)
        size = np.zeros(v_x.shape[1])
        if refine:
            w, mu, size = self._refined(top, bottom, w, mu)
        zeta = rows.G_transpose(mu, A.shape[0])
        if rows.curved:
            zeta += rows.W(A @ w - v_z)
        return w, zeta, size

    def proven(self) -> tuple[bool, bool]:
        """Whether active rows do depend on each other, and x is not determined, in any units.

        The scaling of the whole system is one for rows and columns alike, so that what is only
        badly scaled may look singular; rows and columns by themselves can be scaled to unit size.
        """
        C = self.rows.G(self.A)
        return deficient(C), deficient(np.vstack((self.H, C)).T)

    def _up(self, mu: Floats) -> Floats:
        """C' mu."""
        if self._C is not None:
            return self._C.T @ mu
        return self.A.T @ self.rows.G_transpose(mu, self.A.shape[0])

    def _down(self, w: Floats) -> Floats:
        """C w."""
        return self._C @ w if self._C is not None else self.rows.G(self.A @ w)

    def null(self) -> tuple[Floats, Floats]:
        """(w, zeta) of a random vector of the null space of the ghost KKT matrix."""
        assert self._minimal is not None
        v = self._minimal.random_null()
        n, m = self.H.shape[0], self.A.shape[0]
        zeta = self.rows.G_transpose(v[n:], m)
        if self.rows.curved:
            zeta += self.rows.W(self.A @ v[:n])
        return v[:n], zeta

    def _refined(
        self, top: Floats, bottom: Floats, w: Floats, mu: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Better w and mu where there are, and the relative residual (K,)."""
        r, g, (size, blocks) = self._residual(top, bottom, w, mu)
        for _ in range(0 if self.rank.deficiency else ROUNDS):
            if not np.maximum.reduce(blocks, initial=0.0) > REFINE:
                break
            last = size.max(initial=0.0) <= REFINE  # one step beyond, for the smaller block
            dw, dmu = self._apply(r, g)
            again = self._residual(top, bottom, w + dw, mu + dmu)[2][0]
            better = again < np.maximum(size, REFINE)
            w, mu = np.where(better, w + dw, w), np.where(better, mu + dmu, mu)
            if last or not better.any():
                return w, mu, np.where(better, again, size)
            r, g, (size, blocks) = self._residual(top, bottom, w, mu)
        return w, mu, size

    def _apply(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        if self._minimal is not None:
            return self._minimal.solve(top, bottom)
        if self._penalty is not None:
            top = top + self._up(self._penalty[:, None] * bottom)
        w = np.array(top, order="C")
        solve_factor(self._U, w, transposed=True)
        if not len(bottom):
            mu = bottom
        else:
            mu = self._Y @ w - bottom
            solve_both(self._S, mu)
            w -= self._Y.T @ mu
        solve_factor(self._U, w, transposed=False)
        return w, mu

    def _residual(
        self, top: Floats, bottom: Floats, w: Floats, mu: Floats
    ) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
        """Both blocks of the residual, and its `relative_sizes` (K,)."""
        up = self._up(mu)
        r, g = top - self.H @ w - up, bottom - self._down(w)
        known = r, g, top, bottom, up, w, self._steepness
        return r, g, relative_sizes(np, *known, axis=0)


def _hessian(P: Floats, A: Floats, rows: ElementRows) -> Floats:
    if not rows.curved:
        return P
    H: Floats = P
    at = rows.weighted
    if at.size:
        weighted = A[at] * np.sqrt(rows.ghost.weight[rows.i, at])[:, None]
        H = H + weighted.T @ weighted
    R, sigma = rows.curvature_rows(A)
    if sigma.size:
        H = H + (R.T * sigma) @ R
    return H


def _penalties(H: Floats, C: Floats) -> Floats:
    """(k,) weights that bring C'DC to the size of H."""
    size = float(np.abs(H.diagonal()).max(initial=0.0)) or 1.0
    norms = np.einsum("ij,ij->i", C, C)
    return size / np.where(norms > 0.0, norms, 1.0)


class _Spectral:
    """The Moore-Penrose inverse of the ghost KKT matrix, with rank decided after equilibration."""

    def __init__(self, H: Floats, C: Floats) -> None:
        n, k = H.shape[0], C.shape[0]
        K = np.zeros((n + k, n + k))
        K[:n, :n] = H
        K[n:, :n] = C
        K[:n, n:] = C.T
        scale = _equilibrate(K)
        scaled = K * scale * scale[:, None]
        if not np.isfinite(scaled).all():  # beyond float64: nothing of it can be solved
            scaled, scale = np.zeros_like(scaled), np.ones_like(scale)
        values, vectors = eigh(scaled)
        zero = np.abs(values) <= SPECTRAL * np.abs(values).max(initial=0.0)
        self.n = n
        self._scale = scale[:, None]
        self._values = values[~zero, None]
        self._vectors = vectors[:, ~zero]
        self._null: Any = np.zeros((n + k, 0))
        if zero.any():
            self._null = np.linalg.qr(vectors[:, zero] * scale[:, None])[0]
        in_rows = float(np.sum(self._null[n:] ** 2))
        self.deficiency = (round(in_rows), int(zero.sum()) - round(in_rows))

    def random_null(self) -> Floats:
        vector: Floats = self._null @ np.random.default_rng(0).standard_normal(self._null.shape[1])
        return vector

    def solve(self, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        v = np.concatenate((top, bottom))
        v = v - self._null @ (self._null.T @ v)
        y = self._vectors @ ((self._vectors.T @ (self._scale * v)) / self._values)
        w = self._scale * y
        w = w - self._null @ (self._null.T @ w)
        return w[: self.n], w[self.n :]


def _equilibrate(K: Floats, rounds: int = 12) -> Floats:
    """Symmetric Ruiz scaling d with the rows of diag(d) |K| diag(d) of largest entry near 1."""
    magnitude: Any = np.abs(K)
    scale = np.ones(K.shape[0])
    for _ in range(rounds):
        largest = (magnitude * scale).max(axis=1, initial=0.0) * scale
        largest[largest == 0.0] = 1.0
        if np.abs(largest - 1.0).max(initial=0.0) < 0.1:
            break
        scale /= np.sqrt(largest)
    return scale
