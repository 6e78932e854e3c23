"""The table of checks: which there are, and on which problems each is run.

`SolverSuite` (pytest) and `check_solver` (no pytest) both run `cases`. What a solver does not
declare is skipped by the check itself, with the reason; nothing here goes by a solver's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from . import _crash_checks as crash
from . import _declaration_checks as declaration
from . import _gradient_checks as gradient
from . import _point_checks as point
from . import _smooth_declaration_checks as smooth_declaration
from . import _smooth_gradient_checks as smooth_gradient
from . import _smooth_point_checks as smooth_point
from . import _smooth_session_checks as smooth_session
from . import _smooth_status_checks as smooth_status
from . import _solve_checks as solving
from . import _status_checks as status
from ._problem import Problem
from ._problems import problems
from ._smooth_problem import SmoothProblem
from ._smooth_problems import smooth_problems
from ._subject import DEFAULT, AnySolver, CheckSettings, CheckSkipped

__all__ = ["CHECKS", "SMOOTH_CHECKS", "Case", "Check", "cases", "known_waivers"]

Wanted = Callable[[Any], bool]


@dataclass(frozen=True)
class Check:
    """A named check: ``function(solver, problem, settings)``, or without a problem."""

    name: str
    function: Callable[..., None]
    problems: Wanted | None = None

    @property
    def about(self) -> str:
        """What it asks for, in a line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class Case:
    """A check on a problem."""

    check: Check
    problem: Problem | SmoothProblem | None

    @property
    def id(self) -> str:
        """As pytest shows it: check, or check-problem."""
        return self.check.name + (f"-{self.problem.name}" if self.problem else "")

    @property
    def names(self) -> tuple[str, ...]:
        """By which it can be waived."""
        return (self.check.name, self.id, *([self.problem.name] if self.problem else []))

    def run(
        self,
        solver: AnySolver,
        settings: CheckSettings = DEFAULT,
        waive: Mapping[str, str] | None = None,
    ) -> None:
        """Raise `CheckFailure`, or `CheckSkipped` where it does not apply or is waived."""
        for pattern, reason in (waive or {}).items():
            if any(fnmatchcase(name, pattern) for name in self.names):
                raise CheckSkipped(f"waived: {reason}")
        arguments = () if self.problem is None else (self.problem,)
        self.check.function(solver, *arguments, settings)


def _solvable(problem: Problem) -> bool:
    return problem.solvable


def _with_dual(problem: Problem) -> bool:
    return any(part.size for part in problem.dual.values())


def _named(*names: str) -> Wanted:
    return lambda problem: problem.name in names


