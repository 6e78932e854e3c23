"""The ghost rows of one element as linear maps, for either kind of factorization.

G stacks the unit rows first and the rows of the curved blocks after them; likewise W is the
diagonal weight plus the blocks' R' diag(sigma) R.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .._program.blocks import Rows, joined
from .._program.structure import Structure
from .._types import Floats
from .active_set import Block, GhostBatch
from .eigenblocks import EigenBlock

__all__ = ["ElementRows"]


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

    @cached_property
    def _equal(self) -> list[_Part]:
        return [_Part.of(b, b.G[self.i], b.has[self.i]) for b in self.ghost.blocks]

    @cached_property
    def _curved(self) -> list[tuple[_Part, Floats]]:
        """The curvature rows of the blocks, and their signs (count, r)."""
        parts = []
        for b in self.ghost.blocks:
            sigma = b.sigma[self.i]
            there = sigma != 0.0
            parts.append((_Part.of(b, b.R[self.i], there), sigma[:, there.any(axis=0)]))
        return parts

    def G(self, v: Floats) -> Floats:
        """G v."""
        if not self.ghost.blocks:
            return v[self.unit]
        return np.concatenate([v[self.unit], *(part.times(v) for part in self._equal)])

    def G_transpose(self, mu: Floats, m: int) -> Floats:
        """G' mu."""
        out = np.zeros((m, *mu.shape[1:]))
        at = self.unit.size
        out[self.unit] = mu[:at]
        for part in self._equal:
            part.add_transpose(mu[at : at + part.size], out)
            at += part.size
        return out

    def W(self, v: Floats) -> Floats:
        """W v."""
        out = self.ghost.weight[self.i].reshape(-1, *(1,) * (v.ndim - 1)) * v
        for part, sigma in self._curved:
            if part.size:
                u = part.all_times(v)
                u *= sigma.reshape((*sigma.shape, *(1,) * (v.ndim - 1)))
                part.add_all_transpose(u, out)
        return out

    def curvature_rows(self, A: Floats) -> tuple[Floats, Floats]:
        """(R A, sigma) of the dense A, without the diagonal weight and without absent rows."""
        rows, signs = [np.zeros((0, A.shape[1]))], [np.zeros(0)]
        for part, sigma in self._curved:
            if part.size:
                rows.append(part.times(A))
                signs.append(sigma[part.on])
        return np.concatenate(rows), np.concatenate(signs)

    def R(self, v: Floats) -> Floats:
        """R v, the diagonal weight included as rows sqrt(w_i) e_i, which come first."""
        roots = self._roots.reshape(-1, *(1,) * (v.ndim - 1))
        parts = (part.times(v) for part, _ in self._curved)
        return np.concatenate([roots * v[self.weighted], *parts])

    def R_transpose(self, rho: Floats, m: int) -> Floats:
        """R' rho."""
        out = np.zeros((m, *rho.shape[1:]))
        at = self.weighted.size
        out[self.weighted] = self._roots.reshape(-1, *(1,) * (rho.ndim - 1)) * rho[:at]
        for part, _ in self._curved:
            part.add_transpose(rho[at : at + part.size], out)
            at += part.size
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
        for part in self._equal:
            equal.append(cones[part.block.start].combined(part.rows, part.on, values))
        for part, sigma in self._curved:
            curved.append(cones[part.block.start].combined(part.rows, part.on, values))
            signs.append(sigma[part.on])
        return joined(equal), joined(curved), np.concatenate(signs)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows (count, k, dim) of the cones of a block, of which ``size`` are there: where ``on``."""

    block: Block | EigenBlock
    rows: Floats
    on: NDArray[np.bool_]
    size: int

    @classmethod
    def of(cls, block: Block | EigenBlock, rows: Floats, on: NDArray[np.bool_]) -> _Part:
        # Rows that other elements of the batch have must not be there: BLAS would see them.
        some = on.any(axis=0)
        return cls(block, rows[:, some], on[:, some], int(np.count_nonzero(on)))

    def all_times(self, v: Floats) -> Floats:
        """All rows times v (m, ...): (count, k, ...)."""
        block = self.block
        out = self.rows @ v[block.rows].reshape(block.count, block.dim, -1)
        return out.reshape(*self.on.shape, *v.shape[1:])

    def times(self, v: Floats) -> Floats:
        """The rows that are there times v: (size, ...)."""
        products = self.all_times(v)
        if self.size == self.on.size:
            return products.reshape(self.size, *v.shape[1:])
        return products[self.on]

    def add_all_transpose(self, u: Floats, out: Floats) -> None:
        """Add the transpose of all rows times u (count, k, ...) to ``out`` (m, ...)."""
        block = self.block
        products = self.rows.swapaxes(1, 2) @ u.reshape(*self.on.shape, -1)
        out[block.rows] += products.reshape(block.count * block.dim, *u.shape[2:])

    def add_transpose(self, u: Floats, out: Floats) -> None:
        """Add the transpose of the rows that are there times u (size, ...) to ``out`` (m, ...)."""
        if not self.size:
            return
        if self.size == self.on.size:
            full = u.reshape(*self.on.shape, *u.shape[1:])
        else:
            full = np.zeros((*self.on.shape, *u.shape[1:]))
            full[self.on] = u
        self.add_all_transpose(full, out)
