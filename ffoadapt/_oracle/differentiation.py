"""How to differentiate a solution: an object of its own, apart from who solves and from the layers.

`Exact` and `Smoothed` ask the ghost problem, `Resolving` solves the program again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._types import Floats
from .active_set import Degenerate
from .ghost import Choices
from .gradient import Adjoint, Oracle, Tangents
from .resolve import Resolve, Resolved

__all__ = ["Derivative", "Differentiation", "Exact", "Resolving", "Smoothed"]

Solve = Callable[[ProgramBatch], Points]


class Derivative(Protocol):
    """Derivatives at the points of a batch, however they come about.

    Laws: both are linear in what is given, and nothing flows through elements without a solution.
    Of the exact one, <v, jvp(t)> = <vjp(v), t>.
    """

    def vjp(self, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None) -> Adjoint:
        """Cotangents on x (..., B, n), s and z (..., B, m) to the gradient; None means zero."""

    def jvp(self, tangents: Mapping[str, Floats]) -> Tangents:
        """From tangents of P, q, A, b; each (B or 1, ...), missing names are zero."""


@dataclass(frozen=True)
class Differentiation:
    """A way to differentiate: it gives a `Derivative` at the points of any oracle.

    ``degenerate`` is the choice at kinks, see `SolveSettings`.
    """

    degenerate: Degenerate = "auto"

    def choices(self, hidden: bool) -> Choices:
        """What an oracle is to choose, for the derivative and for its report."""
        return Choices(self.degenerate, 0.0, hidden)

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        """The derivative at the points of an oracle that has made these choices.

        ``solve`` gives the solutions of other programs, NaN where there is none. Elements that
        cannot be differentiated have a zero gradient if they are to be contained; else they raise.
        """
        return oracle


class Exact(Differentiation):
    """The derivative of the solution."""


@dataclass(frozen=True)
class Smoothed(Differentiation):
    """That of the solution with ``weight`` / 2 |x - x*|^2 more in the objective."""

    weight: float = 0.0

    def choices(self, hidden: bool) -> Choices:
        return Choices(self.degenerate, self.weight, hidden)


@dataclass(frozen=True)
class Resolving(Differentiation):
    """That of a function without kinks and flat parts: by solving again."""

    how: Resolve = field(default_factory=Resolve)

    def at(self, oracle: Oracle, solve: Solve, contain: bool) -> Derivative:
        return Resolved(oracle, solve, self.how, contain)
