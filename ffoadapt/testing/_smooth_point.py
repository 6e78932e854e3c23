"""The optimality conditions at what a solver of functions returned, in the form it was given.

Nothing is clipped or polished before it is measured, unlike on the way to a user. Where a solver
returns no multipliers, those of least squares stand in for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import nnls

from .._plugins.solver import Session, Solver
from .._program.points import Solution
from .._runtime.text import told
from .._smooth.form import SmoothForm
from .._solve.options import translate_options
from .._types import Floats
from ._point import finite_vector
from ._smooth_problem import SmoothProblem
from ._subject import AnySolver, CheckFailure, CheckSettings, CheckSkipped, load

__all__ = [
    "PARTS",
    "SmoothPoint",
    "limit_of",
    "smooth_call",
    "smooth_point",
    "smooth_require",
    "solved_point",
]


PARTS = ("z_ineq", "z_eq", "z_lower", "z_upper")

NEAR = 1e-4
"""A row or bound that is this near may have a multiplier, where the solver gives none."""


@dataclass(frozen=True, eq=False)
class SmoothPoint:
    """A returned point: y (n,), and multipliers by name where the solver gave any."""

    form: SmoothForm
    y: Floats
    given: dict[str, Floats] | None

    @cached_property
    def duals(self) -> dict[str, Floats]:
        return self.given if self.given is not None else self._fitted()

    @cached_property
    def gradient(self) -> Floats:
        return self.form.gradient(self.y)

    @cached_property
    def rows(self) -> dict[str, Floats]:
        """The gradients of what each multiplier is of: (m, n)."""
        eye = np.eye(self.form.n)
        return {
            "z_ineq": self.form.inequality_jacobian(self.y),
            "z_eq": self.form.equality_jacobian(self.y),
            "z_lower": -eye,
            "z_upper": eye,
        }

    @cached_property
    def values(self) -> dict[str, Floats]:
        """What each multiplier is of: (m,), <= 0 where it holds, 0 for equalities."""
        form = self.form
        return {
            "z_ineq": form.inequalities(self.y),
            "z_eq": form.equalities(self.y),
            "z_lower": form.lower - self.y,
            "z_upper": self.y - form.upper,
        }

    @property
    def reach(self) -> float:
        return max(1.0, float(np.abs(self.y).max(initial=0.0)))

    @cached_property
    def steepness(self) -> float:
        """The largest of the terms that stationarity adds up, at least 1."""
        terms = [np.abs(self.gradient)]
        terms += [np.abs(self.duals[k][:, None] * self.rows[k]) for k in ("z_ineq", "z_eq")]
        terms += [np.abs(self.duals[k]) for k in ("z_lower", "z_upper")]
        return max(1.0, *(float(t.max(initial=0.0)) for t in terms))

    def stationarity(self, flipped: str | None = None) -> float:
        """The largest entry of the Lagrangian's gradient, relative; one part's sign changed."""
        total = self.gradient.copy()
        for name in PARTS:
            sign = -1.0 if name == flipped else 1.0
            total += sign * self.rows[name].T @ self.duals[name]
        return _largest(total) / self.steepness

    def feasibility(self) -> tuple[float, str]:
        """The largest violation of a constraint, relative, and what it is of."""
        violations = {}
        for name, values in self.values.items():
            if name == "z_eq":
                values = np.abs(values)
            sizes = np.maximum(1.0, np.linalg.norm(self.rows[name], axis=-1))
            violations[_WHAT[name]] = float((values / sizes).max(initial=0.0)) / self.reach
        worst = max(violations, key=violations.__getitem__)
        return violations[worst], worst

    def negative(self) -> tuple[float, str]:
        """The most negative multiplier of an inequality or bound, relative, and its name."""
        wrong = {k: float((-self.duals[k]).max(initial=0.0)) for k in PARTS if k != "z_eq"}
        worst = max(wrong, key=wrong.__getitem__)
        return wrong[worst] / self.steepness, worst

    def complementarity(self) -> tuple[float, str]:
        """The largest |slack times multiplier|, relative, and the name of the multiplier."""
        products = {}
        for name in PARTS:
            values, dual = self.values[name], self.duals[name]
            if name != "z_eq":
                slack = np.where(np.isfinite(values), np.abs(values), 1.0)
                products[name] = float(np.abs(slack * dual).max(initial=0.0))
        worst = max(products, key=products.__getitem__)
        return products[worst] / (self.steepness * self.reach), worst

    def _fitted(self) -> dict[str, Floats]:
        """Nonnegative least squares of the Lagrangian's gradient over the rows that hold."""
        columns, places = [], []
        for name in PARTS:
            rows, values = self.rows[name], self.values[name]
            sizes = np.maximum(1.0, np.linalg.norm(rows, axis=-1))
            for k in np.flatnonzero(np.abs(values) <= NEAR * sizes * self.reach):
                for sign in (1.0, -1.0) if name == "z_eq" else (1.0,):
                    columns.append(sign * rows[k])
                    places.append((name, k, sign))
        duals = {name: np.zeros(self.values[name].size) for name in PARTS}
        if columns:
            fit = nnls(np.array(columns).T, -self.gradient)[0]
            for (name, k, sign), value in zip(places, fit, strict=True):
                duals[name][k] += sign * value
        return duals


