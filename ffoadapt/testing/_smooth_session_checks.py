"""Checks that a solver of functions leaves its inputs alone and keeps nothing between solves."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._plugins.solver import Session
from ._at_once import at_once
from ._smooth_point import (
    PARTS,
    SmoothPoint,
    limit_of,
    smooth_call,
    smooth_point,
    smooth_require,
    solved_point,
)
from ._smooth_problem import SmoothProblem
from ._smooth_problems import smooth_problems
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings

__all__ = ["check_determinism", "check_inputs_unmodified", "check_session", "check_threads"]


def check_inputs_unmodified(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The start and the bounds are the same bits after the solve."""
    loaded, name = smooth_require(solver, problem)
    form = problem.form()
    before = {k: getattr(form, k).copy() for k in ("start", "lower", "upper")}
    for k in before:  # read-only for a solver that asks; compiled code does not
        getattr(form, k).flags.writeable = True
    smooth_call(loaded, name, form, settings)
    for k, array in before.items():
        if not np.array_equal(getattr(form, k), array):
            raise CheckFailure(
                f"the solve changed {k}, which others may share; work on a copy ({k}.copy())"
            )


def check_determinism(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Two solves of equal programs in fresh sessions give equal bits."""
    first, second = (solved_point(solver, problem, settings, Session()) for _ in range(2))
    _agree(second, first, 0.0, "equal programs have different answers", "random numbers, or state")


def check_session(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """What a solver saw before, in the same session or not, changes no answer."""
    loaded, name = smooth_require(solver, problem)
    other = _variant(problem, settings, 1)
    session = Session()

    def solved(some: SmoothProblem, at: Session) -> SmoothPoint:
        form = some.form()
        return smooth_point(form, smooth_call(loaded, name, form, settings, at))

    first, again = solved(problem, session), solved(problem, Session())
    limit = 0.0 if np.array_equal(first.y, again.y) else limit_of(settings)
    cause = (
        "numbers of an earlier call are kept, in the session, on the solver object or in a module; "
        "only the start that it is given may say where to begin"
    )
    reused, fresh = solved(other, session), solved(other, Session())
    error = reused.stationarity()
    if other.regular and not error <= limit_of(settings):
        raise CheckFailure(
            f"after another program, the answer violates stationarity by {error:.3g}. Likely "
            f"cause: {cause}"
        )
    what = "a solve with a filled session has another answer than one with a fresh session"
    _agree(reused, fresh, limit, what, cause)
    what = "after another program, the first one has another answer"
    _agree(solved(problem, Session()), first, limit, what, cause)


def check_threads(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Several solves at once, each in a session of its own, give what one after the other gives."""
    loaded, name = smooth_require(solver, problem)
    threads, rounds = 4, 3
    programs = [_variant(problem, settings, k) for k in range(threads)]

    def solved(some: SmoothProblem) -> SmoothPoint:
        form = some.form()
        return smooth_point(form, smooth_call(loaded, name, form, settings))

    alone = [solved(program) for program in programs]
    cause = "state on the solver object or in a module; keep it in local variables"

    def work(program: SmoothProblem) -> list[SmoothPoint]:
        return [solved(program) for _ in range(rounds)]

    together = at_once([partial(work, program) for program in programs], cause)
    for single, points in zip(alone, together, strict=True):
        for point in points:
            what = f"{threads} solves at once gave another answer than one after the other"
            _agree(point, single, limit_of(settings), what, cause)


def _variant(problem: SmoothProblem, settings: CheckSettings, k: int) -> SmoothProblem:
    """The problem with the numbers of another seed."""
    others = smooth_problems(settings.seed + 1000 * k)
    return next(other for other in others if other.name == problem.name)


def _agree(seen: SmoothPoint, wanted: SmoothPoint, limit: float, what: str, cause: str) -> None:
    """``limit`` is relative to the size of each array; 0 asks for equal bits."""
    pairs = {"y": (seen.y, wanted.y)}
    for name in PARTS if seen.given and wanted.given else ():
        pairs[name] = (seen.duals[name], wanted.duals[name])
    for name, (a, b) in pairs.items():
        error = float(np.abs(a - b).max(initial=0.0))
        allowed = limit * max(1.0, float(np.abs(b).max(initial=0.0)))
        if not error <= allowed:
            raise CheckFailure(
                f"{what}: {name} differs by {error:.3g}, expected at most {allowed:.1g}. Likely "
                f"cause: {cause}"
            )
