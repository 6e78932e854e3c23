"""A parametric program and a solver, as one batched differentiable function in NumPy.

This is where modeler, solver, executor and oracle meet; frameworks wrap it (`Differentiable`).
An instance keeps nothing of a call, so that threads, graphs kept alive and vmap do not meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import FFOAdaptError
from .._models.checks import (
    Refused,
    check_finite,
    check_sizes,
    checked_program,
    finite_values,
    too_large,
)
from .._oracle.gradient import Oracle
from .._oracle.report import Reports
from .._plugins.executor import Executor
from .._plugins.modeler import ParametricProgram
from .._plugins.registry import registry
from .._program.batch import EPS, ProgramBatch
from .._program.points import Points, Status
from .._program.structure import Structure
from .._runtime import blas
from .._solve import closest as _closest
from .._solve.choice import choose, lasting, ranking
from .._solve.conditioning import conditioned
from .._solve.job import SolveJob, contradictions, find_solver, raise_failures, translate_options
from .._solve.rescue import Parts, Solvers, rescue
from .._solve.settings import Settings
from .._solve.settle import Run, refuse_inaccurate, settle
from .._solve.traced import Traced
from .._types import Floats, Shape
from . import derivatives
from .axes import Axes
from .outcome import Latest, Outcome, warn_inaccurate
from .visibility import View

__all__ = ["SolveFunction", "State"]

FALLBACKS = 3
"""How many further solvers ``solver="auto"`` tries on what the first could not solve."""

PROVING = 1.0, 1e-3
"""Seconds that a solver may take to look for a certificate, and more for each variable and row."""

SHAPES = 64
"""Of so many sets of argument shapes a function remembers the batch axes."""

_FLOAT64 = np.dtype(np.float64)


@dataclass(eq=False)
class State:
    """What one forward call keeps for its derivatives."""

    axes: Axes
    batch: ProgramBatch
    points: Points
    oracle: Oracle
    name: str
    closest: _closest.Closest | None = None


class SolveFunction:
    """Parameters -> outputs of the solved program; see `ffoadapt.Differentiable` for the laws."""

    def __init__(
        self,
        model: ParametricProgram,
        settings: Settings,
        orders: Mapping[str, NDArray[np.int32]] | None = None,
    ) -> None:
        """``orders`` says by name in which order the model wants the entries of a parameter."""
        self.model, self.settings = model, settings
        self.names = [name for name, _ in model.parameters]
        self._ordered = orders or {}
        self._orders = [self._ordered.get(name) for name in self.names]
        self.shapes = [shape for _, shape in model.parameters]
        self.ndims = [len(shape) for shape in self.shapes]
        # None for a box program, whose structure is found anew at every call.
        self._structure: Structure | None = getattr(model, "structure", None)
        if self._structure is not None:
            order = max(self._structure.n, self._structure.m)
        else:
            order = max((max(shape, default=0) for shape in self.shapes), default=0)
        # Whether there may be variables or multipliers that nobody sees.
        self._hidden = self._structure is not None and (
            sum(math.prod(shape) for _, shape in model.outputs)
            < self._structure.n + self._structure.m
        )
        # A block in which BLAS has one thread, where programs are so large that it matters.
        self.one_thread = blas.one_thread(order)
        self.on_report: Callable[[Reports], None] | None = None
        self.warns_of_zero = settings.gradient is None and not settings.smoothing
        self.latest = Latest()
        self._jobs: dict[Any, SolveJob] = {}
        self._provers: dict[tuple[str, float], SolveJob] = {}
        self._axes: dict[Any, Axes] = {}

    def with_settings(self, settings: Settings) -> SolveFunction:
        """The same program solved otherwise."""
        other = SolveFunction(self.model, settings, self._ordered)
        other.on_report, other.latest = self.on_report, self.latest
        return other

    # -- the differentiable function

    def forward(
        self, values: Sequence[NDArray[Any]], quiet: bool = False
    ) -> tuple[list[Floats], State]:
        """``quiet`` where who asks gets the status with the numbers: nothing is to be warned of."""
        place, precisions = self.latest.place, None
        if place:
            place.clear()
        if [v for v in values if v.dtype is not _FLOAT64]:
            precisions = [*map(_precision, values)]
            values = [np.asarray(v, dtype=np.float64) for v in values]
        axes, settings = self.axes([v.shape for v in values]), self.settings
        refused = Refused(contain=settings.on_failure == "nan")
        finite = blas.finite(*values)
        if not finite and not refused.contain:
            for name, value, ndim in zip(self.names, values, self.ndims, strict=True):
                if not blas.finite(value):
                    check_finite(name, value, ndim, name in self.model.unbounded)
        flat = self.flatten(values, axes)
        # The check factorizes P: also there, BLAS threads would only be in the way.
        with self.one_thread:
            if not finite and refused.contain:
                flat = finite_values(self.names, flat, self.model.unbounded, refused)
            attributes = settings.check_attributes
            batch = checked_program(self.model, flat, axes.size, precisions, refused, attributes)
            del flat  # copies, where the model wants another order
            if not finite and any(map(too_large, values)):
                check_sizes(batch, refused)
            job = self._job(batch.structure)
            known = None
            if not refused.errors:
                known = points, oracle = settle(batch, self._run(job, batch), settings)
            optimal = known is not None and points.optimal
            if not optimal or batch.faint or not oracle.all_near_one:
                batch, points, oracle = self._solve_parts(batch, job, refused, known)
                optimal = points.optimal
            nearest = None
            if not optimal and settings.infeasible == "closest":
                found = _closest.closest(self.solutions, batch, points)
                if found is not None:
                    batch, points, oracle, nearest = found
                    optimal = points.optimal
        if not optimal and not settings.accept_inaccurate:
            points, changed = refuse_inaccurate(points)
            oracle = Oracle(batch, points) if changed else oracle
        state = State(axes, batch, points, self._choosing(oracle), job.name, nearest)
        if place is not None:
            place.append(Outcome(self, state))
        if not optimal:
            failed = _closest.refused(points, settings.on_failure, settings.infeasible)
            if failed is not None:
                raise_failures(failed, job.name, single=axes.single)
            if not quiet:
                warn_inaccurate(points.status, self.latest)
        return self._outputs(state), state

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
            parts.put(left, *settle(some, self._run(job, some), self.settings))
        near = batch.near_one
        left = parts.left(also=~near)
        if left.size:
            some = parts.take(left)
            units = conditioned(some)
            solvers = Solvers(
                (job.name, partial(self._run, job)),
                partial(self._others, some.structure, job.name),
                partial(self._able, job),
            )
            given = units.given(parts.points(left))
            moved, points, unmet = rescue(units.batch, given, solvers, self.settings, ~near[left])
            parts.put(left, units.restored(points, some), None)
            if unmet is not None:
                parts.move(left, units, moved, unmet)
        return parts.joined()

    def vjp(
        self,
        state: State,
        cotangents: Sequence[Floats | None],
        needed: Sequence[bool],
        quiet: bool = False,
    ) -> list[Floats | None]:
        """``quiet`` where who asks is given all gradients, asked for or not."""
        if self.settings.resolve is not None:
            several = derivatives.each(self, state, cotangents, needed)
            if several is not None:
                return several
        axes, lead = state.axes, ()
        flat: list[Floats | None] = []
        for cotangent, (_, shape) in zip(cotangents, self.model.outputs, strict=True):
            if cotangent is not None:
                lead = cotangent.shape[: cotangent.ndim - len(axes.batch) - len(shape)]
                cotangent = cotangent.reshape(*lead, axes.size, *shape)
            flat.append(cotangent)
        with self.one_thread:
            at = self.model.retrieve_vjp(flat, state.batch)
            adjoint = derivatives.adjoint(self, state, at, self.on_report is not None)
            gradients = derivatives.gradients(self, state, adjoint, needed)
            if self.warns_of_zero and not quiet:
                derivatives.warn_zero(self, adjoint, at[0], gradients)
            if self.on_report is not None:
                self.on_report(self.reports(state))
        if self._ordered:
            gradients = list(map(_restored, gradients, self._orders))
        return axes.unflatten(gradients, len(lead))

    def jvp(self, state: State, tangents: Sequence[Floats | None]) -> list[Floats]:
        flat = self.flatten(tangents, state.axes)
        with self.one_thread:
            moved = self.model.program_jvp(flat, state.batch, state.points.z)
            outputs = self.model.retrieve_jvp(
                *derivatives.tangents(self, state, moved), state.batch
            )
        return self._reshape(outputs, state.axes.batch)

    # -- how far to trust it

    def state(
        self, axes: Axes, batch: ProgramBatch, points: Points, unmet: Floats | None, name: str
    ) -> State:
        """The state of a call again, from what an `Outcome` knows of it."""
        oracle = Oracle(batch, points)
        oracle.unmet = unmet
        return State(axes, batch, points, self._choosing(oracle), name)

    def reports(self, state: State) -> Reports:
        """One report a batch element, of what the outputs and the parameters see of the program."""
        oracle, batch = state.oracle, state.batch
        with self.one_thread:
            if not oracle.asked:
                ones = [np.ones((batch.size, *shape)) for _, shape in self.model.outputs]
                oracle.vjp(self.model.retrieve_vjp(ones, batch)[0], None, None)
            return oracle.reports(View(self.model))

    # -- for frameworks that trace

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        # Not remembered: frameworks trace with sizes that are symbols.
        batch = Axes.of(self.names, self.shapes, shapes).batch
        return [(*batch, *shape) for _, shape in self.model.outputs]

    def state_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        leads = [s[: len(s) - ndim] for s, ndim in zip(shapes, self.ndims, strict=True)]
        batch = np.broadcast_shapes(*leads)
        return [(*batch, size) for size in self._state_sizes]

    @property
    def _state_sizes(self) -> tuple[int, ...]:
        structure = self._structure
        if structure is None:  # kept as x and y
            return tuple(shape[0] for _, shape in self.model.outputs)
        return structure.n, structure.m, structure.m

    def pack(self, state: State) -> list[Floats]:
        points = state.points
        kept = [points.x, points.s, points.z]
        if self._structure is None:
            kept = self.model.retrieve(points.x, points.s, points.z, state.batch)
        return [v.reshape(*state.axes.batch, v.shape[-1]) for v in kept]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> State:
        # The kept arrays have all batch axes; those of the values may be 1 or absent.
        axes = self.axes([v.shape for v in values]).within(arrays[0].shape[:-1])
        size = axes.size
        flat = self.flatten(values, axes)
        if not blas.finite(*values):
            flat = finite_values(self.names, flat, self.model.unbounded, Refused(contain=True))
        batch = self.model.program(flat, size)
        kept = [
            np.broadcast_to(a, (*axes.batch, a.shape[-1])).reshape(size, a.shape[-1])
            for a in arrays
        ]
        if batch.structure.box is not None:
            x, z = kept[0], batch.structure.box.dual(kept[1])
            s = batch.b - batch.multiply("A", x)
        else:
            x, s, z = kept
        status = [
            Status.OPTIMAL if np.isfinite(x[i]).all() and np.isfinite(z[i]).all() else Status.ERROR
            for i in range(size)
        ]
        points = Points(x, s, z, status, [{}] * size)
        nearest = None
        if self.settings.infeasible == "closest":
            found = _closest.recovered(batch, points)
            if found is not None:
                batch, nearest = found
        oracle = self._choosing(Oracle(batch, points))
        return State(axes, batch, points, oracle, "", nearest)

    def traced(self, framework: str, xp: Any) -> Traced | None:
        if self.on_report is not None:
            return None
        known = self.model, self._structure, self.settings
        return Traced.of(*known, framework, xp, self._orders)

    # -- pieces

    def axes(self, shapes: Sequence[Shape]) -> Axes:
        """The batch axes of arguments of these shapes; remembered for the shapes in use."""
        key = tuple(shapes)
        found = self._axes.get(key)
        if found is None:
            if len(self._axes) >= SHAPES:
                self._axes.clear()
            alone = list(key) == self.shapes
            found = Axes.none(key) if alone else Axes.of(self.names, self.shapes, key)
            self._axes[key] = found
        return found

    def flatten(self, values: Sequence[Any], axes: Axes) -> list[Any]:
        """The values as (B or 1, *core), in the model's order; None stays None."""
        flat = axes.flatten(values)
        return list(map(_arranged, flat, self._orders)) if self._ordered else flat

    def _choosing(self, oracle: Oracle) -> Oracle:
        settings = self.settings
        return oracle.choosing(settings.degenerate, settings.smoothing, self._hidden)

    def _outputs(self, state: State) -> list[Floats]:
        points = state.points
        outputs = self.model.retrieve(points.x, points.s, points.z, state.batch)
        # Copies: an output may be written to, and the derivatives are those at the points.
        if state.axes.single:
            return [out[0, ...].copy() for out in outputs]
        return [out.copy() for out in self._reshape(outputs, state.axes.batch)]

    def _reshape(self, outputs: Sequence[Floats], batch_shape: Shape) -> list[Floats]:
        return [out.reshape(batch_shape + out.shape[1:]) for out in outputs]

    def _job(self, structure: Structure, name: str | None = None) -> SolveJob:
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
            solver, found = find_solver(wanted, structure)
            options = translate_options(solver, found, given)
            job = self._jobs[key] = SolveJob(
                solver,
                found,
                options,
                settings.warm_start,
                given.get("time_limit"),
                lasting(found, structure),
            )
        return job

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

    def _others(self, structure: Structure, first: str) -> Iterator[tuple[str, Run]]:
        """With ``"auto"``, the next fastest solvers that take the options given."""
        if self.settings.solver != "auto":
            return
        names = [choice.name for choice in ranking(structure) if choice.name != first]
        for name in names[:FALLBACKS]:
            try:
                job = self._job(structure, name)
            except FFOAdaptError:  # it cannot be loaded, or an option is not one of its own
                continue
            yield name, partial(self._run, job)

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
                solver, found = find_solver(name, structure)
            except FFOAdaptError:  # it cannot be loaded
                continue
            job = self._provers.get((name, limit))
            if job is None:
                options = translate_options(solver, found, {"time_limit": limit})
                job = SolveJob(solver, found, options, False, limit, lasting(found, structure))
                self._provers[name, limit] = job
            yield name, partial(self._run, job)

    def solutions(self, batch: ProgramBatch) -> Points:
        """Of programs of this function's structure with other numbers; NaN where there is none."""
        job = self._job(batch.structure)
        found = settle(batch, self._run(job, batch), self.settings)
        if not found[0].optimal:
            found = self._solve_parts(batch, job, Refused(contain=True), found)[1:]
        return found[0]

    def _run(self, job: SolveJob, batch: ProgramBatch) -> Points:
        wanted = self.settings.executor
        if wanted == "auto" or not batch.size:
            if batch.size < 2 or not job.gains(batch):
                return job.solve(batch)
            wanted = "threads"
        executor: Executor = (
            wanted if isinstance(wanted, Executor) else registry.get("executor", wanted)
        )
        return executor.run(job, batch)


def _precision(value: NDArray[Any]) -> float:
    """The distance from 1 to the next number of its type; integers are exact."""
    dtype = value.dtype
    if dtype.kind == "f":
        return max(EPS, float(np.finfo(dtype).eps))
    # Types that NumPy does not know are JAX's: bfloat16, and smaller ones.
    return EPS if dtype.kind in "biu" else 2.0**-7 if dtype.itemsize > 1 else 2.0**-2


def _arranged(value: Floats | None, order: NDArray[np.int32] | None) -> Floats | None:
    """The entries of the last axis in the model's order."""
    return value if value is None or order is None else value[..., order]


def _restored(grad: Floats | None, order: NDArray[np.int32] | None) -> Floats | None:
    """The entries of the last axis in the user's order."""
    if grad is None or order is None:
        return grad
    found = np.empty_like(grad)
    found[..., order] = grad
    return found
