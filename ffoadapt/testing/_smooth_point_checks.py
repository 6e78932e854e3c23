"""Checks of the point that a solver of functions returns: shapes, signs, optimality."""

from __future__ import annotations

import numpy as np

from ._smooth_point import (
    PARTS,
    SmoothPoint,
    limit_of,
    solved_point,
)
from ._smooth_problem import SmoothProblem
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped

__all__ = [
    "check_complementarity",
    "check_dual_feasibility",
    "check_dual_sign",
    "check_feasibility",
    "check_solution",
    "check_solved",
    "check_stationarity",
]


def check_solved(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A problem with a solution gets an optimal status, arrays of the right shape, numbers."""
    solved_point(solver, problem, settings)


def check_feasibility(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The inequalities, equalities and bounds hold at y."""
    violation, what = solved_point(solver, problem, settings).feasibility()
    if not violation <= settings.tolerance:
        raise CheckFailure(
            f"under an optimal status {what} is violated by {violation:.3g}, relative to the size "
            f"of y; expected at most {settings.tolerance:g}. Likely cause: the sign of the "
            "inequalities, or a vendor's status that means no success"
        )


def check_dual_sign(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The multipliers enter with grad g + J_h'z_ineq + J_e'z_eq - z_lower + z_upper = 0."""
    point = _with_duals(solver, problem, settings)
    right = point.stationarity()
    if right <= limit_of(settings):
        return
    for name in PARTS:
        if point.stationarity(flipped=name) <= max(limit_of(settings), 1e-3 * right):
            raise CheckFailure(
                f"{name} has the opposite sign: the gradient of the Lagrangian is {right:.3g}, and "
                f"{point.stationarity(flipped=name):.1e} with the sign changed"
            )
    signs = {k: -v for k, v in point.duals.items()}
    flipped = SmoothPoint(point.form, point.y, signs)
    if flipped.stationarity() <= max(limit_of(settings), 1e-3 * right):
        raise CheckFailure("all multipliers have the opposite sign")


def check_dual_feasibility(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Multipliers of inequalities and of bounds are not negative."""
    negative, name = _with_duals(solver, problem, settings).negative()
    if not negative <= limit_of(settings):
        raise CheckFailure(f"{name} has the entry -{negative:.3g} (relative); expected 0 or more")


def check_complementarity(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Slack times multiplier is zero in every row and bound."""
    product, name = _with_duals(solver, problem, settings).complementarity()
    if not product <= limit_of(settings):
        raise CheckFailure(
            f"an entry of {name} times its slack is {product:.3g}, relatively; expected at most "
            f"{limit_of(settings):g}. Likely cause: multipliers in another order than the rows"
        )


def _with_duals(solver: AnySolver, problem: SmoothProblem, settings: CheckSettings) -> SmoothPoint:
    point = solved_point(solver, problem, settings)
    if point.given is None:
        raise CheckSkipped("it returns no multipliers: they are found by least squares")
    return point


def check_stationarity(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The gradient of the Lagrangian is zero, with the multipliers or those of least squares."""
    error = solved_point(solver, problem, settings).stationarity()
    if not error <= limit_of(settings):
        raise CheckFailure(
            f"under an optimal status the gradient of the Lagrangian is {error:.3g}, relative to "
            f"its terms; expected at most {limit_of(settings):g}. Likely cause: a loose default "
            "tolerance, a vendor's status that means no success, or multipliers of another order"
        )


def check_solution(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """y and the multipliers are the known ones (of problems that have one of each)."""
    point = solved_point(solver, problem, settings)
    exact = {"y": problem.y, **problem.duals}
    seen = {"y": point.y, **(point.given or {})}
    for name, value in seen.items():
        want = exact[name]
        assert want is not None
        error = float(np.abs(value - want).max(initial=0.0))
        limit = limit_of(settings) * max(1.0, float(np.abs(want).max(initial=0.0)))
        if not error <= limit:
            raise CheckFailure(f"{name} is off by {error:.3g}, expected at most {limit:.1g}")
