"""Checks of what a solver says when there is no solution, or when it may not look for long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .._plugins.solver import Session, Solver
from .._program.points import Solution, Status
from .._solve.options import common_names
from ._point import point_of
from ._problem import Problem
from ._subject import (
    DEFAULT,
    AnySolver,
    CheckFailure,
    CheckSettings,
    CheckSkipped,
    call,
    require,
    view_of,
)

__all__ = ["check_iteration_limit", "check_recovery", "check_status", "judge_limit", "judge_status"]

_VAGUE = (Status.ITERATION_LIMIT, Status.TIME_LIMIT, Status.ERROR)


def check_status(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """An infeasible or unbounded problem is called so; never solved, never the other of the two.

    A solver that only says that it found nothing (a limit, an error) does not fail: it is skipped.
    """
    loaded, name = require(solver, problem)
    view = view_of(loaded, problem.program())
    seen = call(loaded, name, view, settings).status
    advice = "unknown ones should become Status.ERROR"
    judge_status(seen, problem.about, problem.status, advice)


def judge_status(seen: Status, about: str, expected: Status, advice: str) -> None:
    """Whether a solver called a problem without a solution what it is; ``about`` says why it has
    none."""
    if seen in _VAGUE:
        raise CheckSkipped(
            f"it does not tell why: its status is {seen.value!r}, users see that and not "
            f"{expected.value!r}"
        )
    if seen is not expected:
        worst = "a point without meaning would be differentiated" if seen.solved else "misleading"
        raise CheckFailure(
            f"{about}, and the status is {seen.value!r} ({worst}); expected {expected.value!r}. "
            "Likely cause: a vendor's status that the adapter does not translate, or a default of "
            f"OPTIMAL; {advice}"
        )


def check_recovery(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """After a program without a solution, the same session solves one that has a solution."""
    loaded, name = require(solver, problem)
    session = Session()
    call(loaded, name, view_of(loaded, problem.program()), settings, session)
    views = [view_of(loaded, problem.program(**problem.repair)) for _ in range(2)]
    after = point_of(views[0], call(loaded, name, views[0], settings, session))
    fresh = point_of(views[1], call(loaded, name, views[1], settings))
    error = float(np.abs(after.x - fresh.x).max())
    if not error <= 100 * settings.tolerance * fresh.size:
        raise CheckFailure(
            f"after an unsolvable program in the same session, x is off by {error:.3g}. Likely "
            "cause: the workspace starts from a diverged point; reset it, or clear the session"
        )


def check_iteration_limit(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """With max_iterations=1 the status is ITERATION_LIMIT, or the point really is a solution."""
    loaded, name = require(solver, problem)
    view = view_of(loaded, problem.program())

    def worst(solution: Solution) -> float:
        point = point_of(view, solution)
        parts = (point.primal_violation(), point.dual_violation(), point.gradient + point.pull)
        return max(float(np.abs(part).max(initial=0.0)) for part in parts) / point.size

    judge_limit(loaded, partial(call, loaded, name, view, settings), worst, 1e-3)


def judge_limit(
    solver: Solver,
    solve: Callable[..., Solution],
    worst: Callable[[Solution], float],
    limit: float,
) -> None:
    """Whether what it says after one iteration holds; ``worst`` is by how much a point violates the
    optimality conditions, relatively, and ``limit`` what of it is none."""
    if "max_iterations" not in common_names(solver):
        raise CheckSkipped("it does not declare the common option 'max_iterations'")
    solution = solve(max_iterations=1)
    if not solution.status.solved:
        if solution.status is not Status.ITERATION_LIMIT:
            raise CheckFailure(
                f"with max_iterations=1 the status is {solution.status.value!r}; expected "
                "'iteration_limit', by which users know to raise the limit"
            )
        return
    violation = worst(solution)
    if not violation <= limit:
        raise CheckFailure(
            f"with max_iterations=1 the status is {solution.status.value!r} but the point violates "
            f"the optimality conditions by {violation:.3g}; expected 'iteration_limit'. Likely "
            "cause: the option is not passed on, or the vendor's status is not translated"
        )
