"""One smooth program solved: a solver chosen, its answer judged against the data, polished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError, OptionError, UnsupportedProblemError
from .._oracle.report import INACCURATE
from .._plugins.registry import registry
from .._plugins.solver import Session, Solver
from .._program.points import Solution, Status
from .._solve.choice import smooth_ranking
from .._solve.options import common_names, translate_options
from .._types import Floats
from .bounds import Bounds
from .duals import Duals, least_squares_duals
from .evaluation import Evaluation
from .form import SmoothForm, TimeLimitError
from .place import Place
from .polish import polished

__all__ = ["Answer", "Run", "solve", "solvers_for"]


OPTIMAL = 1e-6
"""A larger relative KKT residual, after polishing, is only `Status.OPTIMAL_INACCURATE`."""

FALLBACKS = 3
"""How many further solvers ``solver="auto"`` tries on what the first could not solve."""


@dataclass
class Answer:
    """How a program went: its place where it is solved."""

    status: Status
    info: dict[str, Any]
    place: Place | None = None


@dataclass
class Run:
    """A solver with its options."""

    solver: Solver
    name: str
    options: Mapping[str, Any]
    limit: float | None

    def __call__(self, form: SmoothForm) -> Solution:
        own = "time_limit" in common_names(self.solver)
        if self.limit is not None and not own:
            form.deadline = time.monotonic() + self.limit
        try:
            answer = self.solver.solve(form, self.options, Session())
        except TimeLimitError:
            return Solution(status=Status.TIME_LIMIT)
        except Exception as error:
            if form.error is not None and not isinstance(form.error, TimeLimitError):
                raise form.error from None
            said = {"message": f"{type(error).__name__}: {error}", "exception": error}
            return Solution(status=Status.ERROR, info=said)
        if isinstance(form.error, TimeLimitError):
            return Solution(status=Status.TIME_LIMIT)
        if form.error is not None:
            raise form.error
        return answer


def solvers_for(
    wanted: Any, kinds: frozenset[str], n: int, given: Mapping[str, Any]
) -> list[Callable[[], Run]]:
    """What to try, in order: the solver named, or with ``"auto"`` those that can, fastest first."""
    limit = given.get("time_limit")

    def made(solver: Any) -> Run:
        loaded, name = _find(solver, kinds)
        return Run(loaded, name, translate_options(loaded, name, given), limit)

    if wanted != "auto":
        return [lambda: made(wanted)]
    names = [choice.name for choice in smooth_ranking(kinds, n)]
    return [lambda name=name: made(name) for name in names[: 1 + FALLBACKS]]  # type: ignore[misc]


def _find(solver: Any, kinds: frozenset[str]) -> tuple[Solver, str]:
    if isinstance(solver, str):
        loaded, name = registry.get("solver", solver), solver
    else:
        loaded = solver() if isinstance(solver, type) else solver
        name = loaded.name or type(loaded).__name__
    if not isinstance(loaded, Solver):
        raise OptionError(
            f"solver={solver!r} is a {type(loaded).__name__}; expected a name, an ffoadapt.Solver "
            "of form 'smooth', or a function decorated with ffoadapt.smooth_solver"
        )
    if loaded.form != "smooth":
        raise UnsupportedProblemError(
            f"the solver {name!r} takes matrices, not functions; installed solvers that would do: "
            f"{_able(kinds)}. For matrices use ffoadapt.qp, box_qp or cone_program"
        )
    lacking = sorted(kinds - frozenset(loaded.cones))
    if lacking:
        raise UnsupportedProblemError(
            f"the solver {name!r} takes no {' and no '.join(lacking)}; it has "
            f"{sorted(loaded.cones) or 'no constraints'}. Installed solvers that would do: "
            f"{_able(kinds)}"
        )
    return loaded, name


def _able(kinds: frozenset[str]) -> str:
    return ", ".join(choice.name for choice in smooth_ranking(kinds, 1)) or "none"


def solve(
    first: Evaluation,
    bounds: Bounds,
    runs: list[Callable[[], Run]],
    how: str,
    polish: bool = True,
    typical: Floats | None = None,
) -> Answer:
    """The best answer of these solvers, the first that is optimal; ``first`` is at the start."""
    best: Answer | None = None
    for make in runs:
        try:
            run = make()
        except FFOAdaptError:
            if len(runs) == 1:
                raise
            continue  # it cannot be loaded, or lacks an option
        form = SmoothForm(first, bounds.lower, bounds.upper, typical)
        answer = _judged(form, bounds, run.name, run(form), how, polish, typical)
        if answer.status is Status.OPTIMAL:
            return answer
        if best is None or (answer.status.solved and not best.status.solved):
            best = answer
    if best is None:
        raise UnsupportedProblemError(
            "no installed solver of functions could be loaded with these options; scipy's SLSQP, "
            "trust-constr and L-BFGS-B come with ffoadapt, others with pip install ffoadapt-ipopt "
            "or ffoadapt-nlopt"
        )
    return best


def _judged(
    form: SmoothForm,
    bounds: Bounds,
    name: str,
    solution: Solution,
    how: str,
    polish: bool,
    typical: Floats | None,
) -> Answer:
    info = {"solver": name, **solution.info}
    model, n = form.model, form.n
    y, message = _point(solution, n)
    if y is None:
        failed = solution.status if not solution.status.solved else Status.ERROR
        return Answer(failed, {"message": message, **info} if message else info)
    y, given = form.restored(y, _duals(solution, form, name))
    y = np.clip(y, bounds.lower, bounds.upper)
    zero = Duals.none(n, form.m_ineq, form.m_eq)
    place = Place(model, bounds.lower, bounds.upper, y, zero, typical, form.at(y))
    duals = least_squares_duals(place) if given is None else Duals(*given)
    place = place.moved(y, duals)
    if polish:
        place = polished(place, how)
        if given is not None and place.residual > OPTIMAL:
            # What solvers call their multipliers may be of another program than this one.
            other = polished(place.moved(y, least_squares_duals(place.moved(y, zero))), how)
            place = min(place, other, key=lambda p: p.residual)
    info["kkt_residual"] = place.residual
    if place.residual <= OPTIMAL:
        return Answer(Status.OPTIMAL, info, place)
    if place.residual <= INACCURATE:
        return Answer(Status.OPTIMAL_INACCURATE, info, place)
    if not solution.status.solved:
        return Answer(solution.status, info)
    info["message"] = (
        f"it called a point solved that violates a constraint by {place.infeasibility:.1e} and "
        f"the optimality conditions by {place.residual:.1e} (relative); try another solver or "
        "start, or tighten solver_options={'tolerance': ...}"
    )
    return Answer(Status.ERROR, info)


def _point(solution: Solution, n: int) -> tuple[Floats | None, str]:
    if solution.x is None:
        return None, "" if not solution.status.solved else "it returned no point"
    try:
        if np.asarray(solution.x).dtype.kind == "c":
            return None, f"it returned complex numbers; expected {n} real ones"
        y = np.asarray(solution.x, dtype=np.float64)
    except (TypeError, ValueError):
        return None, f"it returned a {type(solution.x).__name__}; expected {n} numbers"
    if y.size != n:
        return None, f"it returned a point of shape {y.shape}; expected ({n},)"
    if not np.isfinite(y).all():
        return None, "it returned a point with entries that are not finite"
    return y.reshape(n), ""


def _duals(solution: Solution, form: SmoothForm, name: str) -> tuple[Floats, ...] | None:
    """What the solver gives, None where it gives none."""
    if solution.dual is None:
        return None
    shapes = [(form.m_ineq,), (form.m_eq,), (form.n,), (form.n,)]
    try:
        parts = [np.asarray(v, dtype=np.float64).reshape(-1) for v in solution.dual]
    except (TypeError, ValueError):
        parts = []
    if [v.shape for v in parts] != shapes:
        got = [v.shape for v in parts] or type(solution.dual).__name__
        raise UnsupportedProblemError(
            f"the solver {name!r} returned duals {got}; expected (z_ineq, z_eq, z_lower, z_upper) "
            f"of shapes {shapes}, or None"
        )
    if not all(np.isfinite(v).all() for v in parts):
        return None
    ineq, eq, lower, upper = parts
    return np.maximum(ineq, 0.0), eq, np.maximum(lower, 0.0), np.maximum(upper, 0.0)
