"""Penalty methods: F2SA and V-PBGD. Both are the `resolve` estimate with delta = 1 / penalty.

Sources: Kwon, Kwon, Wright and Nowak, A fully first-order method for stochastic bilevel
optimization, ICML 2023; Shen and Chen, On penalty-based bilevel gradient descent method, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._interfaces import Algorithm
from ._arrays import less, plus
from ._duals import solve_penalized
from ._moves import Number, check_count, check_number, each, move_x, move_y, start_x
from ._problem import BilevelProblem

__all__ = ["F2sa", "Penalty"]

Arrays = list[Any]
Step = tuple[Arrays, Arrays, Mapping[str, Any], Mapping[str, float]]


@dataclass(frozen=True)
class _Penalties(Algorithm):
    """The options that both have, and what they do with a lower level that is a program."""

    lower: ClassVar[tuple[str, ...]] = ("function", "program")

    step_size: Number = 0.05
    momentum: Number = 0.0
    optimizer: Any = None
    lower_steps: int = 10
    lower_step_size: float | None = None
    penalty: float = 10.0
    penalty_growth: float = 0.0
    penalty_limit: float = np.inf
    central: bool = False

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size)
        check_number("momentum", self.momentum, zero=True, most=1.0)
        check_count("lower_steps", self.lower_steps)
        if self.lower_step_size is not None:
            check_number("lower_step_size", self.lower_step_size)
        check_number("penalty", self.penalty)
        check_number("penalty_growth", self.penalty_growth, zero=True)
        check_number("penalty_limit", self.penalty_limit)

    def start(self, problem: BilevelProblem, x: Arrays, y: Arrays) -> Mapping[str, Any]:
        kept = start_x(problem, x, self)
        return {"x": kept, "y": None, "z": list(y), "penalty": float(self.penalty)}

    @property
    def _inner(self) -> float:
        """The size of a step on g."""
        return each(self.step_size)[1] if self.lower_step_size is None else self.lower_step_size

    def _down(
        self, problem: BilevelProblem, x: Arrays, z: Arrays, weight: float, batch: Any
    ) -> Arrays:
        """The other point after its steps: on g, or with `central` on g - f / penalty."""
        for _ in range(self.lower_steps):
            slope = problem.lower(x, z, batch, "y")[2]
            if self.central:
                slope = plus(slope, problem.upper(x, z, batch, "y")[2], -1.0 / weight)
            z = problem.project_y(plus(z, slope, -self._inner))
        return z

    def _direction(
        self, problem: BilevelProblem, x: Arrays, y: Arrays, z: Arrays, weight: float, batch: Any
    ) -> tuple[Any, Arrays, Arrays, float]:
        """f, the estimate of the gradient in x and f's and g's in y, and g(x, y) - g(x, z)."""
        f, fx, fy = problem.upper(x, y, batch)
        g, gx, gy = problem.lower(x, y, batch)
        low, lx, _ = problem.lower(x, z, batch, "x")
        difference = less(gx, lx)
        if self.central:
            fx = plus(fx, less(problem.upper(x, z, batch, "x")[1], fx), 0.5)
            weight = 0.5 * weight
        rise = float(g) - float(low)
        return f, plus(fx, difference, weight), [*fy, *gy], rise

    def _next(self, weight: float) -> float:
        return min(weight + self.penalty_growth, max(self.penalty_limit, self.penalty))

    def _program(
        self, problem: BilevelProblem, x: Arrays, memory: Mapping[str, Any]
    ) -> Step:
        """A step through duals alone: two solves, and no derivative of one."""
        weight = memory["penalty"]
        value, direction = solve_penalized(problem, x, weight, self.central)
        moved, kept = move_x(problem, x, direction, memory["x"], self)
        memory = {"x": kept, "y": None, "z": [], "penalty": self._next(weight)}
        return moved, [], memory, {"value": value, "penalty": weight, "solves": 2.0}


@dataclass(frozen=True)
class F2sa(_Penalties):
    """The fully first-order stochastic approximation: y for f + penalty g, z for g, then x.

    ``lower_steps`` times, z -= b g_y(x, z) and y -= b (f_y / penalty + g_y)(x, y); then x moves
    against f_x + penalty (g_x(x, y) - g_x(x, z)). With a constant penalty its limit is off by
    O(1 / penalty); with ``central=True``, where z descends on g - f / penalty, by O(1 / penalty^2).
    3 ``lower_steps`` + 3 gradient calls a step (4 and 4).

    A lower level that is a `LowerProgram` is solved twice a step, and its duals give the gradient.

    Parameters
    ----------
    step_size, momentum, optimizer
        Of x, as for `Bome`.
    lower_steps, lower_step_size
        See above; the size b is ``step_size`` (of y) unless given.
    penalty, penalty_growth, penalty_limit
        It starts at the first, and grows by the second each step, up to the third.
    central
        See above.
    """

    def update(
        self,
        problem: BilevelProblem,
        x: Arrays,
        y: Arrays,
        memory: Mapping[str, Any],
        batch: Any,
    ) -> Step:
        if problem.kind == "program":
            return self._program(problem, x, memory)
        weight = memory["penalty"]
        z = self._down(problem, x, memory["z"], weight, batch)
        for _ in range(self.lower_steps):
            slope = problem.lower(x, y, batch, "y")[2]
            slope = plus(slope, problem.upper(x, y, batch, "y")[2], 1.0 / weight)
            y = problem.project_y(plus(y, slope, -self._inner))
        f, direction, _, rise = self._direction(problem, x, y, z, weight, batch)
        moved, kept = move_x(problem, x, direction, memory["x"], self)
        memory = {"x": kept, "y": None, "z": z, "penalty": self._next(weight)}
        return moved, y, memory, {"value": float(f), "gap": rise, "penalty": weight}


@dataclass(frozen=True)
class Penalty(_Penalties):
    """V-PBGD: gradient descent on f + penalty (g - min g) in x and y together.

    z takes ``lower_steps`` gradient steps on g(x, .) from where it was; then x and y move against
    f_x + penalty (g_x(x, y) - g_x(x, z)) and f_y + penalty g_y, with steps divided by
    max(1, penalty). The limit is off by O(1 / penalty); with ``central=True``, where z descends on
    g - f / penalty, by O(1 / penalty^2). ``lower_steps`` + 3 gradient calls a step
    (2 ``lower_steps`` + 4).

    A lower level that is a `LowerProgram` is solved twice a step, and its duals give the gradient.

    Parameters
    ----------
    step_size, momentum, optimizer, lower_steps, lower_step_size
        As for `Bome`.
    penalty, penalty_growth, penalty_limit, central
        As for `F2sa`.
    """

    def update(
        self,
        problem: BilevelProblem,
        x: Arrays,
        y: Arrays,
        memory: Mapping[str, Any],
        batch: Any,
    ) -> Step:
        weight = memory["penalty"]
        if problem.kind == "program":
            return self._program(problem, x, memory)
        z = self._down(problem, x, memory["z"], weight, batch)
        f, direction, slopes, rise = self._direction(problem, x, y, z, weight, batch)
        shrink = 1.0 / max(1.0, weight)
        direction = [shrink * d for d in direction]
        moved, kept = move_x(problem, x, direction, memory["x"], self)
        down = plus(slopes[: len(y)], slopes[len(y) :], weight)
        y, velocity = move_y(problem, y, [shrink * d for d in down], memory["y"], self)
        memory = {"x": kept, "y": velocity, "z": z, "penalty": self._next(weight)}
        return moved, y, memory, {"value": float(f), "gap": rise, "penalty": weight}
