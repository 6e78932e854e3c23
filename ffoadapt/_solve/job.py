"""From a batch of programs to points: options, views, sessions, statuses.

Everything a solver adapter need not know: which view and matrix type it gets, one program at a
time, and what becomes of an exception, a wrong length or a NaN.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._exceptions import OptionError, SolveError, UnsupportedProblemError
from .._plugins.registry import registry
from .._plugins.solver import Session, Solver
from .._program.batch import ProgramBatch, allowance
from .._program.points import Points, Solution, Status
from .._program.structure import Structure
from .._runtime import blas, interrupts, threads
from .._runtime.text import told
from .._types import Floats
from . import watchdog
from .options import COMMON_OPTIONS, common_names, translate_options

__all__ = [
    "COMMON_OPTIONS",
    "SolveJob",
    "common_names",
    "contradictions",
    "find_solver",
    "instance",
    "raise_failures",
    "translate_options",
]


_Found: TypeAlias = "tuple[Floats, Floats, Floats | None, list[Status], list[Mapping[str, Any]]]"
"""x, dual, slack where the solver has its own, statuses and infos of all elements."""

TOGETHER = 1.5e6
"""n^2 (n + m), of all elements together, above which threads pay for solvers that take a batch at
once, by measurement: each solves its part without the GIL."""

LARGE = 2000
"""Variables and rows above which the main thread has a program solved in another one, so that it
notices Ctrl-C: that takes 0.1 ms, and such a solve many."""

LONG = 0.1
"""Seconds of a solve after which the next one is such a program too."""

_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends more than a solve; any other exception is a solver's own."""

DENSE_LIMIT = 200_000_000
"""Entries above which a sparse program is not made dense for a dense-only solver."""


