"""Checks of what a solver of functions declares: kinds of constraint, options, its record."""

from __future__ import annotations

from .._plugins.registry import registry
from .._solve.options import COMMON_OPTIONS, common_names
from ._declaration_checks import judge_options, judge_silence, subset
from ._smooth_point import (
    limit_of,
    smooth_call,
    smooth_require,
    solved_point,
)
from ._smooth_problem import SmoothProblem
from ._smooth_problems import smooth_problems
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped, load

__all__ = [
    "check_common_options",
    "check_declarations",
    "check_declared_kinds",
    "check_quiet",
    "check_tolerance",
]

KINDS = ("bounds", "inequalities", "equalities")
_SMALLEST = {"bounds": "box", "inequalities": "ball", "equalities": "plane"}


def check_declarations(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """form, cones (the kinds of constraints), options and the record hold what they may hold."""
    loaded, _ = load(solver)
    subset("form", [loaded.form], ("smooth",))
    subset("cones", loaded.cones, KINDS)
    subset("common_options", loaded.common_options, COMMON_OPTIONS)
    if loaded.matrices and any(loaded.matrices):
        raise CheckFailure(
            f"matrices is {sorted(loaded.matrices)}; expected (), for it is given functions"
        )
    known = loaded.known_options()
    if known is not None:
        own = [word for words in common_names(loaded).values() for word in words]
        subset("common_options (its values)", own, known)
        subset("defaults", loaded.defaults, known)
    spec = registry.specs("solver").get(solver) if isinstance(solver, str) else None
    if spec is not None:
        subset("speed", {column for column, _ in spec.speed}, ("smooth", "bounds"))


def check_declared_kinds(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """For each declared kind of constraint, the smallest problem that has it is solved."""
    loaded, _ = load(solver)
    by_name = {problem.name: problem for problem in smooth_problems(settings.seed)}
    for kind in KINDS:
        if kind in loaded.cones:
            problem = by_name[_SMALLEST[kind]]
            try:
                point = solved_point(solver, problem, settings)
                violation, what = point.feasibility()
            except CheckFailure as failure:
                raise CheckFailure(
                    f"it declares {kind!r} but fails on the smallest problem that has them "
                    f"({problem.name}): {failure}"
                ) from failure
            if not violation <= limit_of(settings):
                raise CheckFailure(
                    f"it declares {kind!r}, but on {problem.name} {what} is violated by "
                    f"{violation:.3g}. Declare what it supports"
                )


def check_common_options(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Each declared common option is accepted by the solver itself."""
    loaded, _ = smooth_require(solver, problem)
    judge_options(loaded, lambda **options: solved_point(solver, problem, settings, **options))


def check_quiet(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Nothing is printed unless the user asks for it (``verbose``)."""
    loaded, name = smooth_require(solver, problem)
    form = problem.form()
    judge_silence(lambda: smooth_call(loaded, name, form, settings))


def check_tolerance(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A tighter ``tolerance`` gives an answer that is no less accurate."""
    loaded, _ = smooth_require(solver, problem)
    if "tolerance" not in common_names(loaded):
        raise CheckSkipped("it does not declare the common option 'tolerance'")
    errors = {
        tolerance: solved_point(solver, problem, settings, tolerance=tolerance).stationarity()
        for tolerance in (1e-3, 1e-9)
    }
    limit = limit_of(settings)
    if not errors[1e-9] <= min(limit, max(1e-7, errors[1e-3])):
        seen = ", ".join(f"{e:.1e} at {t:g}" for t, e in errors.items())
        raise CheckFailure(
            f"the point violates stationarity by {seen}; expected less with the smaller tolerance, "
            f"and at most {limit:g}. Likely cause: the option is not passed on, or means something "
            "else to the vendor"
        )
