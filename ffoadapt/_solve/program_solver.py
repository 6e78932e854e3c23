"""The solves of a layer: from batches of programs to accepted points, with the solvers allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError
from .._models.checks import Refused, check_sizes
from .._oracle.gradient import Oracle
from .._plugins.executor import Executor
from .._plugins.registry import registry
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._program.structure import Structure
from . import closest
from .acceptance import Run, accept, refuse_beyond, refuse_inaccurate
from .choice import choose, is_slow, ranking
from .conditioning import conditioned
from .failures import contradictions
from .job import SolveJob
from .lookup import find_solver
from .options import translate_options
from .parts import Parts
from .rescue import Solvers, rescue
from .settings import Settings

__all__ = ["ProgramSolver"]

FALLBACKS = 3
"""How many further solvers ``solver="auto"`` tries on what the first could not solve."""

PROVING = 1.0, 1e-3
"""Seconds that a solver may take to look for a certificate, and more for each variable and row."""


class ProgramSolver:
    """Solves programs as the settings say; one `SolveJob` for each solver and kind of structure."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._jobs: dict[Any, SolveJob] = {}
        self._latest: tuple[Structure, SolveJob] | None = None
        self._provers: dict[tuple[str, float], SolveJob] = {}

    def solve(
        self, batch: ProgramBatch, refused: Refused
    ) -> tuple[ProgramBatch, Points, Oracle, str, closest.Closest | None]:
        """The programs, their points, an oracle there, the solver's name, and what was solved in
        the place of infeasible programs; ``refused`` elements are not solved."""
        settings, latest, known = self.settings, self._latest, None
        if latest is None or latest[0] is not batch.structure:
            latest = self._latest = batch.structure, self.job(batch.structure)
        job = latest[1]
        if not refused.errors:
            known = points, oracle = accept(batch, self._run(job, batch), settings)
        optimal = known is not None and points.optimal
        if not optimal or batch.faint or not oracle.all_near_one:
            batch, points, oracle = self._solve_parts(batch, job, refused, known)
            optimal = points.optimal
        nearest = None
        if not optimal and settings.infeasible == "closest":
            feasible = closest.closest(self.solutions, batch, points)
            if feasible is not None:
                batch, points, oracle, nearest = feasible
        if not (optimal or settings.accept_inaccurate):
            points, changed = refuse_inaccurate(points)
            oracle = Oracle(batch, points) if changed else oracle
        return batch, points, oracle, job.name, nearest

    def solutions(self, batch: ProgramBatch) -> Points:
        """Of programs of a structure that was solved, with other numbers; NaN where there is
        none."""
        job = self.job(batch.structure)
        points, oracle = accept(batch, self._run(job, batch), self.settings)
        if not points.optimal:
            none = Refused(contain=True)
            points = self._solve_parts(batch, job, none, (points, oracle))[1]
        return points

    def job(self, structure: Structure, name: str | None = None) -> SolveJob:
        """The solves for programs of a structure, by the named solver or the chosen one.

        Made once for each kind of structure.
        """
        key = (name, structure.kinds, structure.dense, structure.n, structure.m)
        job = self._jobs.get(key)
        if job is None:
            settings = self.settings
            wanted = settings.solver if name is None else name
            given = settings.solver_options or {}
            if wanted == "auto":
                wanted = self._fastest(structure, given)
            solver, named = find_solver(wanted, structure)
            options = translate_options(solver, named, given)
            limit, slow = given.get("time_limit"), is_slow(named, structure)
            job = SolveJob(solver, named, options, settings.warm_start, limit, slow)
            self._jobs[key] = job
        return job

    def others(self, structure: Structure, first: str) -> Iterator[tuple[str, Run]]:
        """With ``"auto"``, the next fastest solvers that take the options given."""
        if self.settings.solver != "auto":
            return
        names = [choice.name for choice in ranking(structure) if choice.name != first]
        for name in names[:FALLBACKS]:
            try:
                job = self.job(structure, name)
            except FFOAdaptError:  # it cannot be loaded, or an option is not one of its own
                continue
            yield name, partial(self._run, job)

    # -- pieces

    def _fastest(self, structure: Structure, options: Mapping[str, Any]) -> str:
        """The fastest solver that has the options given."""
        first = choose(structure).name
        for choice in ranking(structure) if options else []:
            try:
                translate_options(find_solver(choice.name, structure)[0], choice.name, options)
            except FFOAdaptError:  # it cannot be loaded, or lacks one of them
                continue
            return choice.name
        return first

    def _able(self, first: SolveJob, structure: Structure) -> Iterator[tuple[str, Run]]:
        """Whoever can solve programs of this structure, the fastest first, with its own options but
        for the time limit."""
        names = [choice.name for choice in ranking(structure)]
        if first.name not in names and structure.kinds <= frozenset(first.solver.cones):
            yield first.name, partial(self._run, first)
        given = (self.settings.solver_options or {}).get("time_limit", np.inf)
        limit = min(given, PROVING[0] + PROVING[1] * (structure.n + structure.m))
        for name in names:
            try:
                solver, named = find_solver(name, structure)
            except FFOAdaptError:  # it cannot be loaded
                continue
            job = self._provers.get((name, limit))
            if job is None:
                options = translate_options(solver, named, {"time_limit": limit})
                job = SolveJob(solver, named, options, False, limit, is_slow(named, structure))
                self._provers[name, limit] = job
            yield name, partial(self._run, job)

    def _run(self, job: SolveJob, batch: ProgramBatch) -> Points:
        wanted = self.settings.executor
        if wanted == "auto" or not batch.size:
            if batch.size < 2 or not job.worth_threads(batch):
                return job.solve(batch)
            wanted = "threads"
        executor: Executor = (
            wanted if isinstance(wanted, Executor) else registry.get("executor", wanted)
        )
        return executor.run(job, batch)

    def _solve_parts(
        self,
        batch: ProgramBatch,
        job: SolveJob,
        refused: Refused,
        known: tuple[Points, Oracle] | None,
    ) -> tuple[ProgramBatch, Points, Oracle]:
        """The solutions where not all elements are solved at once, or some are in odd units or no
        programs; ``known`` are those of all in their own units."""
        check_sizes(batch, refused)
        parts = Parts(batch)
        for i, error in refused.errors.items():
            parts.fail(i, Status.ERROR, {"message": str(error), "exception": error})
        for i, solution in contradictions(batch).items():
            if i not in refused.errors:
                parts.fail(i, solution.status, solution.info)
        left = parts.left()
        if known is not None:
            parts.put(np.arange(batch.size), *known)
        elif left.size:
            some = parts.take(left)
            parts.put(left, *accept(some, self._run(job, some), self.settings))
        near = batch.near_one
        left = parts.left(also=~near)
        if left.size:
            some = parts.take(left)
            units = conditioned(some)
            solvers = Solvers(
                (job.name, partial(self._run, job)),
                partial(self.others, some.structure, job.name),
                partial(self._able, job),
            )
            given = units.given(parts.points(left))
            other, points, unmet = rescue(units.batch, given, solvers, self.settings, ~near[left])
            points = units.restored(points, some)
            refuse_beyond(points)
            parts.put(left, points, None)
            if unmet is not None:
                parts.change(left, units, other, unmet)
        return parts.joined()
