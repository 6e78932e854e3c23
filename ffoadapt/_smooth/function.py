"""A smooth program and a solver as one batched differentiable function in NumPy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import DifferentiationError, FFOAdaptError, ParameterError, ProblemError
from .._layers.axes import Axes
from .._layers.outcome import Latest, warn_inaccurate
from .._oracle.report import UNSOLVED, GradientReport
from .._plugins.framework import Framework
from .._program.points import Status
from .._solve.failures import raise_failures
from ..experimental import Keyed
from . import differences
from .form import kinds_of
from .functions import Functions, Model, Shifted
from .oracle import Bounds, Cotangents, SmoothOracle, sizes_of
from .point import DENSE, Duals, Place
from .settings import SmoothSettings
from .solving import Answer, solve, solvers_for

__all__ = ["OUTPUTS", "SmoothFunction", "SmoothState"]

Floats = NDArray[np.float64]
Shape = tuple[int, ...]

OUTPUTS = ("y", "z_ineq", "z_eq", "z_lower", "z_upper")

RESOLVE = 1e-4
"""How far `resolve` tilts the objective, beside its own gradient."""


@dataclass(eq=False)
class SmoothState:
    """What one call keeps for its derivatives; a list has one entry a flat batch element."""

    function: SmoothFunction
    axes: Axes
    answers: list[Answer]
    bounds: list[Bounds | None]
    oracles: dict[int, SmoothOracle] = field(default_factory=dict)

    @property
    def status(self) -> list[Status]:
        return [answer.status for answer in self.answers]

    @property
    def info(self) -> list[dict[str, Any]]:
        return [answer.info for answer in self.answers]


class BoundsFunction:
    """lower(params) and upper(params) as the gradient of their sum, weighted."""

    def __init__(self, framework: Framework, function: Any, rebuild: Any, shape: Shape) -> None:
        self.framework, self.function = framework, function
        self.rebuild, self.shape = rebuild, shape
        self.absent = (False, False)

    def __call__(self, low: Any, high: Any, *leaves: Any) -> Any:
        found = self.function(self.rebuild(leaves))
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ParameterError(
                f"bounds returned a {type(found).__name__}; expected a pair (lower, upper)"
            )
        self.absent = found[0] is None, found[1] is None
        total = 0.0 * low.sum()
        for weight, bound in ((low, found[0]), (high, found[1])):
            if bound is not None:
                if isinstance(bound, list | tuple | np.ndarray):
                    bound = self.framework.from_numpy(np.asarray(bound, dtype=np.float64))
                total = total + (weight.reshape(self.shape) * bound).sum()
        return total


class SmoothFunction(Keyed):
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
        self.start = start
        self.functions = Functions(framework, named, rebuild, start.shape)
        self.fixed: tuple[Floats, Floats] | None = None
        self.bounds_function: BoundsFunction | None = None
        if callable(bounds):
            self.bounds_function = BoundsFunction(framework, bounds, rebuild, start.shape)
        else:
            self.fixed = constant_bounds(bounds, start.shape)
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
        axes = Axes.of(self.names, self.shapes, [v.shape for v in values])
        flat = axes.flatten(values)
        state = SmoothState(self, axes, [], [])
        starts = self._starts(axes.size, start)
        for i in range(axes.size):
            try:
                answer, bounds = self._element(flat, i, starts[i])
            except FFOAdaptError as error:
                if self.settings.on_failure == "raise":
                    raise _named(error, i, axes.single) from error
                said = {"message": str(error), "exception": error}
                answer, bounds = Answer(Status.ERROR, said), None
            state.answers.append(answer)
            state.bounds.append(bounds)
        if not self.settings.accept_inaccurate:
            for answer in state.answers:
                if answer.status is Status.OPTIMAL_INACCURATE:
                    answer.status, answer.place = Status.ERROR, None
                    answer.info["message"] = "the point is inaccurate, and not accepted"
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

    def _starts(self, size: int, start: Any) -> list[Floats]:
        given = self.start if start is None else np.asarray(start, dtype=np.float64)
        if given.shape == self.start.shape:
            starts = [given.reshape(-1)] * size
        elif (
            given.size == size * self.start.size
            and given.shape[given.ndim - self.start.ndim :] == self.start.shape
        ):
            starts = list(given.reshape(size, -1))
        else:
            raise ParameterError(
                f"start has shape {given.shape}; expected {self.start.shape}, or one for each of "
                f"the {size} batch elements"
            )
        last = getattr(self._last, "points", None)
        if self.settings.warm_start and start is None and last is not None and len(last) == size:
            pairs = zip(last, starts, strict=True)
            starts = [first if point is None else point for point, first in pairs]
        return starts

    def _element(self, flat: Sequence[Any], i: int, start: Floats) -> tuple[Answer, Bounds]:
        leaves = [v[i if len(v) > 1 else 0] for v in flat]
        for name, leaf in zip(self.names, leaves, strict=True):
            if not np.isfinite(leaf).all():
                raise ProblemError(f"{name} holds what is not finite; expected finite numbers")
        model = Model(self.functions, leaves)
        bounds = self._bounds(model)
        crossing = np.flatnonzero(~(bounds.lower <= bounds.upper))
        if crossing.size:
            k = int(crossing[0])
            raise ProblemError(
                f"the bounds cross: lower[{k}] = {bounds.lower[k]:g} > upper[{k}] = "
                f"{bounds.upper[k]:g}"
            )
        start = np.clip(start, bounds.lower, bounds.upper)
        model.check(start)
        weights = np.zeros(1 + self.functions.rows)
        weights[0] = 1.0
        gradient, values, _ = model.at(start, weights)
        if not (np.isfinite(gradient).all() and np.isfinite(values).all()):
            what = "objective" if not np.isfinite(values[0]) else "constraints, or a gradient,"
            raise ParameterError(
                f"no finite value of the {what} at the start (a logarithm or root of a negative "
                "number?); give a start inside of the domain, and bounds that keep y there"
            )
        settings, n = self.settings, start.size
        kinds = self._kinds(bounds)
        runs = solvers_for(settings.solver, kinds, n, settings.solver_options)
        answer = solve(
            model, bounds, start, runs, _how(settings, n), settings.polish, settings.typical_of(n)
        )
        return answer, bounds

    def _kinds(self, bounds: Bounds) -> frozenset[str]:
        counts = (self.functions.count(name) for name in ("inequalities", "equalities"))
        return kinds_of(bounds.lower, bounds.upper, *counts)

    def _bounds(self, model: Model) -> Bounds:
        if self.fixed is not None:
            return Bounds(self.fixed[0].reshape(-1), self.fixed[1].reshape(-1))
        framework, function, n = self.framework, self.bounds_function, self.start.size
        assert function is not None
        if framework.gradients_by_hand:
            leaves = [np.array(leaf) for leaf in model.numbers]
            pair = function.function(function.rebuild(leaves))
            low, high = (b.reshape(-1) for b in constant_bounds(pair, self.start.shape))
            return Bounds(low, high, _no_pull, _no_pull)

        def gradients(low: Floats, high: Floats, leaves: Sequence[Any], needed: bool) -> list[Any]:
            with framework.precise():
                given = [framework.from_numpy(low), framework.from_numpy(high), *leaves]
                wanted = [True, True, *(needed for _ in leaves)]
                found = framework.gradients(function, given, wanted)[1]
                return [None if g is None else framework.to_numpy(g) for g in found]

        def both(leaves: Sequence[Any]) -> tuple[Floats, Floats]:
            found = gradients(np.ones(n), np.ones(n), leaves, False)[:2]
            low, high = (np.zeros(n) if g is None else np.asarray(g).reshape(n) for g in found)
            return low, high

        with framework.precise():
            low, high = both(model.leaves)
        low = np.where(function.absent[0], -np.inf, low)
        high = np.where(function.absent[1], np.inf, high)
        if np.isnan(low).any() or np.isnan(high).any():
            raise ProblemError("the bounds hold NaN; expected numbers, or infinities for none")

        def pull(low_bar: Floats, high_bar: Floats) -> list[Any]:
            found = gradients(low_bar, high_bar, model.leaves, True)[2:]
            return [
                None if g is None else np.asarray(g, dtype=np.float64).reshape(leaf.shape)
                for g, leaf in zip(found, model.numbers, strict=True)
            ]

        def push(tangents: Sequence[Floats | None]) -> tuple[Floats, Floats]:
            ratio = max(
                float((np.abs(t) / sizes_of(x)).max(initial=0.0))
                for t, x in zip(tangents, model.numbers, strict=True)
                if t is not None
            )
            if ratio == 0.0:
                return np.zeros(n), np.zeros(n)
            at = differences.steps(ratio)
            rows = []
            for step in np.concatenate((at, -at)):
                moved = [
                    x if t is None else x + step * t
                    for t, x in zip(tangents, model.numbers, strict=True)
                ]
                with framework.precise():
                    rows.append(np.stack(both([framework.from_numpy(x) for x in moved])))
            table = np.where(np.isfinite(rows), rows, 0.0)
            low_dot, high_dot = differences.line_derivative(table, at)[0]
            return low_dot, high_dot

        return Bounds(low, high, pull, push)

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
        found = [
            np.zeros((count, axes.size, *shape)) if on else None
            for shape, on in zip(self.shapes, needed, strict=True)
        ]
        for i in range(axes.size):
            if not state.answers[i].status.solved:
                continue
            oracle = self._oracle(state, i)
            for k in range(count):
                parts = [None if c is None else c[k, i] for c in flat]
                given = Cotangents(
                    np.zeros(self.start.size) if parts[0] is None else parts[0], *parts[1:]
                )
                if not any(p is not None and p.any() for p in parts):
                    continue
                if self.settings.curvature == "resolve":
                    leaves = self._resolved(state, i, given)
                else:
                    leaves = oracle.vjp(given)
                for total, leaf in zip(found, leaves, strict=True):
                    if total is not None:
                        total[k, i] = leaf
        if self.on_report is not None:
            self.on_report(self.reports(state))
        shaped = [None if g is None else g.reshape((*lead, *g.shape[1:])) for g in found]
        return axes.unflatten(shaped, len(lead))

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
            dy, duals = self._oracle(state, i).jvp(each)
            parts = (dy, duals.ineq, duals.eq, duals.lower, duals.upper)
            for out, part in zip(outputs, parts, strict=True):
                out[i] = part
        pairs = zip(outputs, self._cores, strict=True)
        return [out.reshape((*axes.batch, *shape)) for out, shape in pairs]

    def _oracle(self, state: SmoothState, i: int) -> SmoothOracle:
        oracle = state.oracles.get(i)
        if oracle is None:
            place, bounds = state.answers[i].place, state.bounds[i]
            assert place is not None and bounds is not None
            oracle = state.oracles[i] = SmoothOracle(place, bounds, _how(self.settings, place.n))
        return oracle

    def _resolved(self, state: SmoothState, i: int, given: Cotangents) -> list[Any]:
        """[grad_th L(y+, mu+) - grad_th L(y-, mu-)] / 2 delta, of the programs with the cotangents
        times plus and minus delta added: an error of O(delta^2), and no active set."""
        place, bounds = state.answers[i].place, state.bounds[i]
        assert place is not None and bounds is not None
        n, settings = place.n, self.settings
        zero = [np.zeros(n) if v is None else v for v in (given.lower, given.upper)]
        rows = np.concatenate(
            [
                np.zeros(k) if v is None else v
                for v, k in ((given.ineq, place.m), (given.eq, place.e.size))
            ]
        )
        size = max(float(np.abs(v).max(initial=0.0)) for v in (given.y * place.units, rows, *zero))
        delta = settings.step if settings.step is not None else RESOLVE * place.steepness / size
        ends = []
        for sign in (delta, -delta):
            model = Shifted(place.model, sign * given.y, sign * rows)
            moved = Bounds(bounds.lower + sign * zero[0], bounds.upper - sign * zero[1])
            kinds = self._kinds(moved)
            runs = solvers_for(settings.solver, kinds, n, settings.solver_options)
            how = _how(settings, n)
            found = solve(model, moved, place.y, runs, how, True, settings.typical_of(n))
            if found.place is None:
                raise DifferentiationError(
                    f"curvature='resolve' could not solve the program with cotangents times "
                    f"{sign:.1e} added: {found.info.get('message', found.status.value)}"
                )
            ends.append(found.place)
        ahead, behind = ends
        parts = [place.model.at(p.y, p.weights, True)[2] for p in ends]
        leaves = [(a - b) / (2.0 * delta) for a, b in zip(*parts, strict=True)]
        if bounds.pull is not None:
            low = (ahead.duals.lower - behind.duals.lower) / (2.0 * delta)
            high = (ahead.duals.upper - behind.duals.upper) / (2.0 * delta)
            extra = bounds.pull(low, -high)
            leaves = [a if b is None else a + b for a, b in zip(leaves, extra, strict=True)]
        return leaves

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
            model = Model(self.functions, [v[i if len(v) > 1 else 0] for v in flat])  # type: ignore
            bounds = self._bounds(model)
            typical = self.settings.typical_of(y.size)
            duals = Duals(ineq, eq, low, high)
            place = Place(model, bounds.lower, bounds.upper, y, duals, typical)
            state.answers.append(Answer(Status.OPTIMAL, {}, place))
            state.bounds.append(bounds)
        return state

    def traced(self, framework: str, xp: Any) -> None:
        return None

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


def constant_bounds(bounds: Any, shape: Shape) -> tuple[Floats, Floats]:
    """A pair of numbers or arrays (None for no bound) as arrays of y's shape."""
    if bounds is None:
        bounds = (None, None)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ParameterError(
            f"bounds is {bounds!r}; expected a pair (lower, upper) of numbers or arrays, or a "
            "function of params that returns one"
        )
    found = []
    for name, bound, none in (("lower", bounds[0], -np.inf), ("upper", bounds[1], np.inf)):
        try:
            array = np.asarray(none if bound is None else bound, dtype=np.float64)
            found.append(np.broadcast_to(array, shape))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ParameterError(
                f"the {name} bounds are no numbers of shape {shape}: {error}"
            ) from error
        if np.isnan(array).any():
            raise ParameterError(f"the {name} bounds hold NaN")
    return found[0], found[1]


def _how(settings: SmoothSettings, n: int) -> str:
    if settings.curvature == "exact":
        return "exact"
    if settings.curvature == "cg" or (settings.curvature != "differences" and n > DENSE):
        return "cg"
    return "dense"


def _no_pull(*_: Any) -> Any:
    raise DifferentiationError(
        "bounds that depend on params have no gradient with NumPy; write them for torch or JAX"
    )


def _named(error: FFOAdaptError, i: int, single: bool) -> FFOAdaptError:
    """The error with the batch element that it is of."""
    if single:
        return error
    try:
        return type(error)(f"batch element {i}: {error}")
    except TypeError:
        return error