class SolveJob:
    """The solves of one layer with one solver; an instance serves any number of threads.

    Sessions live per thread and structure, so that nothing is shared between concurrent calls.
    """

    def __init__(
        self,
        solver: Solver,
        name: str,
        options: Mapping[str, Any],
        warm_start: bool = False,
        time_limit: Any = None,
        lasting: bool = True,
    ) -> None:
        """``lasting`` says that a solve takes longer than two threads lose by taking turns."""
        self.solver, self.name, self.options, self.warm_start = solver, name, options, warm_start
        self.lasting = lasting
        own = time_limit is None or "time_limit" in common_names(solver)
        self._patience = watchdog.patience(time_limit, own)
        self._long = False  # whether the last solve was
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    @property
    def parallel(self) -> bool:
        return self.solver.releases_gil and self.lasting

    def gains(self, batch: ProgramBatch) -> bool:
        """Whether threads take less time for these programs."""
        if self.parallel or not self.solver.releases_gil:
            return self.parallel
        n, m = batch.structure.n, batch.structure.m
        return self._at_once(batch.structure) and batch.size * n * n * (n + m) > TOGETHER

    def solve(self, batch: ProgramBatch) -> Points:
        """Solve all elements, one after the other unless the solver takes them at once."""
        interrupts.watch()
        given = self._given(batch)
        session = self._session(given.structure)
        impossible = contradictions(batch)
        found = None
        if batch.size > 1 and not impossible and self._at_once(batch.structure):
            found = self._together(given, session)
        if found is None:
            found = self._each(given, session, impossible)
        x, dual, slack, status, info = found
        structure, form = batch.structure, self.solver.form
        z = given.canonical_dual(form, dual)
        if structure.box is not None and form != "box":
            # Where l = u in this element alone, z of its two rows may have any common part.
            z = structure.box.dual(structure.box.fold(z))
        infinite = batch.unbounding
        if infinite is not None:  # a row that constrains nothing has no multiplier
            z = np.where(infinite, 0.0, z)
        s = batch.b - batch.multiply("A", x)
        if slack is not None:
            ours = np.isnan(slack) if infinite is None else np.isnan(slack) | infinite
            s = np.where(ours, s, slack)
        points = Points(x, s, z, status, info, exact=slack is None)
        _void_failures(points)
        return points

    def _at_once(self, structure: Structure) -> bool:
        """Whether the solver may be asked for a whole batch."""
        overridden = type(self.solver).solve_batch is not Solver.solve_batch
        asked = overridden and not self.warm_start and self._patience is None
        return asked and self._takes_dense(structure)

    def _together(self, given: ProgramBatch, session: Session) -> _Found | None:
        """The answers of a solver that takes the whole batch; None if it does not take this one."""
        form, start = self.solver.form, time.perf_counter()
        x, dual = np.empty((given.size, given.structure.n)), given.empty_dual(form)
        try:
            found = self.solver.solve_batch(given.stacked(form), self.options, session)
            if interrupts.swallowed(start):
                raise KeyboardInterrupt
            if found is None:
                return None
            eq, ineq = given.structure.split
            x[:] = _real(found.x, x.shape)
            if form == "split":
                z_ineq, y_eq = found.dual
                dual[:, ineq] = _real(z_ineq, dual[:, ineq].shape)
                dual[:, eq] = _real(y_eq, dual[:, eq].shape)
            else:
                dual[:] = _real(found.dual, dual.shape)
            status, info = list(found.status), list(found.info)
            if any(map(_interrupted, status, info)):
                interrupts.tell_python()
                session.clear()
                return None  # nobody wanted to stop
            if not len(status) == len(info) == given.size:
                raise ValueError(f"not {given.size} statuses and infos")
            lost = [] if status.count(Status.OPTIMAL) == given.size else _unsolved(status)
        except _ENDS:
            session.clear()
            raise
        except BaseException as error:
            session.clear()
            if interrupts.swallowed(start):
                raise KeyboardInterrupt from error
            failed = _failure(f"solve_batch: {told(error)}", exception=error)
            status, info = [failed.status] * given.size, [failed.info] * given.size
            lost = _unsolved(status)
        if lost:
            x[lost] = dual[lost] = np.nan
        return x, dual, None, status, info

    def _each(
        self, given: ProgramBatch, session: Session, impossible: Mapping[int, Solution]
    ) -> _Found:
        """The answers one by one; those of the ``impossible`` are known."""
        size, structure, form = given.size, given.structure, self.solver.form
        x, dual = np.empty((size, structure.n)), given.empty_dual(form)
        eq, ineq = structure.split
        whole, z_shape, y_shape = dual.shape[1:], (structure.m,), (structure.m,)
        if form == "split":
            rows = np.arange(structure.m)
            z_shape, y_shape = rows[ineq].shape, rows[eq].shape
        slack: Floats | None = None
        status: list[Status] = []
        info: list[Mapping[str, Any]] = []
        large = structure.n + structure.m > LARGE
        for i, program in enumerate(given.views(form)):
            threads.check()
            solution = impossible[i] if i in impossible else self._one(program, session, large)
            solved = solution.status.solved
            if solved:
                try:
                    x[i] = _real(solution.x, x.shape[1:])
                    if form == "split":
                        z_ineq, y_eq = solution.dual
                        dual[i, ineq], dual[i, eq] = _real(z_ineq, z_shape), _real(y_eq, y_shape)
                    else:
                        dual[i] = _real(solution.dual, whole)
                    if solution.slack is not None:
                        if slack is None:
                            slack = np.full((size, structure.m), np.nan)
                        slack[i] = _real(solution.slack, (structure.m,))
                except Exception as error:
                    said = told(error)
                    solution = _failure(f"it returned arrays of the wrong shape or type: {said}")
                    solved = False
            if not solved:
                x[i] = dual[i] = np.nan
            if self.warm_start:
                self._remember(session, solution if np.isfinite(x[i]).all() else None)
            status.append(solution.status)
            info.append(solution.info)
        return x, dual, slack, status, info

    def _one(self, program: Any, session: Session, large: bool) -> Solution:
        """The answer for one program, in a thread of its own where that is ``large``, or the last
        one took long."""
        start = time.perf_counter()
        apart = (large or self._long) and interrupts.in_main_thread()
        try:
            for wait in (*interrupts.WAITS, None):
                if self._patience is None and not apart:
                    solution = self.solver.solve(program, self.options, session)
                else:
                    solution = watchdog.solve(
                        self.solver, program, self.options, session, self._patience
                    )
                _check_kind(solution)
                if interrupts.swallowed(start):
                    raise KeyboardInterrupt
                if not _interrupted(solution.status, solution.info):
                    self._long = time.perf_counter() - start > LONG
                    return solution
                self._remember(session, None)
                interrupts.tell_python()
                if wait is None:
                    break
                time.sleep(wait)
                threads.check()
            raise KeyboardInterrupt
        except _ENDS:
            self._remember(session, None)  # what it holds may be half done
            raise
        except BaseException as error:  # a panic of a solver in Rust is no Exception
            self._remember(session, None)
            if interrupts.swallowed(start):
                raise KeyboardInterrupt from error
            return _failure(told(error), exception=error)

    @staticmethod
    def _remember(session: Session, solution: Solution | None) -> None:
        """Where the next solve starts; nothing of a solve that failed is left to it."""
        session.warm_start = solution
        if solution is None:
            session.clear()

    def _takes_dense(self, structure: Structure) -> bool:
        """Whether the solver gets such programs with dense matrices."""
        takes = self.solver.matrices
        return "dense" in takes if structure.dense else "sparse" not in takes

    def _given(self, batch: ProgramBatch) -> ProgramBatch:
        """The batch with matrices of a type that the solver takes."""
        if not self._takes_dense(batch.structure):
            return batch.as_sparse()
        if batch.structure.dense:
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
        local = self._local.__dict__
        if local.get("latest") is structure:
            return local["session"]
        sessions: dict[Any, Session] = local.setdefault("sessions", {})
        key = structure.key
        local["latest"] = None  # the user may interrupt between two of these lines
        session = sessions.pop(key, None)
        if session is None:
            session = Session()
            while len(sessions) >= 8:
                sessions.pop(next(iter(sessions)))
        sessions[key] = local["session"] = session
        local["latest"] = structure
        return session


