"""The solver under test, called directly: nothing of the core corrects what it returns."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .._exceptions import FFOAdaptError
from .._layers.cone_program import ConeProgram, solve
from .._plugins.registry import registry
from .._plugins.solver import Session, Solver
from .._program.points import Solution, Status
from .._program.structure import Structure
from .._runtime.text import told
from .._solve.lookup import find_solver, instance
from .._solve.options import common_names, translate_options
from ._problem import Problem

__all__ = [
    "DEFAULT",
    "CheckFailure",
    "CheckSettings",
    "CheckSkipped",
    "call",
    "form_of",
    "load",
    "require",
    "view_of",
]

AnySolver = str | Solver | type[Solver]


class CheckFailure(AssertionError):  # noqa: N818  (a failed check is no error of this library)
    """A check did not pass; the message says what was seen, what was expected, and why perhaps."""


class CheckSkipped(unittest.SkipTest):
    """A check does not apply. pytest and unittest both show it as skipped, with the reason."""


@dataclass(frozen=True)
class CheckSettings:
    """How to call the solver and how exact to be.

    Attributes
    ----------
    solver_options
        Options for every solve.
    tolerance
        Points may violate the optimality conditions by this, relative to their size. A solver that
        has the common option ``tolerance`` is asked for a hundredth of it.
    seed
        Draws the numbers of the problems and of the directions of derivatives.
    """

    solver_options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6
    seed: int = 0

    def options(self, solver: Solver, **more: Any) -> dict[str, Any]:
        """The options for a solve, not yet translated; ``more`` wins."""
        options = {**self.solver_options, **more}
        own = common_names(solver).get("tolerance")
        if own and not any(name in options for name in ("tolerance", *own)):
            options = {"tolerance": 1e-2 * self.tolerance, **options}
        return options

    def rng(self, *salt: int) -> np.random.Generator:
        """A generator that depends on the seed and on nothing else that ran."""
        return np.random.default_rng([self.seed, 7, *salt])


DEFAULT = CheckSettings()


def form_of(solver: AnySolver) -> Literal["cone", "smooth"]:
    """``"smooth"`` for a solver of functions, ``"cone"`` for one of matrices; of a named one by its
    record, or by its class where that is silent."""
    if isinstance(solver, str):
        spec = registry.specs("solver").get(solver)
        return "cone" if spec is None else registry.form_of(spec)
    return "smooth" if getattr(solver, "form", None) == "smooth" else "cone"


def load(solver: AnySolver) -> tuple[Solver, str]:
    """The solver object and its name."""
    if form_of(solver) == "cone":
        return find_solver(solver, Structure(0, 0, ()))
    if isinstance(solver, str):
        return registry.get("solver", solver), solver
    loaded = instance(solver) if isinstance(solver, type) else solver
    return loaded, getattr(loaded, "name", "") or type(loaded).__name__


def require(solver: AnySolver, problem: Problem) -> tuple[Solver, str]:
    """The solver object and its name; skips what it does not declare: cones, kind of objective."""
    loaded, name = load(solver)
    lacking = sorted(problem.kinds - frozenset(loaded.cones))
    if lacking:
        raise CheckSkipped(f"it does not declare the cones {', '.join(lacking)}")
    if problem.objective_kind not in loaded.objectives:
        kind = problem.objective_kind.replace("_", " ")
        raise CheckSkipped(f"it does not declare to take {kind} objectives")
    return loaded, name


class _Recorder(Solver):
    """Keeps the view that a solver with the declarations of another one is given."""

    def __init__(self, like: Solver) -> None:
        self.form = like.form  # type: ignore[misc]
        self.cones = like.cones  # type: ignore[misc]
        self.matrices = like.matrices  # type: ignore[misc]
        self.view: Any = None

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        if self.view is None:  # a solver that fails is asked again in other units
            self.view = program
        return Solution(status=Status.ERROR)


def view_of(solver: Solver, program: ConeProgram) -> Any:
    """The program as the core would hand it to this solver."""
    recorder = _Recorder(solver)
    solve(program, recorder, on_failure="nan", executor="serial")
    return recorder.view


def call(
    solver: Solver,
    name: str,
    view: Any,
    settings: CheckSettings = DEFAULT,
    session: Session | None = None,
    **options: Any,
) -> Solution:
    """What the solver returns for a view; raising is a failure."""
    translated = translate_options(solver, name, settings.options(solver, **options))
    try:
        solution = solver.solve(view, translated, Session() if session is None else session)
    except FFOAdaptError:
        raise
    except Exception as error:
        raise CheckFailure(
            f"solve raised {told(error)}. A solver returns a Solution whatever "
            "happens to it; an infeasible or unsolved program has a status of its own"
        ) from error
    if not isinstance(solution, Solution):
        raise CheckFailure(
            f"solve returned a {type(solution).__name__}; expected ffoadapt.Solution(x, dual)"
        )
    return solution
