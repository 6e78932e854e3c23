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

from . import _blas
from ._checks import check_finite, checked_program, split_batch
from ._choose import choose, lasting, ranking
from ._exceptions import FFOAdaptError, ShapeError
from ._interfaces import Executor, ParametricProgram
from ._oracle.gradient import Adjoint, Oracle
from ._oracle.report import GradientReport
from ._program import ProgramBatch, Structure
from ._registry import registry
from ._settings import Settings
from ._settle import Run, fall_back, refuse_inaccurate, settle
from ._solution import Points, Status
from ._solving import (
    SolveJob,
    find_solver,
    raise_failures,
    translate_options,
)
from ._traced import Traced

__all__ = ["SolveFunction", "State"]

FALLBACKS = 3
"""How many further solvers ``solver="auto"`` tries on what the first could not solve."""

UNSEEN = 1e-9
"""A change below this share of what a random vector of its size makes is none."""

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(eq=False)
class State:
    """What one forward call keeps for its derivatives."""

    batch_shape: Shape
    leads: list[Shape]
    batch: ProgramBatch
    points: Points
    oracle: Oracle
    name: str

    @property
    def single(self) -> bool:
        """Whether no argument had a batch axis."""
        return self.batch_shape == ()


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
        self._orders = [(orders or {}).get(name) for name in self.names]
        self.shapes = [shape for _, shape in model.parameters]
        self.ndims = [len(shape) for shape in self.shapes]
        # None for a box program, whose structure is found anew at every call.
        self._structure: Structure | None = getattr(model, "structure", None)
        if self._structure is not None:
            self._order = max(self._structure.n, self._structure.m)
        else:
            self._order = max((max(shape, default=0) for shape in self.shapes), default=0)
        self.on_report: Callable[[list[GradientReport]], None] | None = None
        self._jobs: dict[Any, SolveJob] = {}

    def with_settings(self, settings: Settings) -> SolveFunction:
        """The same program solved otherwise."""
        other = SolveFunction(self.model, settings)
        other._orders = self._orders
        other.on_report = self.on_report
        return other

    # -- the differentiable function

    def forward(self, values: Sequence[Floats]) -> tuple[list[Floats], State]:
        leads = split_batch(self.names, self.shapes, values)
        for name, core, value in zip(self.names, self.ndims, values, strict=True):
            check_finite(name, value, core, name in self.model.unbounded)
        batch_shape, flat = self._flatten(values, leads)
        # The check factorizes P: also there, BLAS threads would only be in the way.
        with _blas.one_thread(self._order):
            batch = checked_program(self.model, flat, math.prod(batch_shape))
            del flat  # copies, where the model wants another order
            job = self._job(batch.structure)
            points, oracle = settle(batch, self._run(job, batch), self.settings)
            if self.settings.solver == "auto":
                others = self._others(batch.structure, job.name)
                points, better = fall_back(batch, points, others, self.settings)
                oracle = better or oracle
        if not self.settings.accept_inaccurate and Status.OPTIMAL_INACCURATE in points.status:
            points = refuse_inaccurate(points)
            oracle = Oracle(batch, points)
        oracle = self._choosing(oracle)
        state = State(batch_shape, leads, batch, points, oracle, job.name)
        if self.settings.on_failure == "raise":
            raise_failures(points, job.name, single=state.single)
        return self._outputs(state), state

    def vjp(
        self, state: State, cotangents: Sequence[Floats | None], needed: Sequence[bool]
    ) -> list[Floats | None]:
        ndim, size = len(state.batch_shape), state.batch.size
        lead: Shape = ()
        flat: list[Floats | None] = []
        for cotangent, (_, shape) in zip(cotangents, self.model.outputs, strict=True):
            if cotangent is not None:
                lead = cotangent.shape[: cotangent.ndim - ndim - len(shape)]
                cotangent = cotangent.reshape(*lead, size, *shape)
            flat.append(cotangent)
        with _blas.one_thread(self._order):
            adjoint = state.oracle.vjp(*self.model.retrieve_vjp(flat, state.batch))
            gradients = self.model.program_vjp(adjoint, needed)
            if self.on_report is not None:
                self.on_report(self.reports(state))
        return [
            None if g is None else _unbroadcast(_restored(g, order), state, own, shape, len(lead))
            for g, order, own, shape in zip(
                gradients, self._orders, state.leads, self.shapes, strict=True
            )
        ]

    def jvp(self, state: State, tangents: Sequence[Floats | None]) -> list[Floats]:
        size = state.batch.size
        flat: list[Floats | None] = []
        shapes = state.batch_shape, size
        for tangent, order, lead, core in zip(
            tangents, self._orders, state.leads, self.shapes, strict=True
        ):
            if tangent is not None:
                tangent = _arranged(_flat(tangent, lead, core, *shapes), order)
            flat.append(tangent)
        with _blas.one_thread(self._order):
            moved = self.model.program_jvp(flat, state.batch, state.points.z)
            outputs = self.model.retrieve_jvp(*state.oracle.jvp(moved), state.batch)
        return self._reshape(outputs, state.batch_shape)

    # -- how far to trust it

    def reports(self, state: State) -> list[GradientReport]:
        """One report a batch element, of what the outputs and the parameters see of the program."""
        oracle, batch = state.oracle, state.batch
        if not oracle.asked:
            ones = [np.ones((batch.size, *shape)) for _, shape in self.model.outputs]
            oracle.vjp(self.model.retrieve_vjp(ones, batch)[0], None, None)
        seen = partial(self._sees, state)
        return [oracle.report(i, seen) for i in range(batch.size)]

    def _sees(self, state: State, w: Floats, zeta: Floats) -> bool:
        """Whether an output or the gradient of a parameter changes with a ghost solution (w, zeta).

        Canonical programs have variables of their own, such as the bounds of norms, which need not
        be determined where their constraints do not hold: a user sees nothing of that.
        """
        batch, points = state.batch, state.points
        needed = [True] * len(self.names)

        def change(w: Floats, zeta: Floats) -> list[Floats | None]:
            moved = (w, -batch.multiply("A", w), zeta)
            gradient = self.model.program_vjp(Adjoint(batch, points, w, zeta), needed)
            return [*self.model.retrieve_jvp(*moved, batch), *gradient]

        rng = np.random.default_rng(0)
        sizes = (np.abs(v).max(initial=0.0) * rng.choice([-1.0, 1.0], v.shape) for v in (w, zeta))
        for found, most in zip(change(w, zeta), change(*sizes), strict=True):
            assert found is not None and most is not None
            if np.abs(found).max(initial=0.0) > UNSEEN * np.abs(most).max(initial=0.0):
                return True
        return False

    # -- for frameworks that trace

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        split_batch(self.names, self.shapes, [np.broadcast_to(0.0, s) for s in shapes])
        batch = self._batch_shape(shapes)
        return [(*batch, *shape) for _, shape in self.model.outputs]

    def state_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch = self._batch_shape(shapes)
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
        return [v.reshape(*state.batch_shape, v.shape[-1]) for v in kept]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> State:
        leads = split_batch(self.names, self.shapes, values)
        batch_shape = self._batch_shape([v.shape for v in values])
        # The kept arrays have all batch axes; those of the values may be 1 or absent.
        batch_shape = np.broadcast_shapes(batch_shape, arrays[0].shape[:-1])
        size = math.prod(batch_shape)
        flat = self._stacked(values, leads, batch_shape)
        batch = self.model.program(flat, size)
        kept = [
            np.broadcast_to(a, (*batch_shape, a.shape[-1])).reshape(size, a.shape[-1])
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
        oracle = self._choosing(Oracle(batch, points))
        return State(batch_shape, leads, batch, points, oracle, "")

    def traced(self, framework: str, xp: Any) -> Traced | None:
        if self.on_report is not None:
            return None
        known = self.model, self._structure, self.settings
        return Traced.of(*known, framework, xp, self._orders)

    # -- pieces

    def _choosing(self, oracle: Oracle) -> Oracle:
        return oracle.choosing(self.settings.degenerate, self.settings.smoothing)

    def _batch_shape(self, shapes: Sequence[Shape]) -> Shape:
        leads = [s[: len(s) - ndim] for s, ndim in zip(shapes, self.ndims, strict=True)]
        if not any(leads):
            return ()
        try:
            return np.broadcast_shapes(*leads)
        except ValueError as error:
            pairs = [
                f"{n}: {lead}" for n, lead in zip(self.names, leads, strict=True) if lead != ()
            ]
            raise ShapeError(
                f"the batch axes of the parameters do not fit together: {', '.join(pairs)}; "
                "expected equal batch sizes, or 1, or none"
            ) from error

    def _flatten(
        self, values: Sequence[Floats], leads: Sequence[Shape]
    ) -> tuple[Shape, list[Floats]]:
        """The common batch shape, and the values as (B or 1, *core)."""
        batch_shape = self._batch_shape([v.shape for v in values])
        return batch_shape, self._stacked(values, leads, batch_shape)

    def _stacked(
        self, values: Sequence[Floats], leads: Sequence[Shape], batch_shape: Shape
    ) -> list[Floats]:
        """The values as (B or 1, *core), in the model's order."""
        size = math.prod(batch_shape)
        return [
            _arranged(_flat(value, lead, core, batch_shape, size), order)
            for value, order, lead, core in zip(
                values, self._orders, leads, self.shapes, strict=True
            )
        ]

    def _outputs(self, state: State) -> list[Floats]:
        points = state.points
        outputs = self.model.retrieve(points.x, points.s, points.z, state.batch)
        return self._reshape(outputs, state.batch_shape)

    def _reshape(self, outputs: Sequence[Floats], batch_shape: Shape) -> list[Floats]:
        return [
            out.reshape((*batch_shape, *shape))
            for out, (_, shape) in zip(outputs, self.model.outputs, strict=True)
        ]

    def _job(self, structure: Structure, name: str | None = None) -> SolveJob:
        """The solves for programs of a structure, by the named solver or the chosen one.

        Made once for each kind of structure.
        """
        key = (name, structure.kinds, structure.dense, structure.n, structure.m)
        job = self._jobs.get(key)
        if job is None:
            settings = self.settings
            wanted = settings.solver if name is None else name
            if wanted == "auto":
                wanted = choose(structure).name
            solver, found = find_solver(wanted, structure)
            given = settings.solver_options or {}
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

    def _others(self, structure: Structure, first: str) -> Iterator[tuple[str, Run]]:
        """The next fastest solvers that take the options given."""
        names = [choice.name for choice in ranking(structure) if choice.name != first]
        for name in names[:FALLBACKS]:
            try:
                job = self._job(structure, name)
            except FFOAdaptError:  # it cannot be loaded, or an option is not one of its own
                continue
            yield name, partial(self._run, job)

    def _run(self, job: SolveJob, batch: ProgramBatch) -> Points:
        return self._executor(job, batch).run(job, batch)

    def _executor(self, job: SolveJob, batch: ProgramBatch) -> Executor:
        wanted = self.settings.executor
        if isinstance(wanted, Executor):
            return wanted
        if wanted == "auto":
            wanted = "threads" if job.parallel and batch.size > 1 else "serial"
        executor: Executor = registry.get("executor", wanted)
        return executor


def _flat(value: Floats, lead: Shape, core: Shape, batch_shape: Shape, size: int) -> Floats:
    """(B, *core), or (1, *core) where the value does not vary over the batch."""
    if not lead:
        return value[None]
    if math.prod(lead) == 1:
        return value.reshape(1, *core)
    if lead != batch_shape:
        value = np.broadcast_to(value, (*batch_shape, *core))
    return value.reshape(size, *core)


def _arranged(value: Floats, order: NDArray[np.int32] | None) -> Floats:
    """The entries of the last axis in the model's order."""
    return value if order is None else value[..., order]


def _restored(grad: Floats, order: NDArray[np.int32] | None) -> Floats:
    """The entries of the last axis in the user's order."""
    if order is None:
        return grad
    found = np.empty_like(grad)
    found[..., order] = grad
    return found


def _unbroadcast(grad: Floats, state: State, own: Shape, core: Shape, extra: int) -> Floats:
    """A gradient (*lead, B or 1, *core) in the shape (*lead, *own, *core) of its argument."""
    if not (own or extra) and grad.shape[0] == 1:
        return grad[0]
    lead = grad.shape[:extra]
    if grad.shape[extra] != state.batch.size or math.prod(own) == 1:
        if grad.shape[extra] != 1:
            grad = grad.sum(axis=extra, keepdims=True)
        return grad.reshape((*lead, *own, *core))
    grad = grad.reshape((*lead, *state.batch_shape, *core))
    missing = len(state.batch_shape) - len(own)
    summed = [extra + k for k in range(missing)]
    summed += [
        extra + missing + k
        for k, (mine, full) in enumerate(zip(own, state.batch_shape[missing:], strict=True))
        if mine == 1 and full != 1
    ]
    if summed:
        grad = grad.sum(axis=tuple(summed))
    return grad.reshape((*lead, *own, *core))
