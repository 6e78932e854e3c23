"""Checks of a returned point: feasible, complementary, stationary, and the known solution."""

from __future__ import annotations

import numpy as np

from .._types import Floats
from ._cone_problems import matrix_of, triangle
from ._point import Point, solve_point
from ._problem import Problem
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped

__all__ = [
    "check_box_dual_sign",
    "check_complementarity",
    "check_dual_feasibility",
    "check_dual_sign",
    "check_objective",
    "check_primal_feasibility",
    "check_psd_order",
    "check_solution",
    "check_solved",
    "check_stationarity",
]


def check_solved(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """A problem with a solution gets an optimal status, arrays of the right shape, numbers."""
    solve_point(solver, problem, settings)


def check_primal_feasibility(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """The constraints hold at x, and Ax + s = b where the solver returns a slack."""
    point = solve_point(solver, problem, settings)
    _rows_hold(
        point,
        point.primal_violation(),
        settings,
        "the point violates a constraint",
        "the rows or cones reached the solver in another order, a bound has the wrong sign, or an "
        "unsolved point is returned with an optimal status",
    )


def check_dual_feasibility(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Multipliers of inequalities have their sign; those of a cone are in the dual cone."""
    point = solve_point(solver, problem, settings)
    _rows_hold(
        point,
        point.dual_violation(),
        settings,
        "the dual is outside of the dual cone",
        {
            "box": "y > 0 pushes at u and y < 0 at l; some solvers say it the other way round",
            "split": "z_ineq >= 0; return -z_ineq if the vendor's is negative",
            "cone": "z has the vendor's sign or row order instead of ours (Px + q + A'z = 0)",
        }[point.form],
    )


def check_complementarity(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Slack times multiplier is zero in every row or block."""
    point = solve_point(solver, problem, settings)
    _rows_hold(
        point,
        point.complementarity(),
        settings,
        "slack times multiplier is not zero",
        "the dual belongs to another row (order), or the point was not solved to the tolerance",
    )


def _rows_hold(
    point: Point, violation: Floats, settings: CheckSettings, what: str, cause: str
) -> None:
    limit = settings.tolerance * point.size
    if violation.size and not violation.max() <= limit:
        i = int(np.argmax(violation))
        raise CheckFailure(
            f"{what} by {violation[i]:.3g} in {point.names()[i]}; expected at most {limit:.1g} "
            f"(its multiplier is {point.dual[i]:.3g}, its slack {point.slack[i]:.3g}). Likely "
            f"cause: {cause}"
        )


def check_stationarity(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Px + q + (constraints)'dual = 0."""
    point = solve_point(solver, problem, settings)
    residual = np.abs(point.gradient + point.pull)
    limit = settings.tolerance * point.size
    if not residual.max(initial=0.0) <= limit:
        raise CheckFailure(
            f"Px + q + (constraints)'dual is {residual.max():.3g} in entry {residual.argmax()}; "
            f"expected at most {limit:.1g}. Likely cause: {_why_not_stationary(point, limit)}"
        )


def _why_not_stationary(point: Point, limit: float) -> str:
    """The multiple of the dual that would do, if one does."""
    gradient, pull = point.gradient, point.pull
    square = float(pull @ pull)
    if square > 0.0:
        factor = -float(gradient @ pull) / square
        if np.abs(gradient + factor * pull).max() <= 10 * limit:
            if abs(factor + 1.0) < 1e-3:
                return "the dual has the opposite sign; return minus what the vendor returns"
            return (
                f"the dual times {factor:.4g} would satisfy it, so it is off by a constant factor "
                "(an objective x'Px without the 1/2, or scaled data)"
            )
    return (
        "the point was not solved to the tolerance, the objective's 1/2 or one triangle of P is "
        "lost on the way, or the dual belongs to other rows"
    )


def check_dual_sign(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """The dual enters stationarity with a plus: Px + q + (constraints)'dual = 0."""
    point = solve_point(solver, problem, settings)
    gradient, pull = point.gradient, point.pull
    if np.abs(pull).max(initial=0.0) <= 1e-3 * point.size:
        raise CheckSkipped("no multiplier is large enough here to tell its sign")
    plus, minus = np.abs(gradient + pull).max(), np.abs(gradient - pull).max()
    if minus < plus:
        raise CheckFailure(
            f"Px + q + (constraints)'dual is {plus:.3g} but Px + q - (constraints)'dual is "
            f"{minus:.3g}: the dual has the opposite sign. Expected L = 1/2 x'Px + q'x + "
            "dual'(constraints); return minus what the vendor returns"
        )


def check_box_dual_sign(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """y > 0 in the rows that hold at u, y < 0 in those that hold at l, else 0 (equalities: any)."""
    if "y" not in problem.dual:
        raise CheckSkipped("the problem has no two-sided bounds")
    point = solve_point(solver, problem, settings)
    if point.form != "box":
        raise CheckSkipped(f"it takes the {point.form} view, where every row has one side")
    limit = settings.tolerance * point.size
    for i, (seen, exact) in enumerate(zip(point.dual, problem.dual["y"], strict=True)):
        if abs(exact) > limit and np.sign(seen) != np.sign(exact):
            where = "u" if exact > 0 else "l"
            raise CheckFailure(
                f"row {i} of l <= Ax <= u holds at {where}, so its y is {exact:.3g}; the solver "
                f"returned {seen:.3g}. Expected y > 0 at u and y < 0 at l. Likely cause: the "
                "vendor has the other sign, or separate multipliers for l and u (return y_u - y_l)"
            )


def check_objective(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """1/2 x'Px + q'x is the optimal value."""
    point = solve_point(solver, problem, settings)
    exact = problem.objective
    limit = 10 * settings.tolerance * max(1.0, abs(exact), point.size)
    if not abs(point.objective - exact) <= limit:
        raise CheckFailure(
            f"1/2 x'Px + q'x is {point.objective:.9g} at the returned x; the optimal value is "
            f"{exact:.9g}. Likely cause: the factor 1/2, one triangle of P where the vendor wants "
            "both, or a sign of q"
        )


def check_solution(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """x and the dual are the known ones (each problem here has one of each)."""
    point = solve_point(solver, problem, settings)
    _close("x", point.x, problem.x, point, settings)
    exact = _dual_in_view(problem, point)
    _close("the dual", point.dual, exact, point, settings)


def _close(
    what: str, seen: Floats, exact: Floats | None, point: Point, settings: CheckSettings
) -> None:
    limit = 100 * settings.tolerance * point.size
    error = np.abs(seen - exact) if exact is not None else np.zeros(1)
    if not error.max(initial=0.0) <= limit:
        i = int(error.argmax())
        raise CheckFailure(
            f"entry {i} of {what} is {seen[i]:.9g}, the exact solution has "
            f"{exact[i] if exact is not None else 0.0:.9g}; expected a difference of at most "
            f"{limit:.1g}. Likely cause: order, scale or sign of rows, or a loose tolerance"
        )


def _dual_in_view(problem: Problem, point: Point) -> Floats:
    """The exact dual as the solver's view states it."""
    dual = problem.dual
    if "y" in dual and point.form == "box":
        return dual["y"]
    if "y" in dual:  # equalities, finite upper bounds, finite lower bounds
        y, lower, upper = dual["y"], problem.data["l"], problem.data["u"]
        equal = lower == upper
        above, below = np.isfinite(upper) & ~equal, np.isfinite(lower) & ~equal
        y_eq, z_ineq = y[equal], np.r_[np.maximum(y[above], 0.0), np.maximum(-y[below], 0.0)]
    elif "z" in dual:
        if point.form != "split":
            return dual["z"]
        equality = np.repeat(
            [cone.kind == "zero" for cone in problem.cones], [cone.dim for cone in problem.cones]
        ).astype(bool)
        y_eq, z_ineq = dual["z"][equality], dual["z"][~equality]
    else:
        y_eq, z_ineq = dual["y_eq"], dual["z_ineq"]
    return np.concatenate((z_ineq, y_eq) if point.form == "split" else (y_eq, z_ineq))


def check_psd_order(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """Semidefinite blocks are the lower triangle by columns, off-diagonals times sqrt 2."""
    point = solve_point(solver, problem, settings)
    assert problem.x is not None
    limit = 100 * settings.tolerance * point.size
    if np.abs(point.x - problem.x).max() <= limit:
        return
    p = -problem.data["q"]
    for upper, scale, why in (
        (True, np.sqrt(2.0), "it reads the upper triangle by columns (lower by rows)"),
        (False, 1.0, "it does not scale off-diagonals by sqrt 2"),
        (True, 1.0, "it reads the upper triangle by columns, and does not scale by sqrt 2"),
    ):
        wrong = _projected(p, upper, scale)
        if np.abs(point.x - wrong).max() <= max(1e-4, limit):
            raise CheckFailure(
                f"the projection onto the semidefinite matrices is wrong, as if {why}. Expected "
                "the lower triangle stacked by columns, off-diagonals times sqrt 2: (X11, "
                "r X21, r X31, X22, r X32, X33). Permute the rows of A, b, s and z in the adapter"
            )
    raise CheckFailure(
        f"the projection onto the semidefinite matrices is off by "
        f"{np.abs(point.x - problem.x).max():.3g}. Expected the lower triangle stacked by "
        "columns, off-diagonals times sqrt 2. Likely cause: order or scale of the triangle"
    )


def _projected(p: Floats, upper: bool, scale: float) -> Floats:
    """The answer to the projection of p for a solver that has another triangle in mind.

    minimize |x - p| with M(x) semidefinite, M reading that triangle: x = p + M'w, where w is found
    by projected gradients (M is a permutation and a scaling by at most sqrt 2).
    """
    M = np.array([triangle(matrix_of(e, upper, scale)) for e in np.eye(p.size)]).T
    x, w = p.copy(), np.zeros_like(p)
    for _ in range(300):
        values, U = np.linalg.eigh(matrix_of(w - 0.5 * (M @ x)))
        w = triangle(U @ np.diag(np.maximum(values, 0.0)) @ U.T)
        x = p + M.T @ w
    return x
