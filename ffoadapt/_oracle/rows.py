"""The ghost rows of one element as linear maps, for either kind of factorization.

G stacks the unit rows first and the rows of the curved blocks after them; likewise W is the
diagonal weight plus the blocks' R' diag(sigma) R.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .active_set import Block, GhostBatch

__all__ = ["ElementRows"]

Floats = NDArray[np.float64]


@dataclass(eq=False)
class ElementRows:
    """G and W of element ``i``; vectors may carry trailing axes: (m, ...) -> (k, ...)."""

    ghost: GhostBatch
    i: int

    @property
    def curved(self) -> bool:
        """Whether there is any row besides the unit rows."""
        return bool(self.ghost.blocks or (self.ghost.weight.size and self.weighted.size))

    def __post_init__(self) -> None:
        #: (m,) whether each canonical row is a unit row of G, and which these are
        self.active: NDArray[np.bool_] = self.ghost.active[self.i]
        self.unit: NDArray[np.intp] = self.active.nonzero()[0]

    @cached_property
    def weighted(self) -> NDArray[np.intp]:
        """The canonical rows with diagonal curvature."""
        return np.flatnonzero(self.ghost.weight[self.i])

    def _parts(self) -> list[tuple[Block, Floats, NDArray[np.bool_], Floats, Floats]]:
        i = self.i
        return [(b, b.G[i], b.has[i], b.R[i], b.sigma[i]) for b in self.ghost.blocks]

    def G(self, v: Floats) -> Floats:
        """G v."""
        if not self.ghost.blocks:
            return v[self.unit]
        pieces = [v[self.unit]]
        for block, G, has, _, _ in self._parts():
            pieces.append(_blockwise(G, v[block.rows], block)[has])
        return np.concatenate(pieces)

    def G_transpose(self, mu: Floats, m: int) -> Floats:
        """G' mu."""
        out = np.zeros((m, *mu.shape[1:]))
        at = self.unit.size
        out[self.unit] = mu[:at]
        for block, G, has, _, _ in self._parts():
            count = int(np.count_nonzero(has))
            if count:
                full = np.zeros((*has.shape, *mu.shape[1:]))
                full[has] = mu[at : at + count]
                out[block.rows] += _blockwise_transpose(G, full, block)
            at += count
        return out

    def W(self, v: Floats) -> Floats:
        """W v."""
        out = self.ghost.weight[self.i].reshape(-1, *(1,) * (v.ndim - 1)) * v
        for block, _, _, R, sigma in self._parts():
            if sigma.any():
                u = _blockwise(R, v[block.rows], block)
                u *= sigma.reshape((*sigma.shape, *(1,) * (v.ndim - 1)))
                out[block.rows] += _blockwise_transpose(R, u, block)
        return out

    def curvature_rows(self, A: Floats) -> tuple[Floats, Floats]:
        """(R A, sigma) of the dense A, without the diagonal weight and without absent rows."""
        rows, signs = [np.zeros((0, A.shape[1]))], [np.zeros(0)]
        for block, _, _, R, sigma in self._parts():
            on = sigma != 0.0
            if on.any():
                rows.append(_blockwise(R, A[block.rows], block)[on])
                signs.append(sigma[on])
        return np.concatenate(rows), np.concatenate(signs)

    def sparse_G(self, m: int) -> Any:
        """G as CSR (k, m)."""
        unit = sparse.csr_matrix(
            (np.ones(self.unit.size), (np.arange(self.unit.size), self.unit)),
            shape=(self.unit.size, m),
        )
        rest = [_sparse_rows(b, G, has, m) for b, G, has, _, _ in self._parts()]
        return sparse.vstack([unit, *rest], format="csr") if rest else unit

    def sparse_R(self, m: int) -> tuple[Any, Floats]:
        """(R, sigma) as CSR (r, m), the diagonal weight included as rows sqrt(w_i) e_i."""
        at = self.weighted
        diagonal = sparse.csr_matrix(
            (np.sqrt(self.ghost.weight[self.i, at]), (np.arange(at.size), at)), shape=(at.size, m)
        )
        rows, signs = [diagonal], [np.ones(at.size)]
        for block, _, _, R, sigma in self._parts():
            on = sigma != 0.0
            rows.append(_sparse_rows(block, R, on, m))
            signs.append(sigma[on])
        return sparse.vstack(rows, format="csr"), np.concatenate(signs)


def _blockwise(rows: Floats, v: Floats, block: Block) -> Floats:
    """(count, r, dim) times (count*dim, ...) -> (count, r, ...)."""
    tail = v.shape[1:]
    out = rows @ v.reshape(block.count, block.dim, -1)
    return out.reshape(*rows.shape[:2], *tail)


def _blockwise_transpose(rows: Floats, u: Floats, block: Block) -> Floats:
    """The transpose of `_blockwise`: (count, r, ...) -> (count*dim, ...)."""
    tail = u.shape[2:]
    out = rows.swapaxes(1, 2) @ u.reshape(*rows.shape[:2], -1)
    return out.reshape(block.count * block.dim, *tail)


def _sparse_rows(block: Block, rows: Floats, on: NDArray[np.bool_], m: int) -> Any:
    at, r = np.nonzero(on)
    data = rows[at, r]
    columns = block.start + at[:, None] * block.dim + np.arange(block.dim)
    index = np.repeat(np.arange(at.size), block.dim)
    matrix = sparse.csr_matrix((data.ravel(), (index, columns.ravel())), shape=(at.size, m))
    matrix.eliminate_zeros()
    return matrix
