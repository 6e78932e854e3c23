"""The ghost KKT systems of all elements of a dense polyhedral batch, by compiled code.

`_kernel.c` has the algorithm of `dense` for one element after the other, in as many threads as
there are cores: for small programs Python would take many times as long as LAPACK. An element whose
Cholesky pivots show a lost rank is marked and left to `DenseFactor`, as all are where the package
was built without a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _threads
from .._memory import empty
from .dense import REFINE, SURE

try:
    from .. import _kernel
except ImportError:
    COMPILED = False
else:
    COMPILED = True

__all__ = ["COMPILED", "BatchedFactor", "definite"]

Floats = NDArray[np.float64]

T = TypeVar("T")

LASTING = 8e6
"""n^2 (n + m), of all elements together, above which it pays to factorize them in threads, by
measurement: below half a millisecond."""

SOLVE = 15
"""What a solution takes of that for each of the n (n + m)."""


def definite(P: Floats, asymmetry: float = math.inf) -> Floats | None:
    """The Cholesky factors U (upper; what is below is not theirs) of P (B, n, n), U'U = P.

    None unless all are positive definite beyond doubt, and symmetric up to this share of their
    largest entry.
    """
    if not COMPILED:
        return None
    P, n = np.ascontiguousarray(P), P.shape[-1]
    U = empty(*P.shape)

    def succeeds(part: slice) -> bool:
        return _kernel.cholesky(n, P[part], U[part], asymmetry, SURE)

    return U if all(_spread(succeeds, len(P), n**3)) else None


class BatchedFactor:
    """Factorizations of B systems with P (B or 1, n, n), A (B or 1, m, n), active (B, m).

    Attributes
    ----------
    fine
        (B,) bool: elements of full rank; the solutions of others are 0.
    """

    def __init__(
        self, P: Floats, A: Floats, active: NDArray[np.bool_], U: Floats | None = None
    ) -> None:
        """``U`` are the factors of P, where `definite` has given them."""
        size, m = active.shape
        n = P.shape[-1]
        if U is None and len(P) < size:
            U = definite(P)  # once for all
        P, A = np.ascontiguousarray(P), np.ascontiguousarray(A)
        active = np.ascontiguousarray(active)
        self._batch = _kernel.prepare(n, m, size, P, A, active, U)
        self._work = SOLVE * n * (n + m)
        self.fine = np.empty(size, dtype=bool)

        def factorize(part: slice) -> None:
            _kernel.factorize(self._batch, part.start, part.stop, SURE, self.fine)

        _spread(factorize, size, n * n * (n + m))

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """w (K, B, n), zeta (K, B, m), relative residual (B,) for v_x (K, B, n), v_z (K, B, m).

        Without ``refine`` it is the plain solution, as in `DenseFactor.solve`.
        """
        v_x, v_z = np.ascontiguousarray(v_x), np.ascontiguousarray(v_z)
        w, zeta, residual = np.zeros(v_x.shape), np.zeros(v_z.shape), np.zeros(self.fine.size)
        limit = REFINE if refine else math.inf

        def solve(part: slice) -> None:
            at = part.start, part.stop, limit, v_x, v_z, w, zeta, residual
            _kernel.solve(self._batch, *at)

        _spread(solve, residual.size, len(v_x) * self._work)
        return w, zeta, residual


def _spread(function: Callable[[slice], T], size: int, work: int) -> list[T]:
    """The function's results for slices of the elements, in threads where the work is so much."""
    return _threads.run(function, size, None if size * work > LASTING else 1)
