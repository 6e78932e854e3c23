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

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .._runtime.lazy import lazy
from . import differences
from .point import DENSE, Place

__all__ = ["Ghost", "Solved"]

Floats = NDArray[np.float64]

RANK = 1e-9
"""Singular values of J, and eigenvalues of the curvature, are 0 below this share of the largest."""

NEGATIVE = 1e-6
"""Eigenvalues below minus this share of the largest make the point no minimum."""

ROUNDING = 1e-14
"""What J leaves of a right-hand side is nothing below this share of it."""

CG_TOLERANCE, MANY, LOOSE = 1e-12, 10_000, 1e-7
"""The relative residual at which conjugate gradients stop, and beyond so many variables."""

NOISE, SETTLED, PATIENCE = 1e-7, 12, 6
"""From that residual on, and after so many steps, they stop where it has not halved in so many: it
is in the noise of the differences."""

STALLED = 1e-3
"""Where they end above this residual, there is no solution, or another method finds it."""

LIMIT = 2_000
"""Their steps, at most."""


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


@dataclass
class Ghost:
    """The ghost problem at a place.

    Attributes
    ----------
    how
        ``"dense"``, ``"cg"`` or ``"exact"``: the curvature as a matrix of differences, by products
        with differences, by products with second derivatives.
    tolerance
        Of conjugate gradients, where another one than the default is wanted.
    flat, negative
        Directions without curvature, and whether there are any with a negative one, as far as
        solving has met them.
    steps
        Products with the curvature that conjugate gradients took.
    """

    place: Place
    how: str = "dense"
    tolerance: float = 0.0
    flat: int = 0
    negative: bool = False
    steps: int = 0
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def goal(self) -> float:
        """The relative residual at which conjugate gradients stop."""
        return self.tolerance or (CG_TOLERANCE if self.place.n <= MANY else LOOSE)

    # -- what holds

    @lazy
    def held(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) at the lower bound, at the upper, free."""
        low, high = self.place.at_bounds
        return low, high, ~(low | high)

    @lazy
    def rows(self) -> Floats:
        """(k, n) J, the active rows of norm 1 in u."""
        place = self.place
        keep = np.concatenate((place.active, np.ones(place.e.size, dtype=bool)))
        return place.jacobian[keep] * place.units / place.row_sizes[keep, None]

    @lazy
    def sizes(self) -> Floats:
        """(k,) the norms that the rows had."""
        place = self.place
        return place.row_sizes[np.concatenate((place.active, np.ones(place.e.size, dtype=bool)))]

    @property
    def active_rows(self) -> NDArray[np.intp]:
        return self.place.candidates[self.place.active]

    @lazy
    def basis(self) -> tuple[Floats, Floats, Floats]:
        """(k, r), (r,), (r, F) singular vectors and values of J on the free variables; rank r."""
        J = self.rows[:, self.held[2]]
        if not J.size:
            return np.zeros((len(J), 0)), np.zeros(0), np.zeros((0, J.shape[1]))
        left, values, right = np.linalg.svd(J, full_matrices=False)
        rank = int((values > RANK * values[0]).sum()) if values[0] > 0.0 else 0
        return left[:, :rank], values[:rank], right[:rank]

    @property
    def dependent(self) -> int:
        """Rows that depend on others, or on the bounds that hold."""
        return len(self.rows) - self.basis[1].size

    # -- the curvature

    @lazy
    def step(self) -> float:
        """The largest change of u that a difference takes, from a table in one direction."""
        place, free = self.place, self.held[2]
        direction = np.where(free, 1.0, 0.0)
        if not free.any():
            return 1e-4
        at = differences.steps(1.0 / place.reach)
        moves = at[:, None] * direction * place.units
        y = np.concatenate((place.y + moves, place.y - moves))
        gradients = self._gradients(y)
        found, error, best = differences.line_derivative(gradients * place.units, at)
        size = float(np.abs(found).max(initial=0.0))
        self.notes["curvature"] = error / size if size else 0.0
        return best

    def _gradients(self, y: Floats) -> Floats:
        """(k, n) of the Lagrangian at several points."""
        if self.place.n > 10 * DENSE:
            return np.stack([self.place.model.at(at, self.place.weights)[0] for at in y])
        return self.place.model.each(y, self.place.weights)[0]

    def product(self, u: Floats) -> Floats:
        """(n,) H u."""
        place = self.place
        size = float(np.abs(u).max(initial=0.0))
        if size == 0.0:
            return np.zeros_like(u)
        if self.how == "exact":
            found = place.model.along(place.y, place.weights, place.units * u)[0]
            return place.units * found
        if self.how == "dense" and not (u * ~self.held[2]).any():
            return self.matrix @ u
        t = self.step / size
        move = t * place.units * u
        ahead, behind = (place.model.at(place.y + s * move, place.weights)[0] for s in (1, -1))
        return place.units * (ahead - behind) / (2.0 * t)

    @lazy
    def matrix(self) -> Floats:
        """(n, n) H with the columns of the free variables, 0 elsewhere."""
        place, free = self.place, self.held[2]
        H = np.zeros((place.n, place.n))
        columns = np.flatnonzero(free)
        if not columns.size:
            return H
        if self.how == "exact":
            for j in columns:
                unit = np.zeros(place.n)
                unit[j] = place.units[j]
                H[:, j] = place.units * place.model.along(place.y, place.weights, unit)[0]
        else:
            moves = np.zeros((columns.size, place.n))
            moves[np.arange(columns.size), columns] = self.step * place.units[columns]
            gradients = self._gradients(np.concatenate((place.y + moves, place.y - moves)))
            ahead, behind = np.split(gradients * place.units, 2)
            H[:, columns] = ((ahead - behind) / (2.0 * self.step)).T
        block = np.ix_(columns, columns)
        H[block] = 0.5 * (H[block] + H[block].T)
        return H

    @lazy
    def spectrum(self) -> tuple[Floats, Floats]:
        """(F, N) directions u that J leaves free, and (N,) their curvatures: of these, what is 0
        or negative is counted."""
        right, free = self.basis[2], self.held[2]
        count = int(free.sum())
        whole = np.linalg.svd(right, full_matrices=True)[2] if right.size else np.eye(count)
        Z = whole[len(right) :].T
        H = self.matrix[np.ix_(free, free)]
        values, vectors = np.linalg.eigh(Z.T @ H @ Z)
        largest = max(float(np.abs(values).max(initial=0.0)), RANK * np.abs(H).max(initial=0.0))
        keep = np.abs(values) > RANK * largest
        self.flat = int((~keep).sum())
        self.negative = bool((values < -NEGATIVE * largest).any())
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
        n, D = place.n, place.units
        parts = [
            np.zeros(self.active_rows.size) if w_ineq is None else w_ineq[self.active_rows],
            np.zeros(place.e.size) if w_eq is None else w_eq,
        ]
        w = np.concatenate(parts) / self.sizes
        u = np.zeros(n)
        if w_lower is not None:
            u[low] = w_lower[low] / D[low]
        if w_upper is not None:
            u[high] = -w_upper[high] / D[high]
        left, values, right = self.basis
        rhs = -D * v
        start = -right.T @ ((left.T @ (w + self.rows @ u)) / values)
        u[free] = start
        moved = self.product(u)
        b = self.project((rhs - moved)[free])
        step, moved_by, residual = self._free(b, float(np.linalg.norm(rhs - moved)))
        u[free] += step
        total = rhs - moved - moved_by
        eta = left @ ((right @ total[free]) / values)
        force = -(total - self.rows.T @ eta)  # H u + J'eta - rhs
        split = self.active_rows.size
        eta = eta / self.sizes
        return Solved(
            D * u,
            eta[:split],
            eta[split:],
            np.where(low, force / D, 0.0),
            np.where(high, -force / D, 0.0),
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
            product = self.product(whole)
            self.steps += 1
            return self.project(product[free]), product

        u, product, residual, broken = conjugate_gradients(apply, b, self.project, self.goal)
        if broken and small:
            return self._spectral(b, size)
        if broken:
            self.negative |= broken == "negative"
            u, residual = cgls(lambda u: apply(u)[0], b)
            product = apply(u)[1]
            self.flat = max(self.flat, int(broken == "stalled" or residual > STALLED))
        return u, product, residual * share

    def _spectral(self, b: Floats, size: float) -> tuple[Floats, Floats, float]:
        free = self.held[2]
        Z, values = self.spectrum
        u = Z @ ((Z.T @ b) / values)
        product = self.matrix[:, free] @ u
        left = float(np.linalg.norm(b - self.project(product[free])))
        return u, product, left / size if size else 0.0


def conjugate_gradients(
    apply: Callable[[Floats], tuple[Floats, Floats]],
    b: Floats,
    project: Callable[[Floats], Floats],
    tolerance: float,
) -> tuple[Floats, Floats, float, str]:
    """x with A x = b, the full product at x, the relative residual, and what went wrong: ``""``,
    ``"negative"`` curvature, or ``"stalled"``.

    The residual is that of the products' sum, recomputed at the end: products are differences,
    whose errors add up. M. R. Hestenes and E. Stiefel (1952).
    """
    x, r = np.zeros_like(b), b.copy()
    p, rr, size = r.copy(), float(r @ r), float(np.linalg.norm(b))
    total: Floats | None = None
    history = [1.0]
    for step in range(LIMIT):
        Ap, whole = apply(p)
        bend = float(p @ Ap)
        if not bend > 0.0:
            scale = float(np.linalg.norm(p) * np.linalg.norm(Ap))
            word = "negative" if bend < -NEGATIVE * scale else "stalled"
            total = np.zeros_like(whole) if total is None else total
            return x, total, history[-1], word
        alpha = rr / bend
        x = x + alpha * p
        total = alpha * whole if total is None else total + alpha * whole
        r = project(r - alpha * Ap)
        new = float(r @ r)
        history.append(np.sqrt(new) / size)
        if history[-1] < tolerance:
            break
        stuck = step >= SETTLED and min(history[-PATIENCE:]) > 0.5 * min(history[:-PATIENCE])
        if stuck and min(history) < NOISE:
            break
        p, rr = r + (new / rr) * p, new
    residual = history[-1]
    assert total is not None
    return x, total, residual, "stalled" if residual > max(STALLED, tolerance) else ""


def cgls(apply: Callable[[Floats], Floats], b: Floats) -> tuple[Floats, float]:
    """The least-squares solution of A x = b with A symmetric, and its relative residual.

    Conjugate gradients on A A x = A b: right also where A is singular or indefinite.
    """
    x, r = np.zeros_like(b), b.copy()
    s = apply(r)
    p, gamma, first = s.copy(), float(s @ s), float(s @ s)
    size = float(np.linalg.norm(b))
    for _ in range(LIMIT):
        if gamma <= CG_TOLERANCE**2 * first or gamma == 0.0:
            break
        q = apply(p)
        qq = float(q @ q)
        if qq == 0.0:
            break
        alpha = gamma / qq
        x, r = x + alpha * p, r - alpha * q
        s = apply(r)
        new = float(s @ s)
        p, gamma = s + (new / gamma) * p, new
    return x, float(np.linalg.norm(r)) / size
