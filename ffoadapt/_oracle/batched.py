"""The ghost KKT systems of all elements of a dense batch, by compiled code.

`_compiled/` has the algorithm of `dense` for one element after the other, in as many threads as
there are cores: for small programs Python would take many times as long as LAPACK. An element whose
Cholesky pivots show a lost rank is marked and left to `DenseFactor`, as all are where the package
was built without a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._kernel.measures import FIGURES
from .._kernel.polyhedral import LIMITS
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._program.structure import Structure
from .._runtime import threads
from .._runtime.lazy import lazy
from .._runtime.memory import empty
from .._types import Floats
from .acceptance import Violations, beside_cones
from .active_set import GhostBatch, Scales
from .certificate import SURENESS, probe
from .factor import REFINE, Rank
from .lapack import SURE
from .residuals import Residuals, curved_violations

__all__ = ["BatchedFactor", "Lent", "Measures", "covers", "definite", "products"]


T = TypeVar("T")

Lent: TypeAlias = "tuple[BatchedFactor, int]"
"""A factorization, and which of its elements."""

LASTING = 5e6
"""n^2 (n + m), of all elements together, above which threads pay, by measurement: 0.8 ms to
factorize and solve. A thread that goes on with what it has factorized has it at hand."""

SOLVE, CALLS = 15, 10_000
"""What a solution takes of that for each of the n (n + m), and in any case."""

BORROWED = 1e-12
"""Where nearby factors leave more than this relative residual, a system gets its own."""

MEASURE = 5
"""What it takes of that to measure a point, for each of the n (n + m)."""

WRITE = 5
"""What it takes to write an entry of the product of two vectors."""


def covers(structure: Structure) -> bool:
    """Whether such programs are measured and factorized together."""
    return structure.dense or structure.small


def definite(P: Floats, asymmetry: float = math.inf) -> Floats | None:
    """The Cholesky factors U (upper; what is below is not theirs) of P (B, n, n), U'U = P.

    None unless all are positive definite beyond doubt, and symmetric up to this share of their
    largest entry.
    """
    (P,), n = _plain(P), P.shape[-1]
    U = empty(*P.shape)

    def succeeds(part: slice) -> bool:
        return bool(_kernel.kernel.cholesky(n, P[part], U[part], asymmetry, SURE))

    return U if all(_spread(succeeds, len(P), n**3)) else None


class Measures:
    """The sizes and residuals of the points of a batch, and the single rows that are active there.

    It is what `scales`, `kkt_residuals`, `row_margins` and `linearize` find for each element.
    """

    def __init__(
        self, batch: ProgramBatch, points: Points, active: NDArray[np.bool_], figures: Floats
    ) -> None:
        self.batch, self.points, self.active, self._figures = batch, points, active, figures
        self._complete = batch.structure.polyhedral or points.paired

    @classmethod
    def of(cls, batch: ProgramBatch, points: Points) -> Measures:
        """Those of points x (B, n), s and z (B, m)."""
        n, m, size = batch.structure.n, batch.structure.m, batch.size
        dense = batch.as_dense()
        data = dense.P, dense.q, dense.A, dense.b, batch.squares
        arrays = _plain(*data, points.x, points.s, points.z)
        kinds = batch.structure.row_kinds
        active, figures = np.empty((size, m), dtype=bool), np.empty((size, FIGURES))

        def measure(part: slice) -> None:
            at = part.start, part.stop, *arrays, kinds, points.exact, LIMITS, active, figures
            _kernel.kernel.measure(n, m, *at)

        _spread(measure, size, MEASURE * n * (n + m))
        return cls(batch, points, active, figures)

    @property
    def figures(self) -> Floats:
        """(B, 14) see `FIGURES`."""
        if not self._complete:
            at = self.scales.slack(self.points.s), self.scales.dual(self.points.z)
            outside, gap = curved_violations(self.batch.structure, *at)
            found = self._figures.copy()  # another thread may read it
            found[:, 5] = np.maximum(found[:, 5], outside)
            found[:, 4] = np.maximum(np.maximum(found[:, 4], gap), outside)
            if outside.any():
                row = beside_cones(self.batch, self.points, found[:, 8:9])
                found[:, 10] = np.maximum(found[:, 10], row)
            with np.errstate(all="ignore"):
                grown = np.maximum(found[:, 0] / found[:, 8], found[:, 1] / found[:, 9]).clip(1.0)
                doubt = np.maximum(found[:, 4] * grown / LIMITS.data, found[:, 10] / LIMITS.row)
            found[:, 12] = np.maximum(found[:, 12], doubt)
            self._figures, self._complete = found, True
        return self._figures

    @lazy
    def scales(self) -> Scales:
        """The sizes of slacks and multipliers."""
        return Scales(self.batch, *(self._figures[:, k : k + 1] for k in range(4)))

    @property
    def residuals(self) -> Residuals:
        """How far the points are from the optimality conditions."""
        return Residuals(self.figures[:, 4], self.figures[:, 5])

    @property
    def floor(self) -> Residuals:
        """Residuals that are no larger: of blocks of curved cones, which take longest, perhaps
        without whether they are outside of these and complementary."""
        return Residuals(self._figures[:, 4], self._figures[:, 5])

    @property
    def violations(self) -> Violations:
        """How far the points are from the optimality conditions beside the data."""
        return Violations(*(self._figures[:, k] for k in (8, 9, 10, 11)))

    @property
    def beyond_doubt(self) -> bool:
        """Whether all points are optimal, in programs that are near one."""
        if not self._complete:
            return False
        if len(self._figures) == 1:
            return self._figures.item(12) <= 1.0 and self._figures.item(13) != 0.0
        return bool((self._figures[:, 12] <= 1.0).all()) and self.all_near_one

    @property
    def all_near_one(self) -> bool:
        """Whether all are `near_one`."""
        if len(self._figures) == 1:
            return self._figures.item(13) != 0.0
        return bool(self._figures[:, 13].all())

    @property
    def near_one(self) -> NDArray[np.bool_]:
        """(B,) see `ProgramBatch.near_one`."""
        return self._figures[:, 13] != 0.0

    @property
    def margins(self) -> Floats:
        """(B,) the smallest strict-complementarity margins."""
        return self._figures[:, 6]


class BatchedFactor:
    """Factorizations of B systems with P (B or 1, n, n), A (B or 1, m, n) and ghost rows.

    Attributes
    ----------
    active
        (B,) the number of active rows.
    fine
        (B,) bool: elements of full rank; the solutions of others are 0.
    complete
        Whether all are.
    """

    _state: tuple[Any, NDArray[np.bool_], Sequence[Lent | None]]
    """What compiled code made, which elements borrow, and from whom."""

    def __init__(
        self,
        P: Floats,
        A: Floats,
        ghost: GhostBatch,
        U: Floats | None = None,
        near: Sequence[Lent | None] = (),
    ) -> None:
        """``U`` are the factors of P, where `definite` has given them.

        ``near`` are factorizations of systems with curvature near to those here: refinement with
        their factors solves these too, and only where that fails is there another factorization.
        """
        size, m = ghost.active.shape
        n = P.shape[-1]
        curved = _curved(ghost)
        if curved is not None:
            U = None  # P + A'WA is not P
        elif U is None and len(P) < size:
            U = definite(P)  # once for all
        P, A = _plain(P, A)
        active = np.ascontiguousarray(ghost.active)
        self._given = n, m, size, P, A, active, U, curved
        self._margins = ghost.margin
        self._work = n * n * (n + m), SOLVE * n * (n + m) + CALLS
        self._factorize(near)

    def __getstate__(self) -> dict[str, Any]:
        """What it was made from: the factors are made again."""
        return {**self.__dict__, "_state": (None, None, self._state[2])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._factorize(self._state[2])

    def _factorize(self, near: Sequence[Lent | None]) -> None:
        size = self._given[2]
        lent = tuple([one and (one[0]._state[0], one[1]) for one in near]) or None
        active, fine = np.empty(size, dtype=np.int64), np.empty(size, dtype=bool)
        borrowed = np.zeros(size, dtype=bool)
        batch = _kernel.kernel.prepare(*self._given, lent, active, borrowed)

        def factorize(part: slice) -> None:
            _kernel.kernel.factorize(batch, part.start, part.stop, SURE, fine)

        _spread(factorize, size, self._work[1] if borrowed.all() else sum(self._work))
        self.active, self.fine, self._state = active, fine, (batch, borrowed, near)
        self.complete = bool(fine.all())

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """See `Factor`; the residual of a solution that is not refined is not known, and 0.

        Of elements without full rank the solution is 0.
        """
        v_x, v_z = _plain(v_x, v_z)
        w, zeta, residual = np.zeros(v_x.shape), np.zeros(v_z.shape), np.zeros(self.fine.size)
        count = math.prod(v_x.shape[:-2])
        batch, borrowed, near = self._state  # another thread may change it
        limit = REFINE if refine else math.inf

        def solve(part: slice) -> None:
            _kernel.kernel.solve(batch, part.start, part.stop, limit, v_x, v_z, w, zeta, residual)

        _spread(solve, residual.size, self._work[0] + count * self._work[1])
        if near:
            left = borrowed & ~(residual <= BORROWED)
            if left.any():
                self._factorize([None if left[i] else one for i, one in enumerate(near)])
                return self.solve(v_x, v_z, refine)
        return w, zeta, residual

    @property
    def rank(self) -> Rank:
        """Of the elements of full rank."""
        none = np.zeros(self.fine.size, dtype=np.int64)
        return Rank(self.active, none, none)

    def null(self) -> tuple[Floats, Floats]:
        """Nothing of these elements: they are of full rank."""
        n, m, size = self._given[:3]
        return np.zeros((size, n)), np.zeros((size, m))

    def settled(self, measures: Measures) -> bool:
        """Whether bounds leave no doubt of any point, as `examine` finds too."""
        batch = measures.batch
        signs = probe(batch.structure)
        known = *signs, batch.squares, measures.figures, self._margins, *SURENESS

        def settled(part: slice) -> bool:
            return bool(
                _kernel.kernel.bounds_suffice(self._state[0], part.start, part.stop, *known)
            )

        return all(_spread(settled, self.fine.size, sum(self._work)))


def products(sign: float, z: Floats, zeta: Floats, w: Floats, x: Floats) -> Floats:
    """sign * (z w' + zeta x') (..., B, r, n) for zeta (..., B, r) and w (..., B, n), z and x like
    these or without axes in front."""
    rows, n = z.shape[-1], w.shape[-1]
    found, given = empty(*zeta.shape, n), _plain(z, zeta, w, x)

    def multiply(part: slice) -> None:
        _kernel.kernel.products(rows, n, part.start, part.stop, sign, *given, found)

    if found.size:
        _spread(multiply, math.prod(w.shape[:-1]), WRITE * rows * n)
    return found


def _plain(*arrays: Floats) -> list[Floats]:
    """The arrays as compiled code takes them."""
    return list(map(np.ascontiguousarray, arrays, repeat(np.float64)))


def _curved(ghost: GhostBatch) -> tuple[Floats, tuple[Any, ...]] | None:
    """The rows besides the unit rows, as compiled code takes them."""
    if not ghost.weight.size:
        return None
    blocks = []
    for b in ghost.blocks:
        G, R, sigma = _plain(b.G, b.R, b.sigma)
        has = np.ascontiguousarray(b.has)
        blocks.append((b.start, b.count, b.dim, G, has, R, sigma))
    return np.ascontiguousarray(ghost.weight), tuple(blocks)


def _spread(function: Callable[[slice], T], size: int, work: int) -> list[T]:
    """The function's results for slices of the elements, in threads where the work is so much."""
    if size * work <= LASTING:
        return [function(slice(0, size))]
    return threads.run(function, size)
