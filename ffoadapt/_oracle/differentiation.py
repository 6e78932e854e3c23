"""How to differentiate a solution: an object of its own, apart from who solves and from the layers.

`Exact` and `Smoothed` ask the ghost problem, `Resolving` solves the program again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._types import Floats
from .active_set import Degenerate
from .adjoint import Adjoint
from .ghost import Choices
from .gradient import Oracle, Tangents
from .resolve import Resolve, Resolved

__all__ = ["Derivative", "Differentiation", "Exact", "Resolving", "Smoothed"]

Solve = Callable[[ProgramBatch], Points]


class Derivative(Protocol):
    """Derivatives at the points of a batch, however they are found.

    Laws: both are linear in what is given, and nothing flows through elements without a solution.
    Where both are exact, <v, jvp(t)> = <vjp(v), t>.
    """

    def vjp(
        self, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None, watched: bool = False
    ) -> Adjoint:
        """Cotangents on x (..., B, n), s and z (..., B, m) to the gradient; None means zero.

        If it is ``watched``, its report costs less.
        """

    def jvp(self, tangents: Mapping[str, Floats]) -> Tangents:
        """From tangents of P, q, A, b; each (B or 1, ...), missing names are zero."""


class Differentiation(Protocol):
    """A way to differentiate: it gives a `Derivative` at the points of any oracle."""

    def choices(self, hidden: bool) -> Choices:
        """What the ghost problem is where there is a choice; see `Choices`."""

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        """The derivative at the points of an oracle that has these choices.

        ``solve`` gives the solutions of other programs, NaN where there is none. Elements that
        cannot be differentiated have a zero gradient if they are to be contained; else they raise.
        """


@dataclass(frozen=True)
class Exact:
    """The derivative of the solution."""

    degenerate: Degenerate = "auto"

    def choices(self, hidden: bool) -> Choices:
        """See `Differentiation`."""
        return Choices(self.degenerate, 0.0, hidden)

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        """See `Differentiation`."""
        return oracle


@dataclass(frozen=True)
class Smoothed:
    """That of the solution with ``weight`` / 2 |x - x*|^2 in the objective."""

    weight: float
    degenerate: Degenerate = "auto"

    def choices(self, hidden: bool) -> Choices:
        """See `Differentiation`."""
        return Choices(self.degenerate, self.weight, hidden)

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        """See `Differentiation`."""
        return oracle


@dataclass(frozen=True)
class Resolving:
    """That of a function without kinks and flat parts, by solving again; its report is the exact
    one's."""

    how: Resolve
    degenerate: Degenerate = "auto"

    def choices(self, hidden: bool) -> Choices:
        """See `Differentiation`."""
        return Choices(self.degenerate, 0.0, hidden)

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        """See `Differentiation`."""
        return Resolved(oracle, solve, self.how, contain)
