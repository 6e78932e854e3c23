"""The ghost rows of one element as linear maps, for either kind of factorization.

G stacks the unit rows first and the rows of the curved blocks after them; likewise W is the
diagonal weight plus the blocks' R' diag(sigma) R.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows, joined
from .._program import Structure
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

    @cached_property
    def unit(self) -> NDArray[np.intp]:
        """The canonical rows that are unit rows of G."""
        return np.flatnonzero(self.ghost.active[self.i])

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

    def R(self, v: Floats) -> Floats:
        """R v, the diagonal weight included as rows sqrt(w_i) e_i, which come first."""
        roots = self._roots.reshape(-1, *(1,) * (v.ndim - 1))
        pieces = [roots * v[self.weighted]]
        for block, _, _, R, sigma in self._parts():
            pieces.append(_blockwise(R, v[block.rows], block)[sigma != 0.0])
        return np.concatenate(pieces)

    def R_transpose(self, rho: Floats, m: int) -> Floats:
        """R' rho."""
        out = np.zeros((m, *rho.shape[1:]))
        at = self.weighted.size
        out[self.weighted] = self._roots.reshape(-1, *(1,) * (rho.ndim - 1)) * rho[:at]
        for block, _, _, R, sigma in self._parts():
            on = sigma != 0.0
            count = int(np.count_nonzero(on))
            if count:
                full = np.zeros((*on.shape, *rho.shape[1:]))
                full[on] = rho[at : at + count]
                out[block.rows] += _blockwise_transpose(R, full, block)
            at += count
        return out

    @cached_property
    def _roots(self) -> Floats:
        return np.sqrt(self.ghost.weight[self.i, self.weighted])

    def times_sparse(self, structure: Structure, values: Floats) -> tuple[Rows, Rows, Floats]:
        """G A, R A and the signs sigma of the rows of R, for a sparse A with these values."""
        entries, cones = structure.entries, structure.cone_entries
        equal = [entries.rows(self.unit, values)]
        curved = [entries.rows(self.weighted, values, self._roots)]
        signs = [np.ones(self.weighted.size)]
        for block, G, has, R, sigma in self._parts():
            equal.append(cones[block.start].combined(G, has, values))
            on = sigma != 0.0
            curved.append(cones[block.start].combined(R, on, values))
            signs.append(sigma[on])
        return joined(equal), joined(curved), np.concatenate(signs)


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
