"""Penalty methods: F2SA and V-PBGD. Both are the `resolve` estimate with delta = 1 / penalty.

Sources: Kwon, Kwon, Wright and Nowak, A fully first-order method for stochastic bilevel
optimization, ICML 2023; Shen and Chen, On penalty-based bilevel gradient descent method, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._plugins.algorithm import Algorithm
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
            if self.central:
                z = self._mixed(problem, x, z, -weight, batch)
            else:
                z = problem.descend(x, z, batch, self._inner)
        return z

    def _mixed(
        self, problem: BilevelProblem, x: Arrays, y: Arrays, weight: float, batch: Any
    ) -> Arrays:
        """A step on g + f / weight."""
        return problem.descend(x, y, batch, self._inner, 1.0 / weight)

    def _direction(
        self, problem: BilevelProblem, x: Arrays, y: Arrays, z: Arrays, weight: float, batch: Any
    ) -> tuple[float, float, Arrays, Arrays]:
        """f, g(x, y) - g(x, z), and the directions of x and y, undivided."""
        f, fx, fy = problem.upper(x, y, batch)
        g, gx, gy = problem.lower(x, y, batch)
        low, lx, _ = problem.lower(x, z, batch, "x")
        if self.central:
            other = problem.upper(x, z, batch, "x")[1]
            dx = problem.compiled(_central)(fx, other, gx, lx, weight)
        else:
            dx = problem.compiled(_one_sided)(fx, gx, lx, weight)
        return float(f), float(g) - float(low), dx, problem.plus(fy, gy, weight)

    def _next(self, weight: float) -> float:
        return min(weight + self.penalty_growth, max(self.penalty_limit, self.penalty))

    def _program(self, problem: BilevelProblem, x: Arrays, memory: Mapping[str, Any]) -> Step:
        """A step through duals alone: two solves, and no derivative of one."""
        weight = memory["penalty"]
        value, direction = solve_penalized(problem, x, weight, self.central)
        moved, kept = move_x(problem, x, direction, memory["x"], self)
        memory = {"x": kept, "y": None, "z": [], "penalty": self._next(weight)}
        return moved, [], memory, {"value": value, "penalty": weight, "solves": 2.0}


def _one_sided(fx: Any, gx: Any, lx: Any, weight: Any) -> Any:
    return plus(fx, less(gx, lx), weight)


def _central(fx: Any, other: Any, gx: Any, lx: Any, weight: Any) -> Any:
    return [0.5 * (a + b + weight * (c - d)) for a, b, c, d in zip(fx, other, gx, lx, strict=True)]


def _scaled(dx: Any, dy: Any, share: Any) -> Any:
    return [share * d for d in dx], [share * d for d in dy]


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
            y = self._mixed(problem, x, y, weight, batch)
        f, rise, direction, _ = self._direction(problem, x, y, z, weight, batch)
        moved, kept = move_x(problem, x, direction, memory["x"], self)
        memory = {"x": kept, "y": None, "z": z, "penalty": self._next(weight)}
        return moved, y, memory, {"value": f, "gap": rise, "penalty": weight}


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
        f, rise, dx, dy = self._direction(problem, x, y, z, weight, batch)
        dx, dy = problem.compiled(_scaled)(dx, dy, 1.0 / max(1.0, weight))
        moved, kept = move_x(problem, x, dx, memory["x"], self)
        y, velocity = move_y(problem, y, dy, memory["y"], self)
        memory = {"x": kept, "y": velocity, "z": z, "penalty": self._next(weight)}
        return moved, y, memory, {"value": f, "gap": rise, "penalty": weight}
