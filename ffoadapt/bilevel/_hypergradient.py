"""Descent on F(x) = f(x, y(x)) along its gradient, with any optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .._plugins.algorithm import Algorithm
from ._lower import hypergradient
from ._moves import Number, check_number, move_x, start_x
from ._problem import BilevelProblem

__all__ = ["Hypergradient"]

Arrays = list[Any]


@dataclass(frozen=True)
class Hypergradient(Algorithm):
    """x moves along the gradient of f(x, y(x)), the lower level solved at every step.

    A lower level that is a callable x -> y is differentiated through. A function g is minimized in
    float64 from where y was, and the gradient is that of the implicit function, from differences of
    gradients of g alone; g must curve upwards at its minimum. The record then has
    ``"lower_error"`` (the next step of y, relative), ``"adjoint_residual"`` (relative) and
    ``"lowest_curvature"`` of g that was met; where that is not positive, the gradient is not one.

    Parameters
    ----------
    step_size, momentum, optimizer
        Of x, as for `Bome`.
    tolerance
        Of the lower level and of the linear system, where the lower level is a function g.
    """

    lower: ClassVar[tuple[str, ...]] = ("function", "map", "program")

    step_size: Number = 0.05
    momentum: Number = 0.0
    optimizer: Any = None
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size)
        check_number("momentum", self.momentum, zero=True, most=1.0)
        check_number("tolerance", self.tolerance, most=0.1)

    def start(self, problem: BilevelProblem, x: Arrays, y: Arrays) -> Mapping[str, Any]:
        return {"x": start_x(problem, x, self), "lower": {}}

    def update(
        self,
        problem: BilevelProblem,
        x: Arrays,
        y: Arrays,
        memory: Mapping[str, Any],
        batch: Any,
    ) -> tuple[Arrays, Arrays, Mapping[str, Any], Mapping[str, float]]:
        implicit = hypergradient(problem, x, y, memory["lower"], batch, self.tolerance)
        moved, kept = move_x(problem, x, implicit.gradient, memory["x"], self)
        memory = {"x": kept, "lower": implicit.memory}
        return moved, implicit.y, memory, {"value": implicit.value, **implicit.record}
