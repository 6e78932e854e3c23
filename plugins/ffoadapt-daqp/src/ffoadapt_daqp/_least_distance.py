"""The least-distance form of a quadratic program, by BLAS.

DAQP turns every program into one of least distance and eliminates the equalities on the way. It
does so in plain loops, which take longer than its iterations, and it keeps the equalities where P
is diagonal. Here LAPACK does both, and DAQP gets what is left:

    P = LL',  M = A L'^-1,  y = L'x + L^-1 q:    1/2 |y|^2,     l + Mv <= My <= u + Mv,  v = L^-1 q
    equalities M_e' = [Q1 Q2] [R; 0],
    y = Q1 w + Q2 t,  R'w = their bounds:        1/2 |t|^2,     bounds - M_i Q1 w <= M_i Q2 t

The multipliers of the inequalities are the same in all three, those of the equalities follow from
stationarity: w + R y_e + (M_i Q1)'y_i = 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ffoadapt import BoxForm

from . import _triangular

__all__ = ["LeastDistance", "Unchanged", "least_distance", "worthwhile"]

Floats = NDArray[np.float64]

SMALL = 2e6
"""n^2 (n + m - 2 p) up to which DAQP's own loops take less time, by measurement."""

PIVOT = 1e-5
"""The least share of its diagonal entry that a pivot of P may keep: P is far from singular then."""

DEPENDENT = 1e-6
"""The least share of its length that a row may keep when the equalities before it are taken out."""

BLOCK = 64
"""Columns that LAPACK takes at once, for its workspace."""


@dataclass(frozen=True)
class Unchanged:
    """The program as it is; `LeastDistance` says what the methods do."""

    program: BoxForm

    def data(self) -> tuple[Floats, ...]:
        # Copies, because DAQP asks for writable arrays in C order.
        p = self.program
        return p.P.copy(), p.q.copy(), p.A.copy(), p.u.copy(), p.l.copy()

    def start(self, dual: Floats) -> Floats:
        return _finite(dual, self.program.l, self.program.u)

    def point(self, x: Floats, dual: Floats) -> tuple[Floats, Floats]:
        return x, dual


@dataclass(frozen=True)
class Equalities:
    """What the p eliminated rows leave behind: Q and R, as dgeqrf packs them, w, and (M_i Q1)'."""

    QR: Floats
    tau: Floats
    w: Floats
    coupling: Floats

    def point(self, t: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """y (n,) and the multipliers, those of the equalities first."""
        p = self.w.size
        ours = lapack.dtrtrs(self.QR[:p], self.w + self.coupling @ dual)[0]
        y = np.concatenate((self.w, t))[:, None]
        y = lapack.dormqr("L", "N", self.QR, self.tau, y, BLOCK, overwrite_c=1)[0]
        return y[:, 0], np.concatenate((-ours, dual))


@dataclass(frozen=True)
class LeastDistance:
    """1/2 |t|^2, lower <= rows t <= upper, and the way back to x and the multipliers.

    Attributes
    ----------
    rows, lower, upper
        (m - p, n - p) and (m - p,): what DAQP is given.
    order
        (m,) the rows of A, the p equalities first.
    root, v
        L, (n, n), or its diagonal where it is diagonal, (n,); v (n,).
    equalities
        None where there are none.
    """

    rows: Floats
    lower: Floats
    upper: Floats
    order: NDArray[np.intp]
    root: Floats
    v: Floats
    equalities: Equalities | None = None

    def data(self) -> tuple[Floats, ...]:
        """H, f, A, the upper and the lower bounds, as DAQP wants them."""
        size = self.rows.shape[1]
        return np.eye(size), np.zeros(size), self.rows, self.upper, self.lower

    def start(self, dual: Floats) -> Floats:
        """The multipliers of DAQP's rows among those (m,) of all."""
        return _finite(
            dual[self.order[self.order.size - self.upper.size :]], self.lower, self.upper
        )

    def point(self, t: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """x (n,) and the multipliers (m,) of a solution t and the multipliers of its rows."""
        y, found = self.equalities.point(t, dual) if self.equalities else (t, dual)
        x, multipliers = y - self.v, np.empty_like(found)
        _whiten(self.root, x[:, None], transposed=True)
        multipliers[self.order] = found
        return x, multipliers


def worthwhile(n: int, m: int, equalities: int = 0) -> bool:
    """Whether the form may gain time for programs of this size."""
    return n * n * (n + m - 2 * equalities) >= SMALL


def least_distance(program: BoxForm) -> LeastDistance | None:
    """The form; None where it gains nothing, or where P or the equalities are nearly singular."""
    m, n = program.A.shape
    if not worthwhile(n, m):
        return None
    equal = program.l == program.u
    p = int(np.count_nonzero(equal))
    if not worthwhile(n, m, p) or p >= n:
        return None
    root = _root(program.P)
    if root is None or (root.ndim == 1 and not p):
        return None
    order = np.argsort(~equal, kind="stable")
    M, v = program.A.take(order, axis=0).T, program.q.copy()  # (n, m): a column for each row of A
    _whiten(root, M)
    _whiten(root, v[:, None])
    shift = v @ M
    lower, upper = program.l[order] + shift, program.u[order] + shift
    if not p:
        return LeastDistance(M.T, lower, upper, order, root, v)
    lengths = _lengths(M)
    QR, tau, *_ = lapack.dgeqrf(M[:, :p], lwork=BLOCK * p, overwrite_a=1)
    M = lapack.dormqr("L", "T", QR, tau, M[:, p:], BLOCK * max(1, m - p), overwrite_c=1)[0]
    left = np.concatenate((np.abs(QR.diagonal()), _lengths(M[p:])))
    if not (left > DEPENDENT * lengths).all():
        return None
    w = lapack.dtrtrs(QR[:p], lower[:p], trans=1)[0]
    shift = w @ M[:p]
    lower, upper = lower[p:] - shift, upper[p:] - shift
    rows = np.ascontiguousarray(M[p:].T)
    return LeastDistance(rows, lower, upper, order, root, v, Equalities(QR, tau, w, M[:p]))


def _finite(dual: Floats, lower: Floats, upper: Floats) -> Floats:
    """The multipliers, 0 where their bound is infinite by now: DAQP would start from NaN."""
    return np.where(np.isfinite(np.where(dual > 0.0, upper, lower)), dual, 0.0)


def _root(P: Floats) -> Floats | None:
    """L of P = LL', its diagonal where P is diagonal; None where a pivot is nearly zero."""
    diagonal = P.diagonal()
    if not P[-1, :-1].any() and np.count_nonzero(P) == np.count_nonzero(diagonal):
        return np.sqrt(diagonal) if diagonal.min() > 0.0 else None
    try:
        L: Any = np.linalg.cholesky(P)
    except np.linalg.LinAlgError:
        return None
    return L if (np.square(L.diagonal()) > PIVOT * diagonal).all() else None


def _whiten(L: Floats, columns: Floats, transposed: bool = False) -> None:
    """Overwrite the (n, k) columns with L^-1 or L'^-1 times them."""
    if L.ndim == 1:
        columns /= L[:, None]
    else:
        _triangular.solve(L, columns, transposed)


def _lengths(columns: Floats) -> Floats:
    """(k,) Euclidean lengths of the (n, k) columns."""
    return np.sqrt(np.einsum("ij,ij->j", columns, columns))
