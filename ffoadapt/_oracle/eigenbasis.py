"""The ghost KKT system of semidefinite matrices of variables, without the matrix of the system.

The projection onto the semidefinite cone is linearized in the eigenbasis of S - Z = V diag(l) V':
there its derivative multiplies every entry by a number, and so does the curvature k of the ghost
problem. Where all rows of a cone are multiples of variables, the entries of a matrix U, the system

    [ P    C'   Q_t' ]      Q_t u = t o (V'UV),   t^2 = min(1, k),   c = 1 / max(1, k),
    [ C   -D         ]      k = inf where both l <= 0,   k = 0 where both l > 0,
    [ Q_t       -c   ]      C and D: all other rows, of G with D = 0 and of R with D = sigma

has an orthogonal Q. With p I in the place of P for these variables they are eliminated entry by
entry, with their rows, and what is left has the order of the other variables and rows. That is the
preconditioner of conjugate gradients in the null space of the rows; where P is p I in those units,
as in projections, or 0, as in linear programs, it is the inverse. For matrices of order d a product
takes some d^3, and a factorization of the system would take d^6.

Keller, Gould, Wathen (2000); Gould, Hribar, Nocedal (2001): constraint preconditioners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from .._cones import curvatures, smat, svec
from .._program.batch import ProgramBatch
from .._program.blocks import MatrixBlock, joined
from .._types import Floats, Ints
from .active_set import GhostBatch
from .eigenblocks import EigenBlock
from .refinement import PROVEN, Refined, RefinedFactor, norm
from .rows import ElementRows

__all__ = ["EigenbasisFactor"]


SHIFT = 1e-8
"""What is added to the diagonal, relative to the equilibrated entries."""

ITERATIONS = 100
"""Conjugate gradients at most, between two refinements."""

CLOSE = 1e-9
"""The relative size, in the norm of the preconditioner, of a residual at which they end."""

SCALINGS, NEAR = 10, 2.0
"""Rounds of equilibration; it ends where the largest entries are within this factor of 1."""

ROTATED = 4_000_000
"""Numbers that are rotated at once."""


class EigenbasisFactor(RefinedFactor):
    """A `Factor` of element ``i`` of a batch whose semidefinite cones are `matrix_blocks`."""

    def __init__(
        self, batch: ProgramBatch, i: int, ghost: GhostBatch, smoothing: float = 0.0
    ) -> None:
        structure, n = batch.structure, batch.structure.n
        blocks = [b for b in ghost.blocks if isinstance(b, EigenBlock)]
        others = tuple(b for b in ghost.blocks if not isinstance(b, EigenBlock))
        self.rows = ElementRows(replace(ghost, blocks=others), i)
        self.m, self._matrices = structure.m, structure.matrix_blocks
        A = batch.A[i if len(batch.A) > 1 else 0]
        equal, curved, sigma = self.rows.times_sparse(structure, A)
        self._unit, k = equal.lengths.size, equal.lengths.size + sigma.size
        rows = joined([equal, curved])
        C = sparse.csr_array((rows.data, rows.columns, rows.indptr), (k, n))
        D = np.concatenate((np.zeros(self._unit), sigma))
        P = sparse.csr_array(batch.matrix("P", i)) + smoothing * sparse.eye_array(n, format="csr")
        entries = [A[block.places] for block in self._matrices]
        scale = [_equilibrate(P, C, D, self._matrices, entries)]
        self._rotations: list[_Rotation] = []
        spectra, last = [s for b in blocks for s in b.spectra(i)], n + k
        for block, a, (values, V, unit) in zip(self._matrices, entries, spectra, strict=True):
            size = abs(scale[0][block.columns[0]] * a[0])
            rotation = _Rotation.of(block.columns, last, values, V, unit * size**2)
            self._rotations.append(rotation)
            scale.append(rotation.t / size)
            last += a.size
        self._system: _System = _System(P, C, D, np.concatenate(scale), self._rotations)
        held = [rotation.c == 0.0 for rotation in self._rotations]
        self._equal = self._unit + int(sum(map(np.count_nonzero, held)))
        at_x, at_rows = np.ones(n, dtype=bool), np.arange(k) < self._unit
        self._asked = np.concatenate((at_x, at_rows, *held))

    def _scaled(self, v_x: Floats, v_z: Floats) -> Floats:
        pairs = zip(self._rotations, self._matrices, strict=True)
        turned = [rotation.turned(v_z[block.rows]) for rotation, block in pairs]
        below = self.rows.G(v_z), self.rows.R(v_z), *turned
        return self._system.scale * np.concatenate((v_x, *below))

    def _unscaled(self, y: Floats) -> tuple[Floats, Floats]:
        y, n = y * self._system.scale, self._system.n
        mu, rho = y[n : n + self._unit], y[n + self._unit : n + self._system.D.size]
        zeta = self.rows.G_transpose(mu, self.m) + self.rows.R_transpose(rho, self.m)
        for rotation, block in zip(self._rotations, self._matrices, strict=True):
            zeta[block.rows] = rotation.back(y[rotation.part])
        return y[:n], zeta

    @property
    def converges(self) -> bool:
        """Whether what refinement leaves of a right-hand side has no solution: it is in the null
        space, and not merely slow to go."""
        r = self._null_vector
        return norm(self._system.times(r)) <= PROVEN * norm(r)

    def proven(self) -> tuple[bool, bool]:
        """Whether active rows do depend on each other, and x is not determined."""
        if not self.converges:
            return False, False
        return bool(self.rank.dependent), bool(self.rank.free)


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The entries of a matrix among the variables, ``columns``, and those of its rows, ``part``.

    V has the eigenvectors; t and c (dim,) are those of the system, by pairs of these.
    """

    columns: Ints
    part: slice
    V: Floats
    t: Floats
    c: Floats

    @classmethod
    def of(cls, columns: Ints, start: int, values: Floats, V: Floats, unit: float) -> _Rotation:
        """``unit`` is what the curvature is multiplied by."""
        k = curvatures(values) * unit
        part = slice(start, start + columns.size)
        return cls(columns, part, V, np.sqrt(np.minimum(1.0, k)), 1.0 / np.maximum(1.0, k))

    def turned(self, v: Floats) -> Floats:
        """The entries (..., dim) of matrices in the eigenbasis."""
        return svec(self.V.T @ smat(v, len(self.V)) @ self.V)

    def back(self, v: Floats) -> Floats:
        """The transpose, which is the inverse."""
        return svec(self.V @ smat(v, len(self.V)) @ self.V.T)


