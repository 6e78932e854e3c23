"""BOME (Liu, Ye, Wright, Stone and Liu: BOME! Bilevel Optimization Made Easy, NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._exceptions import OptionError
from .._plugins.algorithm import Algorithm
from ._arrays import less, plus, total
from ._moves import Number, check_count, check_number, each, move_x, move_y, start_x
from ._problem import BilevelProblem

__all__ = ["Bome"]

Arrays = list[Any]

TINY = 1e-8
"""Under the fraction: at q = 0 it is 0/0. The authors' files have 1e-8 or 1e-4."""


@dataclass(frozen=True)
class Bome(Algorithm):
    """Steps on f that keep a barrier's share of descent on q = g(x, y) - g(x, z).

    z starts at y and takes ``lower_steps`` gradient steps on g(x, .). With
    phi = eta |grad q|^2 (``barrier="gradient"``) or eta q (``"value"``),
    lam = max(0, (phi - <grad f, grad q>) / (|grad q|^2 + 1e-8)), and x and y move against
    grad f + lam grad q, where z counts as a constant. ``lower_steps`` + 3 gradient calls a step.
    Constant steps end in a ball of that radius. No curvature of g is asked for, nor that its
    minimizer be unique.

    Parameters
    ----------
    step_size
        Of x and y; a number, or ``{"x": ..., "y": ...}``.
    momentum
        Of the heavy ball, v = momentum v + direction, likewise.
    optimizer
        For x in place of these: a torch.optim class (``step_size`` is its lr), a function from the
        list of parameters to such an optimizer, or an optax transformation.
    lower_steps, lower_step_size
        Of z; the size is that of y unless given.
    eta, barrier
        See above; eta < 1.
    """

    step_size: Number = 0.05
    momentum: Number = 0.0
    optimizer: Any = None
    lower_steps: int = 10
    lower_step_size: float | None = None
    eta: float = 0.5
    barrier: Literal["gradient", "value"] = "gradient"

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size)
        check_number("momentum", self.momentum, zero=True, most=1.0)
        check_count("lower_steps", self.lower_steps)
        if self.lower_step_size is not None:
            check_number("lower_step_size", self.lower_step_size)
        check_number("eta", self.eta, most=1.0)
        if self.barrier not in ("gradient", "value"):
            raise OptionError(f"barrier={self.barrier!r}; expected 'gradient' or 'value'")

    def start(self, problem: BilevelProblem, x: Arrays, y: Arrays) -> Mapping[str, Any]:
        return {"x": start_x(problem, x, self), "y": None}

    def update(
        self,
        problem: BilevelProblem,
        x: Arrays,
        y: Arrays,
        memory: Mapping[str, Any],
        batch: Any,
    ) -> tuple[Arrays, Arrays, Mapping[str, Any], Mapping[str, float]]:
        size = each(self.step_size)[1]
        inner = size if self.lower_step_size is None else self.lower_step_size
        z = y
        for _ in range(self.lower_steps):
            z = problem.descend(x, z, batch, inner)
        f, *upper = problem.upper(x, y, batch)
        g, *lower = problem.lower(x, y, batch)
        low, lx, _ = problem.lower(x, z, batch, "x")
        combined = problem.compiled(_by_gradient if self.barrier == "gradient" else _by_value)
        dx, dy, *numbers = combined(upper, lower, lx, g - low, self.eta)
        q, square, weight = map(float, numbers)
        x, kept = move_x(problem, x, dx, memory["x"], self)
        y, velocity = move_y(problem, y, dy, memory["y"], self)
        record = {"value": float(f), "gap": q, "gap_gradient": square**0.5, "weight": weight}
        return x, y, {"x": kept, "y": velocity}, record


def _by_gradient(upper: Any, lower: Any, low: Any, q: Any, eta: Any) -> Any:
    return _combined(upper, lower, low, q, lambda square: eta * square)


def _by_value(upper: Any, lower: Any, low: Any, q: Any, eta: Any) -> Any:
    return _combined(upper, lower, low, q, lambda square: eta * q)


def _combined(upper: Any, lower: Any, low: Any, q: Any, barrier: Any) -> Any:
    """grad f + lam grad q of x and of y, q, |grad q|^2 and lam."""
    (fx, fy), (gx, qy) = upper, lower
    qx = less(gx, low)
    square = total([*qx, *qy], [*qx, *qy])
    weight = (barrier(square) - total([*fx, *fy], [*qx, *qy])) / (square + TINY)
    weight = 0.5 * (weight + abs(weight))  # max(0, .), alike in every framework
    return plus(fx, qx, weight), plus(fy, qy, weight), q, square, weight
