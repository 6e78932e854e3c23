"""The ghost KKT system of one element by sparse LDL'.

    [ P     (GA)'  (RA)'     ]
    [ GA     0      0        ]   equilibrated (Ruiz), regularized by +eps / -eps so that LDL' exists
    [ RA     0   -diag(sigma)]   for any order, then refined against the unregularized matrix.

Refinement of a regularized system is the proximal point method: it converges to a solution also
where rows depend on each other. Where it does not converge (no solution), LSMR gives the
least-squares one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import qdldl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lsmr

from .dense import GhostSolve
from .rows import ElementRows

__all__ = ["SparseFactor"]

Floats = NDArray[np.float64]

REGULARIZATION = 1e-8
TARGET = 1e-13
ROUNDS = 30
ACCEPT = 1e-9
"""Above this relative residual the LDL' solution is replaced by a least-squares one."""


class SparseFactor:
    """A factorization that serves any number of right-hand sides; attributes as `DenseFactor`."""

    def __init__(self, P: Any, A: Any, rows: ElementRows) -> None:
        self.rows, self.A = rows, A
        n, m = P.shape[0], A.shape[0]
        G = rows.sparse_G(m)
        C = (G @ A).tocsr()
        self.active = C.shape[0]
        self.dependent = self.free = 0
        R, sigma = rows.sparse_R(m) if rows.curved else (sparse.csr_matrix((0, m)), _NONE)
        RA = (R @ A).tocsr()
        self.G, self.R = G, R
        bottom = sparse.block_diag(
            (sparse.csr_matrix((self.active, self.active)), sparse.diags(-sigma)), format="csr"
        )
        K = sparse.bmat([[P, sparse.vstack([C, RA]).T], [sparse.vstack([C, RA]), bottom]])
        K = sparse.csc_matrix(K)
        self.scale = _equilibrate(K)
        D = sparse.diags(self.scale)
        self.K = (D @ K @ D).tocsc()
        self.n = n
        sign = np.concatenate((np.ones(n), -np.ones(self.active), -np.sign(sigma)))
        self._ldl = qdldl.Solver(
            sparse.csc_matrix(self.K + sparse.diags(REGULARIZATION * sign), copy=False)
        )

    def solve(self, v_x: Floats, v_z: Floats) -> GhostSolve:
        """w and zeta for cotangents v_x (n, K) and v_z (m, K)."""
        columns = v_x.shape[1]
        w = np.empty_like(v_x)
        zeta = np.empty((self.A.shape[0], columns))
        residual = np.empty(columns)
        for j in range(columns):
            v = np.concatenate((v_x[:, j], self.G @ v_z[:, j], self.R @ v_z[:, j]))
            y, residual[j] = self._refined(self.scale * v)
            y *= self.scale
            w[:, j] = y[: self.n]
            mu, rho = y[self.n : self.n + self.active], y[self.n + self.active :]
            zeta[:, j] = self.G.T @ mu + self.R.T @ rho
        return GhostSolve(w, zeta, residual)

    def _refined(self, v: Floats) -> tuple[Floats, float]:
        size = float(np.linalg.norm(v))
        if size == 0.0:
            return np.zeros_like(v), 0.0
        y = self._ldl.solve(v)
        best, best_residual = y, np.inf
        for _ in range(ROUNDS):
            r = v - self.K @ y
            residual = float(np.linalg.norm(r)) / size
            if not residual < best_residual:
                break
            stalled = residual > 0.5 * best_residual and residual < ACCEPT
            best, best_residual = y, residual
            if residual <= TARGET or stalled:
                break
            y = y + self._ldl.solve(r)
        if not best_residual <= ACCEPT:
            start = best if np.isfinite(best).all() and best_residual < 1.0 else None
            found = lsmr(self.K, v, atol=1e-14, btol=1e-14, conlim=1e14, maxiter=2000, x0=start)[0]
            r = float(np.linalg.norm(v - self.K @ found)) / size
            best, best_residual = found, r
        return best, best_residual


_NONE: Floats = np.zeros(0)


def _equilibrate(K: Any, rounds: int = 10) -> Floats:
    magnitude = abs(K).tocsc()
    columns = np.repeat(np.arange(K.shape[1]), np.diff(magnitude.indptr))
    scale = np.ones(K.shape[0])
    for _ in range(rounds):
        entries = magnitude.data * scale[magnitude.indices] * scale[columns]
        largest = np.zeros(K.shape[0])
        np.maximum.at(largest, magnitude.indices, entries)
        largest[largest == 0.0] = 1.0
        if np.abs(largest - 1.0).max(initial=0.0) < 0.1:
            break
        scale /= np.sqrt(largest)
    return scale
