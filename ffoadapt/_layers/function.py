"""A parametric program and a solver, as one batched differentiable function in NumPy.

This is where model, solver and oracle meet; frameworks wrap it (`Differentiable`). An instance
keeps nothing of a call, so that threads, graphs kept alive and vmap do not meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._models.checks import (
    Refused,
    check_finite,
    check_sizes,
    checked_program,
    finite_values,
    too_large,
)
from .._models.patterns import arranged, restored
from .._oracle.gradient import Oracle
from .._oracle.report import Reports
from .._plugins.modeler import ParametricProgram
from .._program.batch import EPS, ProgramBatch
from .._program.points import Points, Status
from .._runtime import blas
from .._solve import closest
from .._solve.failures import raise_failures, to_raise
from .._solve.program_solver import ProgramSolver
from .._solve.settings import Settings
from .._solve.traced import Traced
from .._types import Floats, Shape
from ..experimental import Keyed
from . import derivatives, traced
from .axes import Axes
from .outcome import Latest, Outcome, warn_inaccurate
from .state import State
from .visibility import View

__all__ = ["SolveFunction"]

SHAPES = 64
"""Of so many sets of argument shapes a function remembers the batch axes."""

_FLOAT64 = np.dtype(np.float64)


class SolveFunction(Keyed):
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
        self.shapes = [shape for _, shape in model.parameters]
        self.ndims = [len(shape) for shape in self.shapes]
        self._ordered = orders or {}
        self.orders = [self._ordered.get(name) for name in self.names]
        n, m = model.structure.n, model.structure.m
        # Whether there may be variables or multipliers that nobody sees.
        outputs = sum(math.prod(shape) for _, shape in model.outputs)
        self._hidden = not model.box and outputs < n + m
        # A block in which BLAS has one thread, where programs are so large that it matters.
        self.one_thread = blas.one_thread(max(n, m))
        self.on_report: Callable[[Reports], None] | None = None
        self.warns_of_zero = settings.gradient is None and not settings.smoothing
        self.latest = Latest()
        self.solver = ProgramSolver(settings)
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
        settings, place, precisions = self.settings, self.latest.place, None
        if place:
            place.clear()
        for value in values:
            if value.dtype is not _FLOAT64:
                precisions = [*map(_precision, values)]
                values = [np.asarray(v, dtype=np.float64) for v in values]
                break
        axes = self.axes([v.shape for v in values])
        refused = Refused(settings.on_failure == "nan")
        finite = _kernel.kernel.all_finite(*values)
        plain = axes.single and not self._ordered
        flat = [v[None] for v in values] if plain else self.flatten(values, axes)
        # The check factorizes P: also there, BLAS threads would only be in the way.
        with self.one_thread:
            if not finite:
                flat = self._finite(values, flat, refused)
            attributes = settings.check_attributes
            batch = checked_program(self.model, flat, axes.size, precisions, refused, attributes)
            del flat  # copies, where the model wants another order
            if not finite and any(map(too_large, values)):
                check_sizes(batch, refused)
            batch, points, oracle, name, nearest = self.solver.solve(batch, refused)
            oracle = self._with_choices(oracle)
        state = State(axes, batch, points, oracle, name, nearest)
        if place is not None:
            place.append(Outcome(self, state))
        if not points.optimal:
            failed = to_raise(points, settings.on_failure, settings.infeasible)
            if failed is not None:
                raise_failures(failed, name, single=axes.single)
            if not quiet:
                warn_inaccurate(points.status, self.latest)
        return self.outputs(state), state

    def _finite(
        self, values: Sequence[Floats], flat: list[Floats], refused: Refused
    ) -> list[Floats]:
        """The values where some may not be finite: those of refused elements are others'."""
        if refused.contain:
            return finite_values(self.names, flat, self.model.unbounded, refused)
        for name, value, ndim in zip(self.names, values, self.ndims, strict=True):
            if not _kernel.kernel.all_finite(value):
                check_finite(name, value, ndim, name in self.model.unbounded)
        return flat

    def vjp(
        self,
        state: State,
        cotangents: Sequence[Floats | None],
        needed: Sequence[bool],
        quiet: bool = False,
    ) -> list[Floats | None]:
        """``quiet`` where who asks is given all gradients, asked for or not."""
        axes, lead = state.axes, ()
        flat: list[Floats | None] = []
        for cotangent, (_, shape) in zip(cotangents, self.model.outputs, strict=True):
            if cotangent is not None:
                lead = cotangent.shape[: cotangent.ndim - len(axes.batch) - len(shape)]
                cotangent = cotangent.reshape(*lead, axes.size, *shape)
            flat.append(cotangent)
        with self.one_thread:
            at = self.model.retrieve_vjp(flat, state.batch)
            adjoint = derivatives.vjp(self, state, at, self.settings.differentiation)
            gradients = derivatives.gradients(self, state, adjoint, needed)
            if self.warns_of_zero and not quiet:
                derivatives.warn_zero(self, adjoint, at[0], gradients)
            if self.on_report is not None:
                self.on_report(self.reports(state))
        return self.shaped(gradients, axes, len(lead))

    def jvp(self, state: State, tangents: Sequence[Floats | None]) -> list[Floats]:
        flat = self.flatten(tangents, state.axes)
        with self.one_thread:
            moved = self.model.program_jvp(flat, state.batch, state.points.z)
            dx, ds, dz, _ = derivatives.tangents(self, state, moved)
            outputs = self.model.retrieve_jvp(dx, ds, dz, state.batch)
        return [out.reshape(state.axes.batch + out.shape[1:]) for out in outputs]

    # -- how far to trust it

    def state(
        self, axes: Axes, batch: ProgramBatch, points: Points, unmet: Floats | None, name: str
    ) -> State:
        """The state of a call again, from what an `Outcome` knows of it."""
        oracle = Oracle(batch, points, unmet=unmet)
        return State(axes, batch, points, self._with_choices(oracle), name)

    def reports(self, state: State) -> Reports:
        """One report a batch element, of what the outputs and the parameters see of the program."""
        oracle, batch = state.oracle, state.batch
        with self.one_thread:
            if state.evidence is None:
                ones = [np.ones((batch.size, *shape)) for _, shape in self.model.outputs]
                v_x = self.model.retrieve_vjp(ones, batch)[0]
                state.evidence = oracle.vjp(v_x, None, None).evidence
            return oracle.reports(View(self.model), state.evidence)

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
        structure = self.model.structure
        return (structure.n, structure.m, structure.m)[: 2 if self.model.box else 3]

    def pack(self, state: State) -> list[Floats]:
        """x, s and z; of programs in box form x and y."""
        points = state.points
        kept = [points.x, points.s, points.z]
        if self.model.box:
            kept = self.model.retrieve(points.x, points.s, points.z, state.batch)
        return [v.reshape(*state.axes.batch, v.shape[-1]) for v in kept]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> State:
        # The kept arrays have all batch axes; those of the values may be 1 or absent.
        axes = self.axes([v.shape for v in values]).within(arrays[0].shape[:-1])
        size = axes.size
        flat = self.flatten(values, axes)
        if not _kernel.kernel.all_finite(*values):
            flat = finite_values(self.names, flat, self.model.unbounded, Refused(contain=True))
        batch = self.model.program(flat, size)
        full = [np.broadcast_to(a, (*axes.batch, a.shape[-1])) for a in arrays]
        kept = [a.reshape(size, a.shape[-1]) for a in full]
        if batch.structure.box is not None:
            x, z = kept[0], batch.structure.box.dual(kept[1])
            s = batch.b - batch.multiply("A", x)
        else:
            x, s, z = kept
        lost = ~(np.isfinite(x).all(axis=-1) & np.isfinite(z).all(axis=-1))
        status = [Status.ERROR if bad else Status.OPTIMAL for bad in np.asarray(lost).tolist()]
        points = Points(x, s, z, status, [{}] * size)
        nearest = None
        if self.settings.infeasible == "closest":
            batch, nearest = closest.recovered(batch, points) or (batch, None)
        oracle = self._with_choices(Oracle(batch, points))
        return State(axes, batch, points, oracle, "", nearest)

    def traced(self, framework: str, xp: Any, auto: bool = False) -> Traced | None:
        return None if self.on_report is not None else traced.route(self, framework, xp, auto)

    def maps(self, xp: Any) -> Traced | None:
        return traced.maps(self, xp)

    def observe(self, shapes: Sequence[Shape], fetch: Callable[[], Any]) -> None:
        if self.latest.place is not None:
            self.latest.place[:] = [traced.Elsewhere(self, self.axes(shapes), fetch)]

    # -- pieces

    def axes(self, shapes: Sequence[Shape]) -> Axes:
        """The batch axes of arguments of these shapes; remembered for the shapes in use."""
        key = tuple(shapes)
        axes = self._axes.get(key)
        if axes is None:
            if len(self._axes) >= SHAPES:
                self._axes.clear()
            alone = list(key) == self.shapes
            axes = Axes.none(key) if alone else Axes.of(self.names, self.shapes, key)
            self._axes[key] = axes
        return axes

    def flatten(self, values: Sequence[Any], axes: Axes) -> list[Any]:
        """The values as (B or 1, *core), in the model's order; None stays None."""
        flat = axes.flatten(values)
        return list(map(arranged, flat, self.orders)) if self._ordered else flat

    def shaped(self, gradients: list[Floats | None], axes: Axes, extra: int) -> list[Floats | None]:
        """The model's gradients in the shapes and orders of the arguments; see `Axes.unflatten`."""
        if self._ordered:
            gradients = list(map(restored, gradients, self.orders))
        if axes.single and not extra:
            return [None if g is None else g[0] for g in gradients]
        return axes.unflatten(gradients, extra)

    def outputs(self, state: State) -> list[Floats]:
        """The outputs (*batch, *shape): copies, for they may be written to, and the derivatives
        are those at the points."""
        points, lead = state.points, state.axes.batch
        outputs = self.model.retrieve(points.x, points.s, points.z, state.batch)
        return [out.copy().reshape(lead + out.shape[1:]) for out in outputs]

    def _with_choices(self, oracle: Oracle) -> Oracle:
        return oracle.choosing(self.settings.differentiation.choices(self._hidden))


def _precision(value: NDArray[Any]) -> float:
    """The distance from 1 to the next number of its type; integers are exact."""
    dtype = value.dtype
    if dtype.kind == "f":
        return max(EPS, float(np.finfo(dtype).eps))
    # Types that NumPy does not know are JAX's: bfloat16, and smaller ones.
    return EPS if dtype.kind in "biu" else 2.0**-7 if dtype.itemsize > 1 else 2.0**-2
