"""What a factorization of ghost KKT systems is, whoever makes it: `dense`, `batched`, `sparse`.

These three know nothing of each other. `factors` chooses one for each element.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from .._types import Floats

__all__ = ["REFINE", "Factor", "Rank"]


REFINE = 1e-13
"""Above this relative residual, of either block, a solution is refined."""


class Rank(NamedTuple):
    """Of each element, or of one, the number of

    - ``active`` equality rows of the ghost problem,
    - ``dependent`` ones among these, and
    - directions in which x is ``free``: not determined.

    Of sparse systems the last two are lower bounds: 1 where there is any.
    """

    active: Any
    dependent: Any
    free: Any

    @property
    def deficiency(self) -> Any:
        """Dependent rows plus free directions: 0 where the matrix is regular."""
        return self.dependent + self.free


class Factor(Protocol):
    """A factorization of ghost KKT matrices, made when it is constructed.

        [ H  C' ] [ w  ]   [ v_x + A'W v_z ]      H = P + A'WA,   C = GA,
        [ C  0  ] [ mu ] = [ G v_z         ],     zeta = G'mu + W(Aw - v_z)

    Laws, whatever is factorized, and however:

    - `solve` satisfies this up to its ``residual``, which is relative to the right-hand side; where
      no (w, mu) does, the residual is that of least squares.
    - Of several solutions it is one without any part in the null space: least squares and least
      norm, as by the Moore-Penrose inverse.
    - The matrix is symmetric, so a factor is that of its transpose: <u, solve(v)> = <solve(u), v>.
      One factor serves `vjp` and `jvp`, and any number of right-hand sides.
    - `rank` has a deficiency exactly where `null` is not 0, and the matrix times `null` is 0.
    - Nothing that a solve reads ever changes: threads may share a factor.
    """

    @property
    def rank(self) -> Rank:
        """The `Rank`."""

    def solve(self, v_x: Floats, v_z: Floats, refine: bool = True) -> tuple[Floats, Floats, Floats]:
        """w, zeta and residual: of one element for columns v_x (n, K) and v_z (m, K), the residual
        being (K,); of B elements for (K, B, n) and (K, B, m), the residual being (B,).

        Without ``refine`` the solution is as good as an estimate needs it.
        """

    def null(self) -> tuple[Floats, Floats]:
        """(w, zeta) of a random vector of the null space."""
