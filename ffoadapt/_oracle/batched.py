"""The ghost KKT systems of all elements of a dense batch, by compiled code.

`_compiled/` has the algorithm of `dense` for one element after the other, in as many threads as
there are cores: for small programs Python would take many times as long as LAPACK. An element whose
Cholesky pivots show a lost rank is marked and left to `DenseFactor`, unless it is clear that rows
alone depend on each other; so are all where the package was built without a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._program.structure import Structure
from .._runtime import threads
from .._runtime.costs import CALL_WORK, SOLVE_WORK, WORTH_THREADS, WRITE_WORK
from .._runtime.memory import empty
from .._types import Floats
from .active_set import GhostBatch
from .bounds import SURENESS
from .certificate import probe
from .factor import REFINE, Rank
from .lapack import SURE

if TYPE_CHECKING:
    from .measures import Measures

__all__ = ["BatchedFactor", "Lent", "covers", "definite", "plain", "products", "spread"]


T = TypeVar("T")

Lent: TypeAlias = "tuple[BatchedFactor, int]"
"""A factorization, and which of its elements."""

BORROWED = 1e-12
"""Where nearby factors leave more than this relative residual, a system gets its own."""


def covers(structure: Structure) -> bool:
    """Whether such programs are measured and factorized together."""
    return structure.dense or structure.small


def definite(P: Floats, asymmetry: float = math.inf) -> Floats | None:
    """The Cholesky factors U (upper; what is below is not theirs) of P (B, n, n), U'U = P.

    None unless all are positive definite beyond doubt, and symmetric up to this share of their
    largest entry.
    """
    (P,), n = plain(P), P.shape[-1]
    U = empty(*P.shape)

    def succeeds(part: slice) -> bool:
        return bool(_kernel.kernel.cholesky(n, P[part], U[part], asymmetry, SURE))

    return U if all(spread(succeeds, len(P), n**3)) else None


class BatchedFactor:
    """Factorizations of B systems with P (B or 1, n, n), A (B or 1, m, n) and ghost rows.

    Attributes
    ----------
    active
        (B,) the number of active rows.
    lost
        (B,) the number of these that depend on others.
    fine
        (B,) bool: elements that are factorized; the solutions of others are 0.
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
        P, A = plain(P, A)
        active = np.ascontiguousarray(ghost.active)
        self._given = n, m, size, P, A, active, U, curved
        self._margins = ghost.margin
        self._work = n * n * (n + m), SOLVE_WORK * n * (n + m) + CALL_WORK
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
        active, lost = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        fine = np.empty(size, dtype=bool)
        borrowed = np.zeros(size, dtype=bool)
        batch = _kernel.kernel.prepare(*self._given, lent, active, borrowed)

        def factorize(part: slice) -> None:
            _kernel.kernel.factorize(batch, part.start, part.stop, SURE, fine, lost)

        spread(factorize, size, self._work[1] if borrowed.all() else sum(self._work))
        self.active, self.lost, self.fine, self._state = active, lost, fine, (batch, borrowed, near)
        self.complete = bool(fine.all())

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """See `Factor`; the residual of a solution that is not refined is not known, and 0.

        Of elements that are not factorized the solution is 0.
        """
        v_x, v_z = plain(v_x, v_z)
        w, zeta, residual = np.zeros(v_x.shape), np.zeros(v_z.shape), np.zeros(self.fine.size)
        count = math.prod(v_x.shape[:-2])
        batch, borrowed, near = self._state  # another thread may change it
        limit = REFINE if refine else math.inf

        def solve(part: slice) -> None:
            _kernel.kernel.solve(batch, part.start, part.stop, limit, v_x, v_z, w, zeta, residual)

        spread(solve, residual.size, self._work[0] + count * self._work[1])
        if near:
            left = borrowed & ~(residual <= BORROWED)
            if left.any():
                self._factorize([None if left[i] else one for i, one in enumerate(near)])
                return self.solve(v_x, v_z, refine)
        return w, zeta, residual

    @property
    def rank(self) -> Rank:
        """Of the elements that are factorized."""
        return Rank(self.active, self.lost, np.zeros(self.fine.size, dtype=np.int64))

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

        return all(spread(settled, self.fine.size, sum(self._work)))


def products(sign: float, z: Floats, zeta: Floats, w: Floats, x: Floats) -> Floats:
    """sign * (z w' + zeta x') (..., B, r, n) for zeta (..., B, r) and w (..., B, n), z and x like
    these or without axes in front."""
    rows, n = z.shape[-1], w.shape[-1]
    out = empty(*zeta.shape, n)
    z, zeta, w, x = plain(z, zeta, w, x)

    def multiply(part: slice) -> None:
        _kernel.kernel.products(rows, n, part.start, part.stop, sign, z, zeta, w, x, out)

    if out.size:
        spread(multiply, math.prod(w.shape[:-1]), WRITE_WORK * rows * n)
    return out


def plain(*arrays: Floats) -> list[Floats]:
    """The arrays as compiled code takes them."""
    return list(map(np.ascontiguousarray, arrays, repeat(np.float64)))


def _curved(ghost: GhostBatch) -> tuple[Floats, tuple[Any, ...]] | None:
    """The rows besides the unit rows, as compiled code takes them."""
    if not ghost.weight.size:
        return None
    blocks = []
    for b in ghost.blocks:
        G, R, sigma = plain(b.G, b.R, b.sigma)
        has = np.ascontiguousarray(b.has)
        blocks.append((b.start, b.count, b.dim, G, has, R, sigma))
    return np.ascontiguousarray(ghost.weight), tuple(blocks)


def spread(function: Callable[[slice], T], size: int, work: int) -> list[T]:
    """The function's results for slices of the elements, in threads where the work is so much."""
    if size * work <= WORTH_THREADS:
        return [function(slice(0, size))]
    return threads.run(function, size)
