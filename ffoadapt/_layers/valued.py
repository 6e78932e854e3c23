"""``objective=True``: the optimal value next to the outputs of a program, with its derivatives.

The value of minimize 1/2 x'Px + q'x subject to Ax + s = b, s in K, changes as the Lagrangian does
at a solution that stays where it is (the envelope theorem):

    dV = 1/2 x'dP x + dq'x + z'(dA x - db).

That takes no linear system, holds for linear programs as for all others, and is exact also where
the solution itself has a kink; where several z are optimal, it is one of the directional slopes.
In the formulas of `Adjoint` and `moved_sides` it is w = -x and zeta = -z at the point (x/2, z/2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import OptionError
from .._oracle.gradient import Adjoint, moved_sides
from .._oracle.report import Reports
from .._plugins.modeler import ParametricProgram
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._types import Floats, Shape
from . import derivatives
from .around import Around, AroundState
from .axes import Axes
from .function import SolveFunction
from .state import State

__all__ = ["ValuedFunction", "optimal_value"]


def optimal_value(batch: ProgramBatch, x: Floats) -> Floats:
    """(B,) 1/2 x'Px + q'x."""
    quadratic = 0.5 * np.sum(x * batch.multiply("P", x), axis=-1)
    return np.asarray(quadratic + np.sum(batch.q * x, axis=-1))


@dataclass(eq=False)
class ValuedState(AroundState):
    """The state of the solve, and the parameters of the call as the model takes them."""

    inside: State
    values: list[Floats]

    @property
    def axes(self) -> Axes:
        """The batch axes."""
        return self.inside.axes


class ValuedFunction(Around):
    """A `SolveFunction` with one more output, the last: the user's objective at the solution."""

    def __init__(self, inside: SolveFunction) -> None:
        _check(inside.model)
        super().__init__(inside)
        self.model = Valued(inside.model)
        self.names, self.shapes, self.ndims = inside.names, inside.shapes, inside.ndims
        self.flatten, self.axes = inside.flatten, inside.axes
        self.state_shapes = inside.state_shapes

    # -- the differentiable function

    def forward(
        self, values: Sequence[NDArray[Any]], quiet: bool = False
    ) -> tuple[list[Floats], ValuedState]:
        outputs, inside = self.inside.forward(values, quiet)
        state = self._state(values, inside)
        canonical = optimal_value(inside.batch, inside.points.x)
        value = self.inside.model.objective(state.values, canonical)
        shared = np.broadcast_to(value, (inside.axes.size,)).reshape(inside.axes.batch)
        return [*outputs, shared.copy()], state

    def vjp(
        self,
        state: ValuedState,
        cotangents: Sequence[Floats | None],
        needed: Sequence[bool],
        quiet: bool = False,
    ) -> list[Floats | None]:
        """The solution itself is differentiated only where a cotangent asks for it."""
        *on_outputs, on_value = cotangents
        asked = any(c is not None and c.any() for c in on_outputs)
        gradients: list[Floats | None] = [None] * len(needed)
        if asked or on_value is None or self.on_report is not None:
            gradients = self.inside.vjp(state.inside, on_outputs, needed, quiet)
        if on_value is None:
            return gradients
        lead = on_value.shape[: on_value.ndim - len(state.axes.batch)]
        more = self._along(state, on_value.reshape(*lead, state.axes.size), needed)
        more = self.inside.shaped(more, state.axes, len(lead))
        pairs = zip(gradients, more, strict=True)
        return [b if a is None or b is None else a + b for a, b in pairs]

    def _along(self, state: ValuedState, v: Floats, needed: Sequence[bool]) -> list[Floats | None]:
        """The gradients (*lead, B or 1, *core) for cotangents v (*lead, B) on the values."""
        v = np.where(state.points.solved, v, 0.0)
        model, (half, x, z) = self.inside.model, _half(state.points)
        on_canonical, direct = model.objective_vjp(state.values, v, needed)
        v = on_canonical[..., None]
        adjoint = Adjoint(state.batch, half, -v * x, -v * z)
        gradients = derivatives.gradients(self.inside, state.inside, adjoint, needed)
        pairs = zip(gradients, direct, strict=True)
        return [a if a is None or b is None else a + b for a, b in pairs]

    def jvp(self, state: ValuedState, tangents: Sequence[Floats | None]) -> list[Floats]:
        outputs = self.inside.jvp(state.inside, tangents)
        batch, points, model = state.batch, state.points, self.inside.model
        flat = self.flatten(tangents, state.axes)
        moved = model.program_jvp(flat, batch, points.z)
        if state.inside.closest is not None:
            moved = state.inside.closest.jvp(batch, moved)
        half, x, z = _half(points)
        v_x, v_z = moved_sides(batch, half, moved)
        canonical = -(x * v_x).sum(axis=-1) - (z * v_z).sum(axis=-1)
        value = model.objective_jvp(state.values, flat, canonical)
        value = np.where(points.solved, value, 0.0)
        return [*outputs, value.reshape(state.axes.batch)]

    def reports(self, state: ValuedState) -> Reports:
        """One report a batch element."""
        return self.inside.reports(state.inside)

    # -- for frameworks that trace

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch = Axes.of(self.names, self.shapes, shapes).batch
        return [*self.inside.output_shapes(shapes), (*batch,)]

    def pack(self, state: ValuedState) -> list[Floats]:
        return self.inside.pack(state.inside)

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> ValuedState:
        return self._state(values, self.inside.unpack(values, arrays))

    def traced(self, framework: str, xp: Any, auto: bool = False) -> TracedValue | None:
        """Where the objective is the canonical one; others are computed on the host."""
        return self._valued(lambda: self.inside.traced(framework, xp, auto))

    def maps(self, xp: Any) -> TracedValue | None:
        return self._valued(lambda: self.inside.maps(xp))

    def observe(self, shapes: Sequence[Shape], fetch: Callable[[], Any]) -> None:
        self.inside.observe(shapes, fetch)

    def _valued(self, route: Callable[[], Any]) -> TracedValue | None:
        if type(self.inside.model).objective is not ParametricProgram.objective:
            return None
        made = route()
        return None if made is None else TracedValue(made)

    def _state(self, values: Sequence[NDArray[Any]], inside: State) -> ValuedState:
        floats = [np.asarray(v, dtype=np.float64) for v in values]
        return ValuedState(inside, self.flatten(floats, inside.axes))