def _gradient_of(datum: str) -> Check:
    def function(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
        gradient.check_gradient(solver, problem, datum, settings)

    function.__doc__ = gradient.check_gradient.__doc__

    def has(problem: Problem) -> bool:
        value: Any = problem.data.get(datum)
        return problem.solvable and value is not None and min(value.shape) > 0

    return Check(f"gradient_{datum}", function, has)


_SMALL = ("qp", "box", "scrambled", "scrambled_soc", "psd_projection", "entropy", "power")

CHECKS: tuple[Check, ...] = (
    Check("discovery", declaration.check_discovery),
    Check("lazy_import", declaration.check_lazy_import),
    Check("declarations", declaration.check_declarations),
    Check("declared_cones", declaration.check_declared_cones),
    Check("unknown_option", declaration.check_unknown_option),
    Check("common_options", declaration.check_common_options, _named("qp", "soc_projection")),
    Check("quiet", declaration.check_quiet, _named("qp", "unconstrained", "soc_projection")),
    Check("solved", point.check_solved, _solvable),
    Check("primal_feasibility", point.check_primal_feasibility, _solvable),
    Check("dual_sign", point.check_dual_sign, _with_dual),
    Check("box_dual_sign", point.check_box_dual_sign, _named("box")),
    Check("dual_feasibility", point.check_dual_feasibility, _solvable),
    Check("complementarity", point.check_complementarity, _solvable),
    Check("stationarity", point.check_stationarity, _solvable),
    Check("psd_order", point.check_psd_order, _named("psd_projection")),
    Check("objective", point.check_objective, _solvable),
    Check("solution", point.check_solution, _solvable),
    Check("tolerance", declaration.check_tolerance, _named("qp", "box", "simplex")),
    Check("inputs_unmodified", solving.check_inputs_unmodified, _solvable),
    Check("determinism", solving.check_determinism, _solvable),
    Check("session", solving.check_session, _solvable),
    Check("warm_start", solving.check_warm_start, _named(*_SMALL, "infinite_rows")),
    Check("threads", solving.check_threads, _named(*_SMALL)),
    Check("batch", solving.check_batch, _named(*_SMALL, "qp_sparse")),
    Check("solve_batch", solving.check_solve_batch, _solvable),
    Check("survives", crash.check_survives),
    Check("status", status.check_status, lambda problem: not problem.solvable),
    Check("recovery", status.check_recovery, lambda problem: not problem.solvable),
    Check("iteration_limit", status.check_iteration_limit, _named("qp", "box", "scrambled_soc")),
    Check(
        "gradient_closed_form",
        gradient.check_gradient_closed_form,
        lambda problem: bool(problem.jacobian),
    ),
    *(_gradient_of(datum) for datum in ("P", "q", "A", "b", "G", "h", "l", "u")),
)
"""All checks, the telling ones first: a wrong sign makes many of the later ones fail."""


def _regular(problem: SmoothProblem) -> bool:
    return problem.solvable and problem.regular


def _exact(problem: SmoothProblem) -> bool:
    return problem.y is not None


_EACH = ("logistic", "ellipsoid", "inequalities", "hs071", "box")

SMOOTH_CHECKS: tuple[Check, ...] = (
    Check("discovery", declaration.check_discovery),
    Check("lazy_import", declaration.check_lazy_import),
    Check("declarations", smooth_declaration.check_declarations),
    Check("declared_kinds", smooth_declaration.check_declared_kinds),
    Check("unknown_option", declaration.check_unknown_option),
    Check("common_options", smooth_declaration.check_common_options, _named("logistic", "hs071")),
    Check("quiet", smooth_declaration.check_quiet, _named("logistic", "vertex", "hs071", "box")),
    Check("tolerance", smooth_declaration.check_tolerance, _named("logistic", "ball", "hs071")),
    Check("solved", smooth_point.check_solved, _regular),
    Check("feasibility", smooth_point.check_feasibility, _regular),
    Check("dual_sign", smooth_point.check_dual_sign, _regular),
    Check("dual_feasibility", smooth_point.check_dual_feasibility, _regular),
    Check("complementarity", smooth_point.check_complementarity, _regular),
    Check("stationarity", smooth_point.check_stationarity, _regular),
    Check("solution", smooth_point.check_solution, _exact),
    Check("inputs_unmodified", smooth_session.check_inputs_unmodified, _solvable),
    Check("determinism", smooth_session.check_determinism, _regular),
    Check("session", smooth_session.check_session, _named(*_EACH)),
    Check("threads", smooth_session.check_threads, _named("logistic", "inequalities", "box")),
    Check("survives", crash.check_survives),
    Check("status", smooth_status.check_status, lambda problem: not problem.solvable),
    Check("iteration_limit", smooth_status.check_iteration_limit, _named(*_EACH)),
    Check("time_limit", smooth_status.check_time_limit, _named("logistic", "rosenbrock", "hs071")),
    Check("errors", smooth_status.check_errors, _named("logistic", "rosenbrock", "hs071")),
    Check("batch", smooth_gradient.check_batch, _named(*_EACH)),
    Check("gradient", smooth_gradient.check_gradient, lambda p: _regular(p) and p.name != "scaled"),
    Check("verdict", smooth_gradient.check_verdict, _named("dependent")),
)
"""All checks of solvers of functions."""


def cases(seed: int = 0, form: Literal["cone", "smooth"] = "cone") -> list[Case]:
    """Every check on every problem that it is meant for, for solvers of matrices or functions."""
    every: list[Any] = [*(smooth_problems(seed) if form == "smooth" else problems(seed))]
    return [
        Case(check, problem)
        for check in (SMOOTH_CHECKS if form == "smooth" else CHECKS)
        for problem in ([None] if check.problems is None else filter(check.problems, every))
    ]


def known_waivers() -> frozenset[str]:
    """The names that patterns of ``waive`` are for: of checks, of problems, and check-problem."""
    every = [*cases(), *cases(form="smooth")]
    return frozenset(name for case in every for name in case.names)