def _check_kind(solution: Any) -> None:
    """Raise unless a solver has returned what it should."""
    if not isinstance(solution, Solution):
        raise TypeError(f"solve returned {type(solution).__name__}, expected Solution")
    info = solution.info
    plain = type(info) is dict  # to ask whether it is a Mapping takes ten times as long
    if not (isinstance(solution.status, Status) and (plain or isinstance(info, Mapping))):
        raise TypeError(
            f"solve returned a Solution with the status {solution.status!r} and the info "
            f"{solution.info!r}; expected an ffoadapt.Status and a dict"
        )


def _failure(message: str, **more: Any) -> Solution:
    return Solution(status=Status.ERROR, info={"message": message, **more})


_FLOAT64 = np.dtype(np.float64)


def _interrupted(status: Status, info: Mapping[str, Any]) -> bool:
    """Whether a solver says that it was interrupted."""
    return status is Status.ERROR and interrupts.said(info.get("status"))


def _real(values: Any, shape: tuple[int, ...]) -> Any:
    """The values, if they are real numbers in this shape: nothing is broadcast, nor cut."""
    if type(values) is not np.ndarray or values.dtype is not _FLOAT64:
        if values is None:
            raise TypeError(f"None came in the place of an array of shape {shape}")
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"an array is of dtype {values.dtype}, expected float64")
    if values.shape != shape:
        raise ValueError(f"an array has shape {values.shape}, not {shape}")
    return values


def _unsolved(status: Sequence[Status]) -> list[int]:
    return [i for i, one in enumerate(status) if not one.solved]


def _void_failures(points: Points) -> None:
    """NaN for what was not solved, and an error for what is not finite although it says solved."""
    if blas.finite(points.x, points.z):
        return  # what was not solved is NaN already
    finite = np.isfinite(points.x).all(axis=-1) & np.isfinite(points.z).all(axis=-1)
    for i in np.flatnonzero(~finite).tolist():
        if points.status[i].solved:
            points.status[i] = Status.ERROR
            points.info[i] = {"message": "it returned a point that is not finite"}
    failed = [i for i, status in enumerate(points.status) if not status.solved]
    if failed:
        points.x[failed] = points.s[failed] = points.z[failed] = np.nan


