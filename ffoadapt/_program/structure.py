"""What is fixed for a layer: sizes, cones, sparsity patterns, and where the rows of bounds went."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._cones import Cone, NonnegativeCone, PSDCone, ZeroCone
from .._runtime.costs import (
    DENSE_CURVED_ENTRIES,
    DENSE_ENTRIES,
    DENSE_FULL,
    EIGENBASIS_ORDER,
    EIGENBASIS_REST,
)
from .._types import Floats, Ints
from .blocks import ConeEntries, MatrixBlock, RowEntries
from .forms import ConeLayout
from .pattern import Pattern

__all__ = ["BoxRows", "Structure", "polyhedral_cones"]


@dataclass(frozen=True, eq=False)
class BoxRows:
    """Which row of ``l <= Ax <= u`` each canonical row came from, and with which sign.

    Canonical rows are, in this order, the equalities (l = u), the finite upper bounds, and the
    finite lower bounds with sign -1.
    """

    equal: Ints
    upper: Ints
    lower: Ints
    rows: int

    @cached_property
    def pairs(self) -> tuple[Ints, Ints]:
        """The canonical rows of the upper and of the lower bound of the rows that have both."""
        _, at_upper, at_lower = np.intersect1d(self.upper, self.lower, return_indices=True)
        start = self.equal.size
        return start + at_upper, start + self.upper.size + at_lower

    @property
    def sides(self) -> tuple[NDArray[np.bool_], ...]:
        """(rows,) each: whether a row is an equality, has an upper and has a lower bound."""
        sides = np.zeros((3, self.rows), dtype=bool)
        for side, at in zip(sides, (self.equal, self.upper, self.lower), strict=True):
            side[at] = True
        return tuple(sides)

    def dual(self, y: Floats) -> Floats:
        """Canonical z (..., m) of a box dual y (..., rows)."""
        parts = (y[..., self.equal], y[..., self.upper], -y[..., self.lower])
        z = np.concatenate(parts, axis=-1)
        k = self.equal.size
        np.maximum(z[..., k:], 0.0, out=z[..., k:])
        return z

    def fold(self, z: Floats) -> Floats:
        """y (..., rows) of canonical z (..., m): y = z_equal + z_upper - z_lower."""
        y = np.zeros((*z.shape[:-1], self.rows))
        j, k = self.equal.size, self.equal.size + self.upper.size
        y[..., self.equal] = z[..., :j]
        y[..., self.upper] += z[..., j:k]
        y[..., self.lower] -= z[..., k:]
        return y

    def unfold(self, y: Floats) -> Floats:
        """The transpose of `fold`: (..., m) from (..., rows)."""
        return np.concatenate(
            (y[..., self.equal], y[..., self.upper], -y[..., self.lower]), axis=-1
        )


@dataclass(frozen=True, eq=False)
class Structure:
    """What is fixed for a layer: sizes, cones, patterns (None means dense)."""

    n: int
    m: int
    cones: tuple[Cone, ...]
    P: Pattern | None = None
    A: Pattern | None = None
    box: BoxRows | None = None

    @cached_property
    def dense(self) -> bool:
        return self.A is None

    @cached_property
    def small(self) -> bool:
        """Whether sparse matrices are so small, or so full, that dense ones are faster."""
        size = self.n * (self.n + self.m)
        if self.matrix_blocks:
            return False
        if size <= (DENSE_ENTRIES if self.polyhedral else DENSE_CURVED_ENTRIES):
            return True
        return self.n <= DENSE_FULL[0] and self._filled > DENSE_FULL[1] * size

    @cached_property
    def matrix_blocks(self) -> tuple[MatrixBlock, ...]:
        """The semidefinite cones, where every row of each is a multiple of another variable, one of
        them is large, and there is not much else; else none."""
        cones = [c for c in zip(self.cones, self.offsets, strict=True) if c[0].kind == "psd"]
        orders = [cone.n for cone, _ in cones if isinstance(cone, PSDCone)]
        rows = sum(cone.dim for cone, _ in cones)
        most = min(self.n // 4, EIGENBASIS_REST)
        if self.A is None or max(orders, default=0) < EIGENBASIS_ORDER:
            return ()
        if self.m + self.n - 2 * rows > most:
            return ()
        blocks = [MatrixBlock.of(self.entries, start, cone.dim) for cone, start in cones]
        matrices = tuple(block for block in blocks if block is not None)
        if len(matrices) < len(blocks):
            return ()
        columns = np.concatenate([b.columns for b in matrices])
        return matrices if np.unique(columns).size == rows else ()

    @property
    def _filled(self) -> int:
        """The entries of P and A, and those that semidefinite cones make of them."""
        assert self.P is not None and self.A is not None
        filled = self.P.nnz + self.A.nnz
        for cone, start, count in self.groups:
            if cone.kind == "psd":
                for first in range(start, start + count * cone.dim, cone.dim):
                    ends = self.entries.indptr[first], self.entries.indptr[first + cone.dim]
                    filled += np.unique(self.entries.columns[slice(*ends)]).size ** 2
        return filled

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of cones in the program."""
        return frozenset(cone.kind for cone in self.cones if cone.dim)

    @cached_property
    def layout(self) -> ConeLayout:
        """Where the rows of which kind of cone are."""
        return ConeLayout(self.cones)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first row of each cone."""
        return tuple(np.cumsum([0, *(cone.dim for cone in self.cones)])[:-1].tolist())

    @cached_property
    def groups(self) -> list[tuple[Cone, int, int]]:
        """Runs of equal neighbouring cones: (cone, first row, how many)."""
        runs: list[tuple[Cone, int, int]] = []
        for start, cone in zip(self.offsets, self.cones, strict=True):
            if runs and not cone.polyhedral and runs[-1][0] == cone:
                runs[-1] = (cone, runs[-1][1], runs[-1][2] + 1)
            elif cone.dim:
                runs.append((cone, start, 1))
        return runs

    @cached_property
    def entries(self) -> RowEntries:
        """The entries of a sparse A by rows."""
        assert self.A is not None
        return RowEntries.of(self.A)

    @cached_property
    def cone_entries(self) -> dict[int, ConeEntries]:
        """Those of the curved cones: of each of the `groups`, by its first row."""
        return {
            start: ConeEntries.of(self.entries, start, count, cone.dim)
            for cone, start, count in self.groups
            if not cone.polyhedral
        }

    @cached_property
    def polyhedral(self) -> bool:
        return all(cone.polyhedral for cone in self.cones)

    @cached_property
    def equality(self) -> NDArray[np.bool_]:
        """(m,) the rows in zero cones."""
        mask = np.zeros(self.m, dtype=bool)
        for start, cone in zip(self.offsets, self.cones, strict=True):
            mask[start : start + cone.dim] = isinstance(cone, ZeroCone)
        return mask

    @cached_property
    def nonnegative(self) -> NDArray[np.bool_]:
        """(m,) the rows in nonnegative cones."""
        mask = np.zeros(self.m, dtype=bool)
        for start, cone in zip(self.offsets, self.cones, strict=True):
            mask[start : start + cone.dim] = isinstance(cone, NonnegativeCone)
        return mask

    @cached_property
    def row_kinds(self) -> NDArray[np.int8]:
        """(m,) 0 for rows in nonnegative cones, 1 for those in zero cones, 2 in curved cones."""
        return np.select([self.nonnegative, self.equality], [np.int8(0), np.int8(1)], np.int8(2))

    @cached_property
    def equalities(self) -> int:
        """The number of rows in zero cones."""
        return int(np.count_nonzero(self.equality))

    @cached_property
    def split(self) -> tuple[slice | Ints, slice | Ints]:
        """(equality rows, inequality rows), as slices where they are contiguous."""
        return _compact(np.flatnonzero(self.equality)), _compact(np.flatnonzero(~self.equality))

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal for structures between which a solver's session can be shared."""
        P, A, box = self.P, self.A, self.box
        return (
            self.n,
            self.m,
            self.cones,
            P and P.key,
            A and A.key,
            box and (box.rows, *(rows.tobytes() for rows in (box.equal, box.upper, box.lower))),
        )


def _compact(rows: Ints) -> slice | Ints:
    if rows.size == 0:
        return slice(0, 0)
    if rows[-1] - rows[0] + 1 == rows.size:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def polyhedral_cones(equalities: int, inequalities: int) -> tuple[Cone, ...]:
    """Zero cone first, nonnegative cone after it."""
    return (ZeroCone(equalities), NonnegativeCone(inequalities))