_WHAT = {
    "z_ineq": "inequalities(y) <= 0",
    "z_eq": "equalities(y) = 0",
    "z_lower": "lower <= y",
    "z_upper": "y <= upper",
}


def limit_of(settings: CheckSettings) -> float:
    """How far a point as the solver returns it may be from optimal, relatively.

    More than for matrices: what a user gets is polished, and quasi-Newton methods stop where the
    objective does not fall any more, which is the square root of rounding from the solution.
    """
    return 100.0 * settings.tolerance


def smooth_require(solver: AnySolver, problem: SmoothProblem) -> tuple[Solver, str]:
    """The solver object and its name; skips where it does not declare the constraints' kinds."""
    loaded, name = load(solver)
    lacking = sorted(problem.kinds - frozenset(loaded.cones))
    if lacking:
        raise CheckSkipped(f"it does not declare {', '.join(lacking)}")
    return loaded, name


def smooth_call(
    solver: Solver,
    name: str,
    form: SmoothForm,
    settings: CheckSettings,
    session: Session | None = None,
    **options: Any,
) -> Solution:
    """What the solver returns for a form; raising is a failure."""
    given = {**settings.solver_options, **options}
    try:
        solution = solver.solve(
            form, translate_options(solver, name, given), Session() if session is None else session
        )
    except Exception as error:
        raise CheckFailure(
            f"solve raised {told(error)}. A solver returns a Solution whatever happens to it; an "
            "infeasible or unsolved program has a status of its own"
        ) from error
    if not isinstance(solution, Solution):
        raise CheckFailure(
            f"solve returned a {type(solution).__name__}; expected ffoadapt.Solution(y, duals)"
        )
    return solution


def smooth_point(form: SmoothForm, solution: Solution) -> SmoothPoint:
    """The point in a solution, its status, shapes and numbers checked."""
    if not solution.status.solved:
        raise CheckFailure(
            f"the status is {solution.status.value!r}, expected 'optimal': the problem has a "
            f"solution. The solver said: {dict(solution.info) or 'nothing'}"
        )
    y = finite_vector("y", solution.x, form.n)
    if solution.dual is None:
        return SmoothPoint(form, y, None)
    parts = solution.dual
    if not isinstance(parts, tuple | list) or len(parts) != len(PARTS):
        raise CheckFailure(
            f"the dual is a {type(parts).__name__}; expected the tuple ({', '.join(PARTS)}), or "
            "None where the solver has no multipliers"
        )
    sizes = (form.m_ineq, form.m_eq, form.n, form.n)
    each = zip(PARTS, parts, sizes, strict=True)
    return SmoothPoint(form, y, {name: finite_vector(name, v, size) for name, v, size in each})


def solved_point(
    solver: AnySolver,
    problem: SmoothProblem,
    settings: CheckSettings,
    session: Session | None = None,
    **options: Any,
) -> SmoothPoint:
    """The point that the solver returns for a problem."""
    loaded, name = smooth_require(solver, problem)
    form = problem.form()
    return smooth_point(form, smooth_call(loaded, name, form, settings, session, **options))


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
