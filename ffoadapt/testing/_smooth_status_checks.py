"""Checks of what a solver of functions says: without a solution, at limits, after errors."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from .._program.points import Solution, Status
from .._runtime.text import told
from .._smooth.solving import Run
from .._solve.options import common_names, translate_options
from ._smooth_point import (
    limit_of,
    smooth_call,
    smooth_point,
    smooth_require,
)
from ._smooth_problem import SmoothProblem
from ._status_checks import judge_limit, judge_status
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings

__all__ = ["check_errors", "check_iteration_limit", "check_status", "check_time_limit"]

LIMIT, PAUSE, GRACE = 0.2, 0.05, 1.5
"""Seconds: the time limit, how long an evaluation takes, how much later a solve may end. No solver
is done after four evaluations."""


def check_status(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """An infeasible or unbounded problem is called so; never solved, never the other of the two.

    A solver that only says that it found nothing (a limit, an error) does not fail: it is skipped.
    """
    loaded, name = smooth_require(solver, problem)
    more: dict[str, Any] = (
        {"max_iterations": 200} if "max_iterations" in common_names(loaded) else {}
    )
    seen = smooth_call(loaded, name, problem.form(), settings, **more).status
    advice = (
        "`SmoothForm.violation` says whether a point that a solver stopped at holds the constraints"
    )
    judge_status(seen, problem.about, problem.status, advice)


def check_iteration_limit(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """With max_iterations=1 the status is ITERATION_LIMIT, or the point really is a solution."""
    loaded, name = smooth_require(solver, problem)
    form = problem.form()

    def worst(solution: Solution) -> float:
        point = smooth_point(form, solution)
        return max(point.stationarity(), point.feasibility()[0])

    solve = partial(smooth_call, loaded, name, form, settings)
    judge_limit(loaded, solve, worst, limit_of(settings))


def check_time_limit(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """With slow functions and a time_limit the solve ends then, with the status TIME_LIMIT.

    A solver without that option is ended by the functions, which raise; it lets that through.
    """
    loaded, name = smooth_require(solver, problem)
    calls: list[float] = []
    start = time.monotonic()

    def slow() -> None:
        calls.append(time.monotonic() - start)
        time.sleep(PAUSE if len(calls) > 8 else 0.0)  # the first ones are the form's own
        if calls[-1] > 10.0 * (LIMIT + GRACE):
            raise RuntimeError("the time limit is long over")

    form = problem.form(slow)
    given = {**settings.solver_options, "time_limit": LIMIT}
    start = time.monotonic()
    run = Run(loaded, name, translate_options(loaded, name, given), LIMIT)
    try:
        answer = run(form)
    except RuntimeError as error:
        raise CheckFailure(_late(time.monotonic() - start)) from error
    took = time.monotonic() - start
    if took > LIMIT + GRACE:
        raise CheckFailure(_late(took))
    if answer.status is not Status.TIME_LIMIT and took > LIMIT:
        raise CheckFailure(
            f"with time_limit={LIMIT:g} the solve took {took:.2g} s and its status is "
            f"{answer.status.value!r}; expected 'time_limit'. Likely cause: the vendor's status is "
            "not translated"
        )


def _late(took: float) -> str:
    return (
        f"with time_limit={LIMIT:g} the solve took {took:.2g} s. Likely cause: the option is not "
        "passed on, or what the functions raise after the limit (TimeLimitError) is caught; let "
        "exceptions of functions end the solve"
    )


def check_errors(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """What a function raises ends the solve and comes out."""
    loaded, name = smooth_require(solver, problem)
    calls = [0]
    form = problem.form()

    def raising() -> None:
        calls[0] += 1
        if calls[0] > after:
            raise ZeroDivisionError("of the user's function")

    after = 10**9
    form = problem.form(raising)
    after = calls[0] + 4
    run = Run(loaded, name, translate_options(loaded, name, settings.solver_options), None)
    try:
        answer = run(form)
    except ZeroDivisionError:
        if calls[0] > after + 50:
            raise CheckFailure(
                f"after a function had raised, it was called {calls[0] - after} more times; "
                "expected that the solve ends"
            ) from None
        return
    except Exception as error:
        raise CheckFailure(
            f"a function raised ZeroDivisionError, and {told(error)} came out"
        ) from error
    raise CheckFailure(
        f"a function raised ZeroDivisionError; expected that it comes out, the status is "
        f"{answer.status.value!r}"
    )