class _System(Refined):
    """The system of P (n, n), C (k, n) and D (k,) in the units of ``scale``."""

    def __init__(
        self, P: Any, C: Any, D: Floats, scale: Floats, rotations: list[_Rotation]
    ) -> None:
        self.n, self.scale, self._rotations = n, _, _ = P.shape[0], scale, rotations
        self._rows = slice(n, n + D.size)
        units = scale[self._rows]
        x, nu = sparse.diags_array(scale[:n]), sparse.diags_array(units)
        self._P, self._C, self.D = (x @ P @ x).tocsr(), (nu @ C @ x).tocsr(), D * units**2
        self._Ct = self._C.T.tocsr()
        middle, rest = np.zeros(n), np.ones(n, dtype=bool)
        for r in rotations:
            rest[r.columns] = False
            middle[r.columns] = self._P.diagonal()[r.columns].mean()
        self._rest = rest.nonzero()[0]
        entries = self._P.tocoo()
        others = ~(rest[entries.row] & rest[entries.col])
        there = entries.data[others], (entries.row[others], entries.col[others])
        self._left = (sparse.csr_array(there, shape=(n, n)) - sparse.diags_array(middle)).tocsr()
        self._left.eliminate_zeros()
        self._inverse = [
            1.0 / (middle[r.columns] + SHIFT + r.t**2 / (r.c + SHIFT)) for r in rotations
        ]
        self._Z = [self._turned_rows(r) for r in rotations]
        M = self._reduced()
        self._lu = lapack.dgetrf(M, overwrite_a=1)[:2] if M.size else None

    def _turned_rows(self, r: _Rotation) -> Floats:
        """(k, dim) the rows of C in the eigenbasis."""
        rows = self._C[:, r.columns]
        filled = np.diff(rows.indptr).nonzero()[0]
        out = np.zeros(rows.shape)
        step = max(1, ROTATED // len(r.V) ** 2)
        for first in range(0, filled.size, step):
            some = filled[first : first + step]
            out[some] = r.turned(rows[some].toarray())
        return out

    def _reduced(self) -> Floats:
        """The matrix of the other variables and rows, once those of the blocks are eliminated."""
        f, k = self._rest.size, self.D.size
        M = np.zeros((f + k, f + k))
        M[:f, :f] = self._P[self._rest][:, self._rest].toarray() + SHIFT * np.eye(f)
        M[f:, :f] = self._C[:, self._rest].toarray()
        M[:f, f:] = M[f:, :f].T
        M[f:, f:] = -np.diag(self.D + np.where(self.D < 0.0, -SHIFT, SHIFT))
        for Z, inverse in zip(self._Z, self._inverse, strict=True):
            M[f:, f:] -= (Z * inverse) @ Z.T
        return M

    def times(self, y: Floats) -> Floats:
        out, w, nu = np.empty_like(y), y[: self.n], y[self._rows]
        out[: self.n] = self._P @ w + self._Ct @ nu
        out[self._rows] = self._C @ w - self.D * nu
        for r in self._rotations:
            out[r.columns] += r.back(r.t * y[r.part])
            out[r.part] = r.t * r.turned(w[r.columns]) - r.c * y[r.part]
        return out

    def approximate(self, v: Floats) -> Floats:
        """By conjugate gradients from the solution of the preconditioner, which satisfies the rows
        below, as do all that follow."""
        n, y = self.n, self._preconditioned(v)
        r, below = -(self._left @ y[:n]), np.zeros(v.size - self.n)
        if not r.any():
            return y
        d = self._preconditioned(np.concatenate((r, below)))
        product, first = r + self._left @ d[:n], float(r @ d[:n])
        size = first
        for _ in range(ITERATIONS):
            curvature = float(d[:n] @ product)
            if not (curvature > 0.0 and size > CLOSE**2 * first):
                break
            y += size / curvature * d
            r = r - size / curvature * product
            g, last = self._preconditioned(np.concatenate((r, below))), size
            size = float(r @ g[:n])
            d = g + size / last * d
            product = r + self._left @ g[:n] + size / last * product
        return y

    def _preconditioned(self, v: Floats) -> Floats:
        """The solution without what is `_left` of P, and with `SHIFT` on the diagonal."""
        y, f = np.empty_like(v), self._rest.size
        right, sides = np.concatenate((v[self._rest], v[self._rows])), []
        parts = list(zip(self._rotations, self._Z, self._inverse, strict=True))
        for r, Z, inverse in parts:
            sides.append(r.turned(v[r.columns]) + r.t / (r.c + SHIFT) * v[r.part])
            right[f:] -= Z @ (inverse * sides[-1])
        if self._lu is not None:
            right = lapack.dgetrs(*self._lu, right)[0]
        y[self._rest], y[self._rows] = right[:f], right[f:]
        for (r, Z, inverse), side in zip(parts, sides, strict=True):
            u = inverse * (side - Z.T @ right[f:])
            y[r.columns] = r.back(u)
            y[r.part] = (r.t * u - v[r.part]) / (r.c + SHIFT)
        return y


def _equilibrate(
    P: Any, C: Any, D: Floats, matrices: tuple[MatrixBlock, ...], entries: list[Floats]
) -> Floats:
    """(n + k,) symmetric Ruiz scaling of the part of the system without rotations, that of the
    ``entries`` of each of the ``matrices`` being one number over their rows' numbers.

    It starts from the units in which P, and then C, have size 1, as that of `ldl` does, and like
    that it is of powers of 2.
    """
    n, k = C.shape[1], C.shape[0]
    own, scale = np.ones(n + k), np.ones(n + k)
    for block, a in zip(matrices, entries, strict=True):
        own[block.columns] = 1.0 / a
    units, below = sparse.diags_array(np.abs(own)), sparse.diags_array(D)
    K = units @ abs(sparse.block_array([[P, C.T], [C, below]], format="csr") if k else P) @ units
    curvature, steepness = (float(M.max()) if M.nnz else 0.0 for M in (K[:n, :n], K[n:, :n]))
    scale[:n] = 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0
    scale[n:] = 1.0 / (steepness * scale[0]) if steepness > 0.0 else 1.0
    for _ in range(SCALINGS):
        units = sparse.diags_array(scale)
        largest = (units @ K @ units).max(axis=1).toarray().reshape(-1)
        for block in matrices:
            largest[block.columns] = largest[block.columns].max()
        largest[largest == 0.0] = 1.0
        if largest.min() >= 1.0 / NEAR and largest.max() <= NEAR:
            break
        scale /= np.sqrt(largest)
    return own * np.exp2(np.round(np.log2(scale)))
