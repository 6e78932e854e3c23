"""The factorizations of the ghost KKT systems of a batch: who factorizes which element, and how
all are solved at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch
from .._runtime import threads
from .._runtime.costs import DENSE_FULL, GIL_ORDER
from .._runtime.lazy import lazy
from .._types import Floats
from .active_set import GhostBatch
from .batched import BatchedFactor, Lent, covers
from .dense import DenseFactor
from .eigenbasis import EigenbasisFactor
from .factor import Rank
from .refinement import ROUGH
from .rows import ElementRows
from .sparse import SparseFactor

__all__ = ["Evidence", "Factors", "Nearby", "portable"]

Nearby = Mapping[int, "SparseFactor | Lent"]
"""Factorizations at nearby points, by element."""

AnyFactor: TypeAlias = "DenseFactor | SparseFactor | EigenbasisFactor"

Pair = tuple[Floats, Floats]


class Evidence(NamedTuple):
    """What a ghost solve says of its own answer, for the report.

    Attributes
    ----------
    residual
        (B,) the largest relative residual of each element.
    factors
        What solved it, whose `Factors.rank` says how far the answer is the only one.
    """

    residual: Floats
    factors: Factors


class Factors:
    """The factorizations at the ghost rows of a batch, each made when it is first needed.

    Compiled code factorizes all elements of a batch that it `covers`. What it finds no full rank
    in, and all elements of other batches, have a `Factor` each, dense or sparse.
    """

    def __init__(
        self,
        batch: ProgramBatch,
        ghost: GhostBatch,
        solved: NDArray[np.bool_],
        smoothing: float = 0.0,
        nearby: Nearby | None = None,
    ) -> None:
        """Elements that are not ``solved`` have the solution 0. ``smoothing`` is added to the
        diagonal of P, and ``nearby`` factorizations serve as far as they can."""
        self.batch, self.ghost, self.solved, self.smoothing = batch, ghost, solved, smoothing
        self.nearby = nearby or {}
        self.each: dict[int, AnyFactor] = {}
        self._all_solved = bool(solved.all())

    def __getstate__(self) -> dict[str, Any]:
        """Without factors that live in compiled code: these are made again when they are needed."""
        state = {name: v for name, v in self.__dict__.items() if name != "batched"}
        return {**state, "each": portable(self.each), "nearby": portable(self.nearby)}

    @lazy
    def batched(self) -> BatchedFactor | None:
        """The one of all elements, where compiled code makes one."""
        if not covers(self.batch.structure):
            return None
        batch = self.batch.as_dense()
        U = None if self.smoothing else batch.P_factor
        near: list[Any] = []
        if self.nearby:
            near = [self.nearby.get(i) for i in range(batch.size)]
        return BatchedFactor(self._smoothed(batch.P), batch.A, self.ghost, U, near)

    def element(self, i: int) -> AnyFactor:
        """The one of element ``i`` alone."""
        factor = self.each.get(i)
        if factor is None:
            batch = self.batch
            if batch.structure.matrix_blocks:
                factor = EigenbasisFactor(batch, i, self.ghost, self.smoothing)
            elif covers(batch.structure):
                factor = self._dense(i)
            else:
                near = self.nearby.get(i)
                known = near if isinstance(near, SparseFactor) else None
                rows = ElementRows(self.ghost, i)
                factor = SparseFactor(batch, i, rows, self.smoothing, known)
            self.each[i] = factor
        return factor

    def _dense(self, i: int) -> DenseFactor:
        P, A = (self.batch.matrix(name, i) for name in "PA")
        if not self.batch.structure.dense:
            P, A = P.toarray(), A.toarray()
        return DenseFactor(self._smoothed(P), A, ElementRows(self.ghost, i))

    @property
    def left(self) -> list[int]:
        """The elements that have a factorization of their own."""
        batched = self.batched
        if batched is None:
            return np.flatnonzero(self.solved).tolist()
        if self._all_solved and batched.complete:
            return []
        return np.flatnonzero(self.solved & ~batched.fine).tolist()

    def solve(
        self, v_x: Floats, v_z: Floats, refine: bool = True, random: bool = False
    ) -> tuple[Floats, Floats, Evidence]:
        """The ghost solution w and zeta for right-hand sides (..., B, n) and (..., B, m).

        Without ``refine`` it is an estimate; ``random`` right-hand sides say something of the rank.
        """
        batched = self.batched
        if batched is None:
            w, zeta, residual = np.zeros(v_x.shape), np.zeros(v_z.shape), np.zeros(self.batch.size)
        else:
            w, zeta, residual = batched.solve(v_x, v_z, refine)
            if not self._all_solved:
                w[..., ~self.solved, :] = zeta[..., ~self.solved, :] = 0.0
            elif batched.complete:
                return w, zeta, Evidence(residual, self)
        left, lead = self.left, v_x.shape[:-2]
        count = math.prod(lead)

        def solve(part: slice) -> None:
            for i in left[part]:
                at_x, at_z = (v[..., i, :].reshape(count, v.shape[-1]).T for v in (v_x, v_z))
                w_i, zeta_i, sizes = self._solve_alone(i, at_x, at_z, refine, random)
                w[..., i, :] = w_i.T.reshape(*lead, len(w_i))
                zeta[..., i, :] = zeta_i.T.reshape(*lead, len(zeta_i))
                residual[i] = sizes.max(initial=0.0)

        if left:
            threads.run(solve, len(left), None if self.batch.structure.n > GIL_ORDER else 1)
        return w, zeta, Evidence(residual, self)

    def _solve_alone(
        self, i: int, v_x: Floats, v_z: Floats, refine: bool, random: bool
    ) -> tuple[Floats, Floats, Floats]:
        """The solution of element ``i`` for columns v_x (n, K) and v_z (m, K)."""
        factor = self.element(i)
        solved = factor.solve(v_x, v_z, refine, random)
        if not isinstance(factor, EigenbasisFactor) or solved[2].max(initial=0.0) <= ROUGH:
            return solved
        if self.batch.structure.n > DENSE_FULL[0] or factor.converges:
            return solved
        self.each[i] = self._dense(i)
        return self.each[i].solve(v_x, v_z, refine)

    @property
    def rank(self) -> Rank:
        """(B,) of each element; 0 where there is no solution."""
        known = (0, 0, 0) if self.batched is None else self.batched.rank
        counts = [np.zeros(self.batch.size, dtype=np.int64) + count for count in known]
        for i in self.left:
            for row, count in zip(counts, self.element(i).rank, strict=True):
                row[i] = count
        return Rank(*counts)

    def null(self, i: int) -> Pair | None:
        """(w, zeta) (B, n), (B, m): a random vector of what the system of element ``i`` leaves
        open, 0 in the others; None where that is nothing."""
        if self.batched is not None and self.batched.fine[i] and not self.batched.lost[i]:
            return None
        factor, structure = self.element(i), self.batch.structure
        if not factor.rank.deficiency:
            return None
        w, zeta = (np.zeros((self.batch.size, k)) for k in (structure.n, structure.m))
        at_w, at_zeta = factor.null()
        # Both parts by themselves are in the null space; one that is empty is all rounding.
        if factor.rank.free:
            w[i] = at_w
        if factor.rank.dependent:
            zeta[i] = at_zeta
        return w, zeta

    def reusable(self, i: int) -> SparseFactor | Lent | None:
        """The factorization of element ``i``, if it may serve at nearby points too."""
        factor = self.each.get(i)
        if isinstance(factor, SparseFactor):
            return factor
        batched: BatchedFactor | None = self.__dict__.get("batched")
        return (batched, i) if batched is not None and batched.fine[i] else None

    def reuse(self, other: Factors, part: NDArray[np.intp]) -> None:
        """Take over factorizations of polyhedral elements ``part`` from another batch of these
        alone, which are at nearby points: where the active set is the same, so is the matrix."""
        same = (self.ghost.active[part] == other.ghost.active).all(axis=-1)
        if same.all() and part.size == self.batch.size and "batched" in other.__dict__:
            self.batched = other.batched
        for j, i in enumerate(part.tolist()):
            if same[j] and j in other.each:
                self.each[i] = other.each[j]

    def _smoothed(self, P: Floats) -> Floats:
        """P with the proximal term."""
        return P + self.smoothing * np.eye(self.batch.structure.n) if self.smoothing else P


def portable(factors: Mapping[int, Any]) -> dict[int, Any]:
    """Those that can go to another process."""
    return {i: factor for i, factor in factors.items() if not isinstance(factor, SparseFactor)}
