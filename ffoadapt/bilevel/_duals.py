"""The gradient of a bilevel problem whose lower level is a constrained program, through its duals.

With y+ = argmin g + f / penalty, y0 = argmin g under the same constraints, L the Lagrangian of g:

    f_x(y+) + penalty [L_x(y+, z+) - L_x(y0, z0)]

No solve is differentiated, and x may move the constraints. Off by O(1 / penalty); with y- of
g - f / penalty in place of y0, halved, by O(1 / penalty^2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .._exceptions import ParameterError
from ._arrays import less, like, plus
from ._problem import BilevelProblem

__all__ = ["LowerProgram", "solve_penalized"]

Arrays = list[Any]

DUALS = ("z_ineq", "z_eq", "z_lower", "z_upper")


class LowerProgram(Protocol):
    """argmin_y objective(x, y) s.t. inequalities(x, y) <= 0, equalities(x, y) = 0, bounds(x).

    What "penalty" and "f2sa" need of a constrained lower level. y is one array; inequalities and
    equalities give an array or a list of arrays, and their duals are one vector. The Lagrangian is
    objective + z_ineq'inequalities + z_eq'equalities + z_lower'(lower - y) + z_upper'(y - upper),
    with z_ineq, z_lower, z_upper >= 0.
    """

    objective: Callable[[Any, Any], Any]
    inequalities: Callable[[Any, Any], Any] | None
    equalities: Callable[[Any, Any], Any] | None
    bounds: Any
    """None, (lower, upper), or a function of x that returns these."""

    def __call__(self, x: Any) -> Any:
        """y, differentiable in the framework."""

    def solve(self, x: Any) -> Any:
        """An object with ``y``, ``z_ineq``, ``z_eq``, ``z_lower`` and ``z_upper``.

        Arrays of the framework or of NumPy; a dual is None where there are no such constraints.
        """

    def with_objective(self, objective: Callable[[Any, Any], Any]) -> LowerProgram:
        """The same constraints under another objective."""


def solve_penalized(
    problem: BilevelProblem, x: Arrays, weight: float, central: bool
) -> tuple[float, Arrays]:
    """f(x, y+) and the estimate of the gradient of f(x, y(x)) in x."""
    f, lagrangian, up, down = _functions(problem, weight, central)
    tree = problem.tree_x(x)
    plus_point, minus_point = (_point(problem, program.solve(tree), x[0]) for program in (up, down))
    value, fx = problem.gradients(f, x, plus_point[:1])
    _, high = problem.gradients(lagrangian, x, plus_point)
    _, low = problem.gradients(lagrangian, x, minus_point)
    if central:
        fx = plus(fx, less(problem.gradients(f, x, minus_point[:1])[1], fx), 0.5)
        weight = 0.5 * weight
    return float(value), plus(fx, less(high, low), weight)


def _functions(problem: BilevelProblem, weight: float, central: bool) -> Any:
    """f and the Lagrangian on lists of arrays, and the two programs; made once for a penalty."""
    known = problem.cache.get("programs")
    if known is not None and known[0] == (weight, central):
        return known[1]
    program, upper, count = problem.lower_function, problem.upper_function, problem.count_x

    def f(*arrays: Any) -> Any:
        return upper(problem.tree_x(arrays[:count]), arrays[count])

    def lagrangian(*arrays: Any) -> Any:
        tree, y, *duals = problem.tree_x(arrays[:count]), *arrays[count:]
        total = program.objective(tree, y)
        if program.inequalities is not None:
            total = total + _paired(duals[0], program.inequalities(tree, y))
        if program.equalities is not None:
            total = total + _paired(duals[1], program.equalities(tree, y))
        if callable(program.bounds):
            lower, upper_bound = program.bounds(tree)
            for dual, bound, sign in ((duals[2], lower, 1.0), (duals[3], upper_bound, -1.0)):
                if hasattr(bound, "dtype"):  # a number moves with nothing
                    total = total + sign * (dual * (bound - y)).sum()
        return total

    def mixed(sign: float) -> Any:
        return program.with_objective(
            lambda tree, y: program.objective(tree, y) + (sign / weight) * upper(tree, y)
        )

    made = (f, lagrangian, mixed(1.0), mixed(-1.0) if central else program)
    problem.cache["programs"] = ((weight, central), made)
    return made


def _paired(duals: Any, rows: Any) -> Any:
    """The inner product of a vector of duals and rows that come as one array or as several."""
    total, start = 0.0, 0
    for part in rows if isinstance(rows, list | tuple) else [rows]:
        flat = part.reshape(-1)
        total = total + (duals[start : start + flat.shape[0]] * flat).sum()
        start += flat.shape[0]
    return total


def _point(problem: BilevelProblem, solution: Any, model: Any) -> Arrays:
    """y and its duals as arrays of the framework; zeros where there are none."""
    parts = []
    for name in ("y", *DUALS):
        value = getattr(solution, name)
        if value is None:
            value = np.zeros(1)
        if name == "y" and isinstance(value, dict | list | tuple):
            raise ParameterError(
                "a lower-level program that is solved for its duals has one array y"
            )
        if isinstance(value, np.ndarray):
            value = problem.framework.from_numpy(value)
        value = value.detach() if hasattr(value, "detach") else value
        parts.append(like(value, model))
    return parts
