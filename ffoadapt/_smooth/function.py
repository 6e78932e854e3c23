"""A smooth program and a solver as one batched differentiable function in NumPy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import DifferentiationError, FFOAdaptError
from .._layers.axes import Axes
from .._layers.outcome import Latest, warn_inaccurate
from .._layers.traced import AtHost
from .._oracle.report import UNSOLVED, GradientReport
from .._plugins.framework import Framework
from .._program.points import Status
from .._solve.failures import raise_failures
from .._types import Floats, Shape
from .bounds import Bounds, bounds_of
from .duals import Duals
from .element import curvature_of, solve_element, starts, telling
from .functions import Functions
from .model import Model
from .oracle import SmoothOracle
from .place import Place
from .refinement import Cotangents
from .resolving import resolved
from .settings import SmoothSettings
from .solving import Answer
from .state import SmoothState

__all__ = ["OUTPUTS", "SmoothFunction"]


OUTPUTS = ("y", "z_ineq", "z_eq", "z_lower", "z_upper")


class SmoothFunction(AtHost):
    """Parameters -> y and multipliers of the solved program; see `ffoadapt.Differentiable`."""

    def __init__(
        self,
        framework: Framework,
        named: dict[str, Callable[..., Any] | None],
        bounds: Any,
        start: Floats,
        names: Sequence[str],
        shapes: Sequence[Shape],
        rebuild: Callable[[Sequence[Any]], Any],
        settings: SmoothSettings,
    ) -> None:
        self.framework, self.settings = framework, settings
        self.names, self.shapes = list(names), list(shapes)
        self.ndims = [len(shape) for shape in shapes]
        self._single = Axes.none(self.shapes)
        self.start = start
        self.functions = Functions(framework, named, rebuild, start.shape)
        self.bounds = bounds_of(framework, bounds, rebuild, start.shape)
        self.on_report: Callable[[Any], None] | None = None
        self.latest = Latest()
        self._last = threading.local()

    def apart(self) -> SmoothFunction:
        """The same function for calls that are none of the user's: they leave no trace here."""
        other = copy(self)
        other.latest, other.on_report, other._last = Latest(), None, threading.local()
        return other

    # -- the differentiable function

    def forward(
        self, values: Sequence[NDArray[Any]], quiet: bool = False, start: Any = None
    ) -> tuple[list[Floats], SmoothState]:
        values = [np.asarray(v, dtype=np.float64) for v in values]
        axes = self._axes([v.shape for v in values])
        flat = axes.flatten(values)
        state = SmoothState(self, axes, [], [])
        last = getattr(self._last, "points", None) if self.settings.warm_start else None
        given = self.start if start is None else np.asarray(start, dtype=np.float64)
        points = starts(given, self.start.shape, axes.size, last if start is None else None)
        for i in range(axes.size):
            answer, bounds = self._element(flat, i, points[i], axes.single)
            state.answers.append(answer)
            state.bounds.append(bounds)
        self._last.points = [None if a.place is None else a.place.y for a in state.answers]
        place = self.latest.place
        if place is not None:
            place[:] = [state]  # type: ignore[list-item]
        if self.settings.on_failure == "raise" and axes.size:
            name = str(state.answers[0].info.get("solver", self.settings.solver))
            raise_failures(state, name, single=axes.single)  # type: ignore[arg-type]
        if not quiet:
            warn_inaccurate(state.status, self.latest)
        return self._outputs(state), state

    def _axes(self, shapes: Sequence[Shape]) -> Axes:
        if shapes == self.shapes:
            return self._single
        return Axes.of(self.names, self.shapes, shapes)

    def _element(
        self, flat: Sequence[Any], i: int, start: Floats, single: bool
    ) -> tuple[Answer, Bounds | None]:
        try:
            with telling(i, single):
                model = self._model(flat, i)
                bounds = self.bounds(model)
                answer = solve_element(model, self.names, bounds, start, self.settings)
        except FFOAdaptError as error:
            if self.settings.on_failure == "raise":
                raise
            return Answer(Status.ERROR, {"message": str(error), "exception": error}), None
        if answer.status is Status.OPTIMAL_INACCURATE and not self.settings.accept_inaccurate:
            answer.status, answer.place = Status.ERROR, None
            answer.info["message"] = "the point is inaccurate, and not accepted"
        return answer, bounds

    def _model(self, flat: Sequence[Any], i: int) -> Model:
        return Model(self.functions, [v[i if len(v) > 1 else 0] for v in flat])

    def vjp(
        self, state: SmoothState, cotangents: Sequence[Floats | None], needed: Sequence[bool]
    ) -> list[Floats | None]:
        axes, lead, flat = state.axes, (), []
        for cotangent, shape in zip(cotangents, self._cores, strict=True):
            if cotangent is not None:
                lead = cotangent.shape[: cotangent.ndim - len(axes.batch) - len(shape)]
                cotangent = np.asarray(cotangent, dtype=np.float64)
                sizes = int(np.prod(lead)), axes.size, int(np.prod(shape))
                cotangent = cotangent.reshape(sizes)
            flat.append(cotangent)
        count = int(np.prod(lead))
        totals = [
            np.zeros((count, axes.size, *shape)) if on else None
            for shape, on in zip(self.shapes, needed, strict=True)
        ]
        for i in range(axes.size):
            if not state.answers[i].status.solved:
                continue
            for k in range(count):
                parts = [None if c is None else c[k, i] for c in flat]
                if not any(p is not None and p.any() for p in parts):
                    continue
                with telling(i, axes.single):
                    leaves = self._leaves(state, i, parts, needed)
                for total, leaf in zip(totals, leaves, strict=True):
                    if total is not None:
                        total[k, i] = leaf
        if self.on_report is not None:
            self.on_report(self.reports(state))
        shaped = [None if g is None else g.reshape((*lead, *g.shape[1:])) for g in totals]
        return axes.unflatten(shaped, len(lead))

    def _leaves(
        self, state: SmoothState, i: int, parts: Sequence[Floats | None], needed: Sequence[bool]
    ) -> list[Any]:
        """The gradients of one element for cotangents on its outputs."""
        given = Cotangents(np.zeros(self.start.size) if parts[0] is None else parts[0], *parts[1:])
        if self.settings.curvature == "resolve":
            leaves = resolved(*state.solved(i), self.settings, given)
        else:
            leaves = self._oracle(state, i).vjp(given)
        for name, leaf, on in zip(self.names, leaves, needed, strict=True):
            if on and self.settings.on_failure == "raise" and not np.isfinite(leaf).all():
                raise DifferentiationError(
                    f"the gradient in {name} is not finite: at the solution the functions have no "
                    "finite derivative in it (a root or a logarithm at 0?). Keep params inside of "
                    "their domain, or have NaN with on_failure='nan'"
                )
        return leaves

    def jvp(self, state: SmoothState, tangents: Sequence[Floats | None]) -> list[Floats]:
        axes = state.axes
        if self.settings.curvature == "resolve":
            raise DifferentiationError(
                "curvature='resolve' has no forward mode; use another curvature, or reverse mode"
            )
        flat = axes.flatten(tangents)
        outputs = [np.zeros((axes.size, int(np.prod(shape)))) for shape in self._cores]
        for i in range(axes.size):
            if not state.answers[i].status.solved:
                continue
            each = [None if t is None else t[i if len(t) > 1 else 0] for t in flat]
            with telling(i, axes.single):
                dy, duals = self._oracle(state, i).jvp(each)
            parts = (dy, duals.ineq, duals.eq, duals.lower, duals.upper)
            for out, part in zip(outputs, parts, strict=True):
                out[i] = part
        pairs = zip(outputs, self._cores, strict=True)
        return [out.reshape((*axes.batch, *shape)) for out, shape in pairs]

    def _oracle(self, state: SmoothState, i: int) -> SmoothOracle:
        oracle = state.oracles.get(i)
        if oracle is None:
            place, bounds = state.solved(i)
            how = curvature_of(self.settings, place.n)
            oracle = state.oracles[i] = SmoothOracle(place, bounds, how)
        return oracle

    def reports(self, state: SmoothState) -> list[GradientReport]:
        return [
            self._oracle(state, i).report() if answer.status.solved else UNSOLVED
            for i, answer in enumerate(state.answers)
        ]

    # -- for frameworks that trace

    @property
    def _cores(self) -> list[Shape]:
        m, p = (self.functions.count(name) for name in ("inequalities", "equalities"))
        shape = self.start.shape
        return [shape, (m,), (p,), shape, shape]

    def _known(self) -> list[Shape]:
        if not self.functions.checked:  # to know how many rows there are
            with self.framework.precise():
                leaves = [self.framework.from_numpy(np.ones(shape)) for shape in self.shapes]
                self.functions.check(self.start.reshape(-1), leaves)
        return self._cores

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch = Axes.of(self.names, self.shapes, shapes).batch
        return [(*batch, *core) for core in self._known()]

    def state_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        leads = [s[: len(s) - ndim] for s, ndim in zip(shapes, self.ndims, strict=True)]
        batch = np.broadcast_shapes(*leads)
        n = self.start.size
        m, p = (int(np.prod(core)) for core in self._known()[1:3])
        return [(*batch, size) for size in (n, m, p, n, n)]

    def pack(self, state: SmoothState) -> list[Floats]:
        flat = [
            out.reshape(*state.axes.batch, -1) if out.size else out
            for out in self._outputs(state, np.nan)
        ]
        sizes = [int(np.prod(core)) for core in self._cores]
        return [v.reshape(*state.axes.batch, k) for v, k in zip(flat, sizes, strict=True)]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> SmoothState:
        values = [np.asarray(v, dtype=np.float64) for v in values]
        axes = Axes.of(self.names, self.shapes, [v.shape for v in values])
        axes = axes.within(arrays[0].shape[:-1])
        flat = axes.flatten(values)
        kept = [
            np.broadcast_to(a, (*axes.batch, a.shape[-1])).reshape(axes.size, a.shape[-1])
            for a in arrays
        ]
        state = SmoothState(self, axes, [], [])
        for i in range(axes.size):
            y, ineq, eq, low, high = (v[i] for v in kept)
            if not np.isfinite(y).all():
                state.answers.append(Answer(Status.ERROR, {}))
                state.bounds.append(None)
                continue
            model = self._model(flat, i)
            bounds = self.bounds(model)
            typical = self.settings.typical_of(y.size)
            duals = Duals(ineq, eq, low, high)
            place = Place(model, bounds.lower, bounds.upper, y, duals, typical)
            state.answers.append(Answer(Status.OPTIMAL, {}, place))
            state.bounds.append(bounds)
        return state

    def _outputs(self, state: SmoothState, failed: float = np.nan) -> list[Floats]:
        sizes = [int(np.prod(core)) for core in self._cores]
        outputs = [np.full((state.axes.size, size), failed) for size in sizes]
        for i, answer in enumerate(state.answers):
            place = answer.place
            if place is not None and answer.status.solved:
                duals = place.duals
                parts = (place.y, duals.ineq, duals.eq, duals.lower, duals.upper)
                for out, part in zip(outputs, parts, strict=True):
                    out[i] = part
        pairs = zip(outputs, self._cores, strict=True)
        return [out.reshape((*state.axes.batch, *core)) for out, core in pairs]
