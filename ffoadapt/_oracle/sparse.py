"""The ghost KKT system of one element by sparse LDL'.

[ P     (GA)'  (RA)'     ]
[ GA     0      0        ]   with the curvature as rows: see `ldl` for how it is solved.
[ RA     0   -diag(sigma)]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from .._program.batch import ProgramBatch
from .._program.blocks import joined
from .._program.pattern import digest
from .._types import Floats
from .lapack import deficient
from .ldl import RefinedLDL
from .refinement import PART, PROVEN, RefinedFactor, norm
from .rows import ElementRows
from .workspace import Workspace

__all__ = ["SparseFactor"]


PROVABLE = 1000
"""So many rows or variables in it, at most, are looked at by themselves."""


class SparseFactor(RefinedFactor):
    """A `Factor` of element ``i`` of a sparse batch with these ghost rows.

    ``smoothing`` is added to the diagonal of P; ``near`` is the factor of a nearby system, which
    serves here as far as it can.
    """

    def __init__(
        self,
        batch: ProgramBatch,
        i: int,
        rows: ElementRows,
        smoothing: float = 0.0,
        near: SparseFactor | None = None,
    ) -> None:
        structure = batch.structure
        P, A = structure.P, structure.A
        assert P is not None and A is not None
        self.rows, self.n, self.m, self._equal = rows, structure.n, structure.m, rows.unit.size
        A_values = batch.A[i if len(batch.A) > 1 else 0]
        sigma: Floats = np.zeros(0)
        if rows.curved:
            GA, RA, sigma = rows.times_sparse(structure, A_values)
            self._equal, C = GA.lengths.size, joined([GA, RA])
            key: Any = P.key, digest(C.indptr, C.columns)
            make = partial(Workspace.of, key, P, C.indptr, C.columns)
        else:
            key = P.key, A.key, np.packbits(rows.active).tobytes()
            make = partial(Workspace.of_rows, key, P, A, rows.active)
        self._P = batch.matrix("P", i)
        self._system: RefinedLDL = RefinedLDL(
            key,
            make,
            self._P,
            lambda space: C.data if rows.curved else A_values[space.C_from],
            (np.full(self.n, smoothing), np.concatenate((np.zeros(self._equal), sigma))),
            None if near is None else near._system,
        )
        self._asked = slice(self.n + self._equal)

    def _scaled(self, v_x: Floats, v_z: Floats) -> Floats:
        below = [self.rows.G(v_z)]
        if self.rows.curved:
            below.append(self.rows.R(v_z))
        return self._system.scale * np.concatenate((v_x, *below))

    def _unscaled(self, y: Floats) -> tuple[Floats, Floats]:
        """(w, zeta) of a vector in equilibrated units."""
        y = y * self._system.scale
        mu, rho = y[self.n : self.n + self._equal], y[self.n + self._equal :]
        zeta = self.rows.G_transpose(mu, self.m)
        if self.rows.curved:
            zeta += self.rows.R_transpose(rho, self.m)
        return y[: self.n], zeta

    def proven(self) -> tuple[bool, bool]:
        """Whether there are dependent rows, and free directions, in earnest: what is nearly such a
        null space may be badly scaled."""
        r, n, d = self._null_vector, self.n, self._system.scale[: self.n]
        if not norm(self._system.times(r)) <= PROVEN * norm(r):
            return False, False
        # That a system with curvature leaves nothing of it is not enough: of rows that differ by
        # 1e-8 it leaves 1e-16. So look at those that take part.
        dependent, free = bool(self.rank.dependent), bool(self.rank.free)
        large = np.abs(r) > PART * np.abs(r).max(initial=0.0)
        rows, columns = n + np.flatnonzero(large[n:]), np.flatnonzero(large[:n])
        C = self._system.below.tocsr()
        if dependent and rows.size <= PROVABLE:
            some = C[rows - n][:, :n].tocsc()
            filled = np.flatnonzero(np.diff(some.indptr))
            dependent = filled.size > PROVABLE or deficient(some[:, filled].toarray())
        if free and columns.size <= PROVABLE:
            scaled = sparse.diags_array(d) @ self._P[:, columns] @ sparse.diags_array(d[columns])
            some = sparse.vstack((scaled, C[:, columns]), "csr")
            some = some[np.diff(some.indptr) > 0]
            free = some.shape[0] > PROVABLE or deficient(some.toarray().T)
        return dependent, free
