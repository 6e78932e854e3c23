"""The optimality conditions at what a solver returned, in the view that it was given.

Nothing is clipped, folded or completed before it is measured, unlike on the way to a user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._program.points import Solution
from .._types import Floats
from ._problem import Problem
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, call, require, view_of

__all__ = ["Point", "finite_vector", "point_of", "solve_point"]


@dataclass(frozen=True, eq=False)
class Point:
    """A returned point.

    Attributes
    ----------
    view
        The program as the solver was given it.
    x, dual
        (n,) and (m,): for a split view the dual is (z_ineq, y_eq), stacked.
    rows
        The constraint matrix whose rows ``dual`` multiplies.
    slack
        (m,): as returned, or what the rows leave: u - Ax for a box view, h - Gx and b - Ax.
    """

    view: Any
    x: Floats
    dual: Floats
    rows: Any
    slack: Floats

    @property
    def form(self) -> str:
        name: str = self.view.name
        return name

    @property
    def objective(self) -> float:
        return float(0.5 * self.x @ (self.view.P @ self.x) + self.view.q @ self.x)

    @property
    def gradient(self) -> Floats:
        """Px + q."""
        made: Floats = self.view.P @ self.x + self.view.q
        return made

    @property
    def pull(self) -> Floats:
        """(constraints)'dual; stationarity is gradient + pull = 0."""
        made: Floats = self.rows.T @ self.dual
        return made

    @property
    def size(self) -> float:
        """What violations are relative to: the largest number in sight, at least 1."""
        numbers = (self.x, self.dual, self.view.q, self.slack[np.isfinite(self.slack)])
        return max(1.0, *(float(np.abs(v).max(initial=0.0)) for v in numbers))

    def names(self) -> list[str]:
        """A name for each row, for messages."""
        if self.form == "box":
            return [f"row {i} of l <= Ax <= u" for i in range(self.dual.size)]
        if self.form == "split":
            k = self.view.h.size
            inequalities = [f"row {i} of Gx <= h" for i in range(k)]
            return inequalities + [f"row {i} of Ax = b" for i in range(self.dual.size - k)]
        names = []
        for k, cone in enumerate(self.view.cones):
            names += [f"row {i} of cones[{k}] = {cone!r}" for i in range(cone.dim)]
        return names

    def primal_violation(self) -> Floats:
        """(m,) how far each row, or the cone block it is in, is from feasible."""
        view, Ax = self.view, self.rows @ self.x
        if self.form == "box":
            return _positive(np.maximum(view.l - Ax, Ax - view.u))
        if self.form == "split":
            k = view.h.size
            return np.concatenate((_positive(-self.slack[:k]), np.abs(Ax[k:] - view.b)))
        residual: Floats = np.abs(Ax + self.slack - view.b)
        return np.maximum(residual, self._by_cone("violation", self.slack))

    def dual_violation(self) -> Floats:
        """(m,) how far each multiplier, or its cone block, is outside of the dual cone."""
        view, dual = self.view, self.dual
        if self.form == "box":
            above = np.where(np.isposinf(view.u), dual, 0.0)
            below = np.where(np.isneginf(view.l), -dual, 0.0)
            return _positive(np.maximum(above, below))
        if self.form == "split":
            k = view.h.size
            return np.concatenate((_positive(-dual[:k]), np.zeros(dual.size - k)))
        return self._by_cone("dual_violation", dual)

    def complementarity(self) -> Floats:
        """(m,) |slack times multiplier| of each row, or of its cone block."""
        view, dual = self.view, self.dual
        if self.form == "box":
            Ax = self.rows @ self.x
            up = np.where(np.isfinite(view.u), view.u - Ax, 1.0) * np.maximum(dual, 0.0)
            down = np.where(np.isfinite(view.l), Ax - view.l, 1.0) * np.maximum(-dual, 0.0)
            total: Floats = np.abs(up) + np.abs(down)
            return total
        if self.form == "split":
            product: Floats = np.where(np.isfinite(self.slack), self.slack, 1.0) * dual
            product[view.h.size :] = 0.0
            return np.abs(product)
        products, start = np.zeros(dual.size), 0
        for cone in view.cones:
            at = slice(start, start + cone.dim)
            products[at] = abs(float(self.slack[at] @ dual[at]))
            start += cone.dim
        return products

    def _by_cone(self, what: str, values: Floats) -> Floats:
        loaded, start = np.zeros(values.size), 0
        for cone in self.view.cones:
            at = slice(start, start + cone.dim)
            if cone.dim:
                loaded[at] = getattr(cone, what)(values[None, at])[0]
            start += cone.dim
        return loaded


def solve_point(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT, **changes: Any
) -> Point:
    """The point that the solver returns for a problem, with some data replaced.

    Raises
    ------
    CheckFailure
        Where it reports no solution, or one whose shapes are wrong or numbers not finite.
    """
    loaded, name = require(solver, problem)
    view = view_of(loaded, problem.program(**changes))
    return point_of(view, call(loaded, name, view, settings))


def point_of(view: Any, solution: Solution) -> Point:
    """The point in a solution, its status, shapes and numbers checked."""
    if not solution.status.solved:
        raise CheckFailure(
            f"the status is {solution.status.value!r}, expected 'optimal': the problem has a "
            f"solution. The solver said: {dict(solution.info) or 'nothing'}"
        )
    x = _vector("x", solution.x, view.q.size)
    if view.name == "box":
        dual, rows = _vector("the dual y", solution.dual, view.l.size), view.A
        slack = view.u - rows @ x
    elif view.name == "split":
        pair = solution.dual
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise CheckFailure(
                f"the dual is a {type(pair).__name__}; a split solver returns the pair "
                "(z_ineq, y_eq)"
            )
        parts = (("z_ineq", view.h.size), ("y_eq", view.b.size))
        dual = np.concatenate([_vector(k, v, n) for (k, n), v in zip(parts, pair, strict=True)])
        rows = _stacked(view.G, view.A)
        slack = np.r_[view.h, view.b] - rows @ x
    else:
        dual, rows = _vector("the dual z", solution.dual, view.b.size), view.A
        slack = view.b - rows @ x
        if solution.slack is not None:
            slack = _vector("the slack s", solution.slack, view.b.size)
    return Point(view, x, dual, rows, slack)


def _positive(values: Floats) -> Floats:
    return np.maximum(values, 0.0)


def _vector(name: str, value: Any, size: int) -> Floats:
    if value is None:
        raise CheckFailure(
            f"{name} is None under an optimal status; expected an array of shape ({size},)"
            + (": gradients need the multipliers of the constraints" if name != "x" else "")
        )
    return finite_vector(name, value, size)


def finite_vector(name: str, value: Any, size: int) -> Floats:
    """A solver's (size,) numbers, or the failure that says what else they are."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CheckFailure(f"{name} is no array of numbers: {error}") from error
    if array.shape != (size,):
        raise CheckFailure(f"{name} has shape {array.shape}, expected ({size},)")
    if not np.isfinite(array).all():
        raise CheckFailure(
            f"{name} holds {array[~np.isfinite(array)][0]} under an optimal status; a solve that "
            "failed needs another Status"
        )
    return array


def _stacked(G: Any, A: Any) -> Any:
    from scipy import sparse

    return sparse.vstack([G, A]).tocsc() if sparse.issparse(G) else np.vstack([G, A])