def contradictions(batch: ProgramBatch) -> dict[int, Solution]:
    """The elements that have no solution whatever a solver says: bounds that cross or shut out."""
    box = batch.box
    if box is not None:
        lower, upper = box.lower, box.upper
        bad = (lower > upper) | np.isposinf(lower) | np.isneginf(upper)
        if box.crossed is not None:
            bad = bad | (box.crossed > allowance(batch.precision))
        words = "row {k} has lower bound {lower:g} and upper bound {upper:g}"
    elif batch.unbounding is None:
        return {}
    else:
        lower = upper = batch.b
        bad = np.isneginf(batch.b)
        words = "row {k} asks for a slack of -inf"
    if not bad.any():
        return {}
    found = {}
    bad, lower, upper = np.broadcast_arrays(bad, lower, upper)
    for i in range(batch.size):
        row = min(i, bad.shape[0] - 1)
        if bad[row].any():
            k = int(np.flatnonzero(bad[row])[0])
            low, high = lower[row, k], upper[row, k]
            if box is not None and box.crossed is not None:
                gap = box.crossed[min(i, len(box.crossed) - 1), k]
                low, high = low + 0.5 * gap * abs(low), high - 0.5 * gap * abs(high)
            info = {"message": words.format(k=k, lower=low, upper=high), "proof": "the data"}
            found[i] = Solution(status=Status.PRIMAL_INFEASIBLE, info=info)
    return found


def find_solver(solver: str | Solver | type[Solver], structure: Structure) -> tuple[Solver, str]:
    """The solver object and its name; checks that it has the cones of the program."""
    if isinstance(solver, str):
        solver = registry.spelled("solver", solver)
        spec = registry.specs("solver").get(solver)
        if spec is not None and spec.form == "smooth":
            raise UnsupportedProblemError(_of_functions(solver, structure))
        if spec is not None and spec.cones is not None and not structure.kinds <= spec.cones:
            raise UnsupportedProblemError(_lacks(solver, spec.cones, structure))
        found, name = registry.get("solver", solver), solver
    else:
        found = instance(solver) if isinstance(solver, type) else solver
        name = getattr(found, "name", type(found).__name__)
        if not isinstance(found, Solver):
            raise OptionError(
                f"solver={solver!r} is a {type(found).__name__}; expected a name, an "
                "ffoadapt.Solver, or a function decorated with ffoadapt.box_solver, split_solver "
                "or conic_solver"
            )
    if found.form == "smooth":
        raise UnsupportedProblemError(_of_functions(name, structure))
    if not structure.kinds <= frozenset(found.cones):
        raise UnsupportedProblemError(_lacks(name, found.cones, structure))
    return found, name


def instance(solver: type[Any]) -> Any:
    """An object of a solver's class."""
    try:
        return solver()
    except Exception as error:
        raise OptionError(
            f"solver={solver.__qualname__} could not be made without arguments: "
            f"{type(error).__name__}: {error}. Give an instance of it"
        ) from error


def _of_functions(name: str, structure: Structure) -> str:
    return (
        f"the solver {name!r} takes functions, not matrices: it serves ffoadapt.smooth. Installed "
        f"solvers that would do: {_names(structure)}"
    )


def _lacks(name: str, cones: Any, structure: Structure) -> str:
    lacking = sorted(structure.kinds - frozenset(cones))
    return (
        f"the solver {name!r} does not support the cones {lacking} of this program; it has "
        f"{sorted(cones)}. Installed solvers that would do: {_names(structure)}"
    )


def _names(structure: Structure) -> str:
    able = registry.having(structure.kinds)
    return ", ".join(sorted(able)) or "none (try pip install ffoadapt-clarabel)"


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