class Valued:
    """A parametric program that has its objective among its outputs, as layers look at it."""

    def __init__(self, model: ParametricProgram) -> None:
        self._model = model
        self.outputs = [*model.outputs, ("objective", ())]
        self.exponentiated = [*model.exponentiated, True] if model.exponentiated else ()

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._model, name)


class TracedValue:
    """A `TracedSolve` that gives the optimal value, too."""

    def __init__(self, route: Any) -> None:
        self._route = route

    def __getattr__(self, name: str) -> Any:
        if name == "_route":
            raise AttributeError(name)
        return getattr(self._route, name)

    def outputs(self, program: Any, x: Any, y: Any) -> list[Any]:
        """The outputs at a point, and 1/2 x'Px + q'x."""
        bent = (program.P @ x[..., None])[..., 0]
        value = (x * (0.5 * bent + program.q)).sum(axis=-1)
        return [*self._route.outputs(program, x, y), value]


def _half(points: Points) -> tuple[Points, Floats, Floats]:
    """The point at half its length, and x and z themselves, 0 where there is no solution."""
    solved = points.solved[:, None]
    x, z = (np.where(solved, v, 0.0) for v in (points.x, points.z))
    return Points(0.5 * x, points.s, 0.5 * z, points.status, points.info), x, z


def _check(model: ParametricProgram) -> None:
    """An objective of a class's own has derivatives of its own."""
    order = type(model).__mro__
    first = {
        name: next((k for k, c in enumerate(order) if name in vars(c)), len(order))
        for name in ("objective", "objective_vjp", "objective_jvp")
    }
    lacking = [name for name, at in first.items() if at > first["objective"]]
    if lacking:
        raise OptionError(
            f"objective=True differentiates the objective, and {order[0].__name__} states one "
            f"without {' and '.join(lacking)}; see ffoadapt.ParametricProgram"
        )
