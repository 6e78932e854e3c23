"""From a batch of programs to points: options, views, sessions, statuses.

Everything a solver adapter need not know: which view and matrix type it gets, one program at a
time, and what becomes of an exception, a wrong length or a NaN.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._exceptions import OptionError, SolveError, UnsupportedProblemError
from ._interfaces import Session, Solver
from ._program import ProgramBatch, Structure
from ._registry import registry
from ._solution import Points, Solution, Status

__all__ = ["COMMON_OPTIONS", "SolveJob", "find_solver", "raise_failures", "translate_options"]

Floats = NDArray[np.float64]

COMMON_OPTIONS = ("max_iterations", "time_limit", "tolerance", "verbose")
"""Options that mean the same for every solver."""

DENSE_LIMIT = 200_000_000
"""Entries above which a sparse program is not made dense for a dense-only solver."""


class SolveJob:
    """The solves of one layer with one solver; an instance serves any number of threads.

    Sessions live per thread and structure, so that nothing is shared between concurrent calls.
    """

    def __init__(
        self, solver: Solver, name: str, options: Mapping[str, Any], warm_start: bool = False
    ) -> None:
        self.solver, self.name, self.options, self.warm_start = solver, name, options, warm_start
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    @property
    def parallel(self) -> bool:
        return self.solver.releases_gil

    def solve(self, batch: ProgramBatch) -> Points:
        """Solve all elements one after the other."""
        size, structure = batch.size, batch.structure
        x = np.full((size, structure.n), np.nan)
        s, z = np.full((2, size, structure.m), np.nan)
        points = Points(x, s, z, [Status.ERROR] * size, [{}] * size)
        given = self._given(batch)
        session = self._session(given.structure)
        form = self.solver.form
        own_slack = np.zeros(size, dtype=bool)
        for i in range(size):
            solution = self._one(given, i, form, session)
            points.status[i], points.info[i] = solution.status, solution.info
            if not solution.status.solved:
                continue
            try:
                x[i] = solution.x
                z[i] = given.dual(form, solution.dual)
                if solution.slack is not None:
                    s[i] = solution.slack
                    own_slack[i] = True
            except (TypeError, ValueError) as error:
                points.status[i] = Status.ERROR
                points.info[i] = {"message": f"it returned arrays of the wrong shape: {error}"}
                continue
            if not (np.isfinite(x[i]).all() and np.isfinite(z[i]).all()):
                points.status[i] = Status.ERROR
                points.info[i] = {"message": "it returned a point that is not finite"}
        if not own_slack.all():
            computed = batch.b - batch.multiply("A", x)
            s[:] = np.where(own_slack[:, None], s, computed)
        else:
            s[:] = np.where(np.isposinf(batch.b), np.inf, s)
        for i, status in enumerate(points.status):
            if not status.solved:
                x[i] = s[i] = z[i] = np.nan
        return points

    def _one(self, batch: ProgramBatch, i: int, form: str, session: Session) -> Solution:
        impossible = _contradiction(batch, i)
        if impossible:
            return Solution(status=Status.PRIMAL_INFEASIBLE, info={"message": impossible})
        try:
            solution = self.solver.solve(batch.view(form, i), self.options, session)
            if not isinstance(solution, Solution):
                raise TypeError(f"solve returned {type(solution).__name__}, expected Solution")
        except Exception as error:
            session.clear()
            message = f"{type(error).__name__}: {error}"
            return Solution(status=Status.ERROR, info={"message": message, "exception": error})
        if self.warm_start:
            session.warm_start = solution if solution.status.solved else None
        return solution

    def _given(self, batch: ProgramBatch) -> ProgramBatch:
        """The batch with matrices of a type that the solver takes."""
        takes = self.solver.matrices
        if batch.structure.dense:
            return batch if "dense" in takes else batch.as_sparse()
        if "sparse" in takes:
            return batch
        n, m = batch.structure.n, batch.structure.m
        if batch.A.shape[0] * n * (n + m) > DENSE_LIMIT:
            raise UnsupportedProblemError(
                f"the solver {self.name!r} takes dense matrices only, and this sparse program of "
                f"{n} variables and {m} rows is too large to be made dense; use a solver that "
                f"takes sparse ones: {_names(structure=batch.structure)}"
            )
        return batch.as_dense()

    def _session(self, structure: Structure) -> Session:
        """The session of this thread for a structure; the few latest structures are kept."""
        sessions: dict[Any, Session] | None = getattr(self._local, "sessions", None)
        if sessions is None:
            sessions = self._local.sessions = {}
        key = structure.key
        session = sessions.pop(key, None)
        if session is None:
            session = Session()
            while len(sessions) >= 8:
                sessions.pop(next(iter(sessions)))
        sessions[key] = session
        return session


def _contradiction(batch: ProgramBatch, i: int) -> str:
    """Why element ``i`` has no solution whatever the solver says, or an empty string."""
    if batch.box is not None:
        lower, upper = (v[min(i, v.shape[0] - 1)] for v in (batch.box.lower, batch.box.upper))
        bad = np.flatnonzero((lower > upper) | np.isposinf(lower) | np.isneginf(upper))
        if bad.size:
            k = int(bad[0])
            return f"row {k} has lower bound {lower[k]:g} and upper bound {upper[k]:g}"
    elif batch.structure.m:
        b = batch.b[i if batch.b.shape[0] > 1 else 0]
        if np.isneginf(b).any():
            return f"row {int(np.flatnonzero(np.isneginf(b))[0])} asks for a slack of -inf"
    return ""


def find_solver(solver: str | Solver | type[Solver], structure: Structure) -> tuple[Solver, str]:
    """The solver object and its name; checks that it has the cones of the program."""
    if isinstance(solver, str):
        spec = registry.specs("solver").get(solver)
        if spec is not None and not structure.kinds <= spec.cones:
            raise UnsupportedProblemError(_lacks(solver, spec.cones, structure))
        found, name = registry.get("solver", solver), solver
    else:
        found = solver() if isinstance(solver, type) else solver
        name = getattr(found, "name", type(found).__name__)
        if not isinstance(found, Solver):
            raise OptionError(
                f"solver={solver!r} is a {type(found).__name__}; expected a name, an "
                "ffoadapt.Solver, or a function decorated with ffoadapt.box_solver, split_solver "
                "or conic_solver"
            )
    if not structure.kinds <= frozenset(found.cones):
        raise UnsupportedProblemError(_lacks(name, found.cones, structure))
    return found, name


def _lacks(name: str, cones: Any, structure: Structure) -> str:
    lacking = sorted(structure.kinds - frozenset(cones))
    return (
        f"the solver {name!r} does not support the cones {lacking} of this program; it has "
        f"{sorted(cones)}. Installed solvers that would do: {_names(structure)}"
    )


def _names(structure: Structure) -> str:
    able = [n for n, s in registry.ready("solver").items() if structure.kinds <= s.cones]
    return ", ".join(sorted(able)) or "none (try pip install ffoadapt-clarabel)"


def translate_options(solver: Solver, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The solver's own options: its defaults, then the user's, common names translated."""
    result = dict(solver.defaults)
    known = solver.known_options()
    for key, value in options.items():
        if key in COMMON_OPTIONS:
            own = solver.common_options.get(key)
            if own is None:
                raise OptionError(
                    f"the solver {name!r} has no {key!r}; it takes "
                    f"{sorted(solver.common_options)} of the common options"
                )
            for target in (own,) if isinstance(own, str) else own:
                result[target] = value
        elif known is not None and key not in known:
            everything = sorted({*known, *solver.common_options})
            close = difflib.get_close_matches(key, everything, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(
                f"the solver {name!r} has no option {key!r}.{hint} It has: {', '.join(everything)}"
            )
        else:
            result[key] = value
    return result


_ADVICE = {
    Status.PRIMAL_INFEASIBLE: "no point satisfies the constraints",
    Status.DUAL_INFEASIBLE: "the objective is unbounded below",
    Status.ITERATION_LIMIT: "raise solver_options={'max_iterations': ...} or loosen 'tolerance'",
    Status.TIME_LIMIT: "raise solver_options={'time_limit': ...}",
    Status.ERROR: "the solver failed",
}


def raise_failures(points: Points, name: str, single: bool) -> None:
    """Raise a `SolveError` that names every failed element and its status; else return."""
    failed = {i: status for i, status in enumerate(points.status) if not status.solved}
    if not failed:
        return
    lines = []
    for i, status in list(failed.items())[:10]:
        message = points.info[i].get("message")
        detail = f"{status.value} ({message or _ADVICE[status]})"
        lines.append(detail if single else f"batch element {i}: {detail}")
    if len(failed) > 10:
        lines.append(f"and {len(failed) - 10} more")
    size = len(points.status)
    text = "; ".join(lines)
    what = "the program" if single else f"{len(failed)} of {size} programs"
    error = SolveError(
        f"the solver {name!r} did not solve {what}: {text}. To go on with NaN for what failed, "
        "use on_failure='nan'",
        failed,
    )
    causes = (points.info[i].get("exception") for i in failed)
    raise error from next((cause for cause in causes if cause is not None), None)
