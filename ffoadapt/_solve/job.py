"""From a batch of programs to points with one solver: views, matrix types, sessions, statuses.

Everything a solver adapter need not know: which view and matrix type it gets, one program at a
time, and what becomes of an exception, a wrong length or a NaN.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._exceptions import UnsupportedProblemError
from .._plugins.solver import Session, Solver
from .._program import views
from .._program.batch import ProgramBatch
from .._program.points import Points, Solution, Status
from .._program.structure import Structure
from .._runtime import interrupts, threads
from .._runtime.costs import LARGE_PROGRAM, LONG_SOLVE
from .._runtime.text import told
from .._types import Floats
from . import watchdog
from .at_once import Solved, solve_at_once, takes_at_once
from .failures import contradictions
from .lookup import able_solvers
from .options import common_names
from .returned import (
    ENDS,
    as_returned,
    check_kind,
    failure,
    put_dual,
    void_failures,
)

__all__ = ["SolveJob"]

TOGETHER = 1.5e6
"""n^2 (n + m), of all elements together, above which threads pay for solvers that take a batch at
once, by measurement: each solves its part without the GIL."""

DENSE_LIMIT = 200_000_000
"""Entries above which a sparse program is not made dense for a dense-only solver."""

SESSIONS = 8
"""Of so many structures a thread keeps the session."""


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
        slow: bool = True,
    ) -> None:
        """``slow`` says that a solve takes longer than two threads lose by taking turns."""
        self.solver, self.name, self.options, self.warm_start = solver, name, options, warm_start
        self.parallel = solver.releases_gil and slow
        own = time_limit is None or "time_limit" in common_names(solver)
        self._patience = watchdog.patience(time_limit, own)
        self._at_once = takes_at_once(solver) and not warm_start and self._patience is None
        self._long = False  # whether the last solve was
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def worth_threads(self, batch: ProgramBatch) -> bool:
        """Whether threads take less time for these programs."""
        if self.parallel or not (self._at_once and self.solver.releases_gil):
            return self.parallel
        n, m = batch.structure.n, batch.structure.m
        return self._takes_dense(batch.structure) and batch.size * n * n * (n + m) > TOGETHER

    def solve(self, batch: ProgramBatch) -> Points:
        """Solve all elements, one after the other unless the solver takes them at once."""
        interrupts.watch()
        given, structure, form = self._given(batch), batch.structure, self.solver.form
        session, impossible = self._session(given.structure), dict[int, Solution]()
        if batch.box is not None or batch.unbounding is not None:
            impossible = contradictions(batch)
        solved: Solved | None = None
        if batch.size > 1 and self._at_once and not impossible and self._takes_dense(structure):
            solved = solve_at_once(self.solver, given, self.options, session)
        x, dual, slack, status, info = solved or self.solve_one_by_one(given, session, impossible)
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
        void_failures(points)
        return points

    def solve_one_by_one(
        self, given: ProgramBatch, session: Session, impossible: Mapping[int, Solution]
    ) -> Solved:
        """The solutions of all elements in turn; those of the ``impossible`` are known."""
        size, structure, form = given.size, given.structure, self.solver.form
        x, dual = np.empty((size, structure.n)), given.empty_dual(form)
        slack: Floats | None = None
        large = structure.n + structure.m > LARGE_PROGRAM
        status: list[Status] = []
        info: list[Mapping[str, Any]] = []
        for i, program in enumerate(views.each(given, form)):
            if i:
                threads.check()
            solution = impossible[i] if i in impossible else self._solve(program, session, large)
            if solution.status.solved:
                try:
                    x[i] = as_returned(solution.x, x.shape[1:])
                    put_dual(dual[i], solution.dual, form, structure)
                    if solution.slack is not None:
                        if slack is None:
                            slack = np.full((size, structure.m), np.nan)
                        slack[i] = as_returned(solution.slack, (structure.m,))
                except Exception as error:
                    said = f"it returned arrays of the wrong shape or type: {told(error)}"
                    solution = failure(said, exception=error)
            if not solution.status.solved:
                x[i] = dual[i] = np.nan
            if self.warm_start:
                self._remember(session, solution if np.isfinite(x[i]).all() else None)
            status.append(solution.status)
            info.append(solution.info)
        return x, dual, slack, status, info

    def _solve(self, program: Any, session: Session, large: bool) -> Solution:
        """The solution of a program, in a thread of its own where that is ``large``, or the last
        solve took long."""
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
                check_kind(solution)
                if interrupts.swallowed(start):
                    raise KeyboardInterrupt
                if not interrupts.said(solution.status, solution.info):
                    self._long = time.perf_counter() - start > LONG_SOLVE
                    return solution
                self._remember(session, None)
                interrupts.tell_python()
                if wait is not None:
                    time.sleep(wait)
                    threads.check()
            raise KeyboardInterrupt
        except ENDS:
            self._remember(session, None)  # what it holds may be half done
            raise
        except BaseException as error:  # a panic of a solver in Rust is no Exception
            self._remember(session, None)
            if interrupts.swallowed(start):
                raise KeyboardInterrupt from error
            return failure(told(error), exception=error)

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
                f"takes sparse ones: {able_solvers(batch.structure)}"
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
            while len(sessions) >= SESSIONS:
                sessions.pop(next(iter(sessions)))
        sessions[key] = local["session"] = session
        local["latest"] = structure
        return session
