"""The ghost problem of a smooth program, from gradients alone.

In the units of a place (u = y / D, rows of norm 1), for the free variables F and the active rows J:

    [ H  J' ] [ u   ]     [ D v   ]
    [ J  0  ] [ eta ] = - [ w / r ]      u_B = given by the bounds that hold

J is an orthonormal basis of its rows by SVD, so that dependent rows have the least multipliers. H
is never formed by second derivatives: either the differences of gradients along all variables make
it a matrix, or its products do in conjugate gradients on its projection to J u = 0. Where these
break down (curvature that is negative or none) the eigenvalues of the projection decide, or CGLS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._runtime.lazy import lazy
from .._types import Floats, Ints
from . import krylov
from .algebra import eigh, svd
from .curvature import Curvature
from .place import DENSE, Place

__all__ = ["Ghost", "Solved"]


RANK = 1e-9
"""Singular values of J, and eigenvalues of the curvature, are 0 below this share of the largest."""

ROUNDING = 1e-14
"""What J leaves of a right-hand side is nothing below this share of it."""

MANY, LOOSE = 10_000, 1e-7
"""Beyond so many variables conjugate gradients stop at this relative residual."""


@dataclass
class Solved:
    """A solution (d, eta) of the ghost problem, in the units of the program.

    ``ineq`` are multipliers of the active inequalities alone; ``lower`` and ``upper`` (n,) those of
    the bounds.
    """

    d: Floats
    ineq: Floats
    eq: Floats
    lower: Floats
    upper: Floats
    residual: float
    curved: Floats  # (n,) H u, in the units of the place

    def plus(self, step: Solved) -> Solved:
        """Corrected by another one."""
        return Solved(
            self.d + step.d,
            self.ineq + step.ineq,
            self.eq + step.eq,
            self.lower + step.lower,
            self.upper + step.upper,
            self.residual,
            self.curved + step.curved,
        )


@dataclass
class Ghost:
    """The ghost problem at a place.

    Attributes
    ----------
    how
        See `Curvature`.
    tolerance
        Of conjugate gradients, where another one than the default is wanted.
    near
        The curvature of an earlier place, used where it serves.
    measured
        See `Curvature`.
    flat, negative
        Directions without curvature, and whether there are any with a negative one, as far as
        solving has met them.
    steps
        Products with the curvature that conjugate gradients took.
    condition
        Of the curvature, as far as conjugate gradients have seen.
    """

    place: Place
    how: str = "dense"
    tolerance: float = 0.0
    near: Curvature | None = None
    measured: bool = True
    flat: int = 0
    negative: bool = False
    steps: int = 0
    condition: float = 1.0

    @property
    def goal(self) -> float:
        """The relative residual at which conjugate gradients stop."""
        return self.tolerance or (krylov.CG_TOLERANCE if self.place.n <= MANY else LOOSE)

    # -- what holds

    @lazy
    def held(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) at the lower bound, at the upper, free."""
        low, high = self.place.at_bounds
        return low, high, ~(low | high)

    @lazy
    def _keep(self) -> NDArray[np.bool_]:
        """(candidates + equalities,) the rows that hold."""
        return np.concatenate((self.place.active, np.ones(self.place.e.size, dtype=bool)))

    @lazy
    def rows(self) -> Floats:
        """(k, n) J, the active rows of norm 1 in u."""
        keep = self._keep
        return self.place.jacobian[keep] * self.place.units / self.sizes[:, None]

    @lazy
    def sizes(self) -> Floats:
        """(k,) the norms that the rows had."""
        return self.place.row_sizes[self._keep]

    @lazy
    def active_rows(self) -> Ints:
        return self.place.candidates[self.place.active]

    @lazy
    def _factors(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(k, r), (r,), (r, F) singular vectors and values of J on the free variables; rank r. For
        few variables, also the rest of a basis (F - r, F)."""
        J = self.rows[:, self.held[2]]
        small, count = self.place.n <= DENSE or self.how == "dense", J.shape[1]
        if not J.size:
            basis = np.eye(count) if small else np.zeros((0, count))
            return np.zeros((len(J), 0)), np.zeros(0), np.zeros((0, count)), basis
        left, values, right = svd(J, small)
        rank = int((values > RANK * values[0]).sum()) if values[0] > 0.0 else 0
        return left[:, :rank], values[:rank], right[:rank], right[rank:]

    @property
    def basis(self) -> tuple[Floats, Floats, Floats]:
        """(k, r), (r,), (r, F) singular vectors and values of J on the free variables; rank r."""
        return self._factors[:3]

    @property
    def dependent(self) -> int:
        """Rows that depend on others, or on the bounds that hold."""
        return len(self.rows) - self.basis[1].size

    def weights(self, direction: Solved) -> Floats:
        """(1 + rows,) the multipliers of a solution, as `Place.weights` are."""
        weights = np.zeros_like(self.place.weights)
        weights[1 + self.active_rows] = direction.ineq
        weights[1 + self.place.m :] = direction.eq
        return weights

    # -- the curvature

    @lazy
    def curvature(self) -> Curvature:
        free, near = self.held[2], self.near
        if near is not None and near.serves(self.place, self.how, free):
            return near
        return Curvature(self.place, self.how, free, self.measured)

    @lazy
    def spectrum(self) -> tuple[Floats, Floats]:
        """(F, N) directions u that J leaves free, and (N,) their curvatures: of these, what is 0
        or negative is counted."""
        Z, free = self._factors[3].T, self.held[2]
        H = self.curvature.matrix
        if not free.all():
            H = H[np.ix_(free, free)]
        values, vectors = eigh(Z.T @ H @ Z)
        size = np.abs(values)
        largest = max(float(size.max(initial=0.0)), RANK * float(np.abs(H).max(initial=0.0)))
        keep = size > RANK * largest
        self.flat = int((~keep).sum())
        self.negative = bool((values < -krylov.NEGATIVE * largest).any())
        return Z @ vectors[:, keep], values[keep]

    # -- solving

    def project(self, u: Floats) -> Floats:
        """The part of u (F,) that moves no row; applied twice, against rounding."""
        right = self.basis[2]
        for _ in range(2):
            u = u - right.T @ (right @ u)
        return u

    def solve(
        self,
        v: Floats,
        w_ineq: Floats | None = None,
        w_eq: Floats | None = None,
        w_lower: Floats | None = None,
        w_upper: Floats | None = None,
    ) -> Solved:
        """For v on y (n,) and w on the multipliers: of all inequalities (m,), of which those that
        are not active count for nothing, of equalities, and of bounds."""
        place, (low, high, free) = self.place, self.held
        n, D, active = place.n, place.units, self.active_rows
        w = np.zeros(self.sizes.size)
        if w_ineq is not None:
            w[: active.size] = w_ineq[active]
        if w_eq is not None:
            w[active.size :] = w_eq
        w = w / self.sizes
        u = np.zeros(n)
        if w_lower is not None:
            u[low] = w_lower[low] / D[low]
        if w_upper is not None:
            u[high] = -w_upper[high] / D[high]
        left, values, right = self.basis
        rhs = -D * v
        u[free] = -right.T @ ((left.T @ (w + self.rows @ u)) / values)
        moved = self.curvature.product(u)
        b = self.project((rhs - moved)[free])
        step, moved_by, residual = self._free(b, float(np.linalg.norm(rhs - moved)))
        u[free] += step
        total = rhs - moved - moved_by
        eta = left @ ((right @ total[free]) / values)
        force = (self.rows.T @ eta - total) / D  # H u + J'eta - rhs
        eta = eta / self.sizes
        return Solved(
            D * u,
            eta[: active.size],
            eta[active.size :],
            np.where(low, force, 0.0),
            np.where(high, -force, 0.0),
            residual,
            moved + moved_by,
        )

    def _free(self, b: Floats, size: float) -> tuple[Floats, Floats, float]:
        """(F,) the u that J leaves free with P H P u = b, H times it (n,), and the residual beside
        ``size``."""
        free, n = self.held[2], self.place.n
        small = n <= DENSE
        if self.how == "dense" or (self.how == "exact" and small):
            return self._spectral(b, size)
        share = float(np.linalg.norm(b)) / size if size else 0.0
        if share <= ROUNDING:
            return np.zeros_like(b), np.zeros(n), 0.0

        def apply(u: Floats) -> tuple[Floats, Floats]:
            whole = np.zeros(n)
            whole[free] = u
            product = self.curvature.product(whole)
            self.steps += 1
            return self.project(product[free]), product

        iterated = krylov.conjugate_gradients(apply, b, self.project, self.goal)
        if not iterated.trouble:
            self.condition = max(self.condition, iterated.largest / iterated.lowest)
            return iterated.x, iterated.product, iterated.residual * share
        if small:
            return self._spectral(b, size)
        self.negative |= iterated.trouble == "negative"
        u, residual = krylov.cgls(lambda u: apply(u)[0], b)
        stalled = iterated.trouble == "stalled" or residual > krylov.STALLED
        self.flat = max(self.flat, int(stalled))
        return u, apply(u)[1], residual * share

    def _spectral(self, b: Floats, size: float) -> tuple[Floats, Floats, float]:
        Z, values = self.spectrum
        u = Z @ ((Z.T @ b) / values)
        free = self.held[2]
        product = self.curvature.matrix[:, free] @ u
        left = float(np.linalg.norm(b - self.project(product[free])))
        return u, product, left / size if size else 0.0
