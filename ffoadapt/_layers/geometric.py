"""A geometric program as a function of its parameters: solved in logarithms, given as stated.

The program itself is one in logarithms of variables and parameters (`Modeler.geometric`). Here the
logarithms are taken, and exponentials of what comes out, with their derivatives, so that frameworks
and layers see parameters and variables as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._oracle.report import Reports
from .._types import Floats, Shape
from .around import Around, AroundState
from .axes import Axes
from .function import SolveFunction
from .state import State
from .traced import AtHost
from .valued import ValuedFunction, ValuedState

__all__ = ["GeometricFunction", "GeometricState"]


@dataclass(eq=False)
class GeometricState(AroundState):
    """The state in logarithms, with the parameters and the outputs of the call as they are."""

    inside: State | ValuedState
    axes: Axes
    values: list[NDArray[Any]]
    outputs: list[Floats]


class GeometricFunction(Around, AtHost):
    """`SolveFunction` with logarithms before and exponentials behind.

    ``model.logged`` says of which parameters the logarithms follow after all parameters, and
    ``model.exponentiated`` which outputs are logarithms.
    """

    def __init__(self, inside: SolveFunction | ValuedFunction) -> None:
        super().__init__(inside)
        self.model = Stated(inside.model)
        self._logged = inside.model.logged
        count = len(inside.names) - len(self._logged)
        self.names, self.shapes, self.ndims = (
            inside.names[:count],
            inside.shapes[:count],
            inside.ndims[:count],
        )

    # -- the differentiable function

    def forward(
        self, values: Sequence[NDArray[Any]], quiet: bool = False
    ) -> tuple[list[Floats], GeometricState]:
        outputs, inside = self.inside.forward(self._given(values), quiet)
        stated = [
            np.exp(out) if on else out
            for out, on in zip(outputs, self.model.exponentiated, strict=True)
        ]
        state = GeometricState(inside, self._axes(values), [*values], stated)
        return [out.copy() for out in stated], state

    def vjp(
        self,
        state: GeometricState,
        cotangents: Sequence[Floats | None],
        needed: Sequence[bool],
        quiet: bool = False,
    ) -> list[Floats | None]:
        inner = self._along(state, cotangents)
        wanted = [*needed, *(needed[k] for k in self._logged)]
        all_gradients = self.inside.vjp(state.inside, inner, wanted, quiet)
        gradients = all_gradients[: len(self.names)]
        for k, by_log in zip(self._logged, all_gradients[len(self.names) :], strict=True):
            if by_log is not None:
                direct, rest = gradients[k], by_log / _inside(state.values[k])
                gradients[k] = rest if direct is None else direct + rest
        return gradients

    def jvp(self, state: GeometricState, tangents: Sequence[Floats | None]) -> list[Floats]:
        of_logs = [
            None if tangents[k] is None else tangents[k] / _inside(state.values[k])
            for k in self._logged
        ]
        moves: list[Any] = list(self.inside.jvp(state.inside, [*tangents, *of_logs]))
        return [move for move in self._along(state, moves) if move is not None]

    def _along(
        self, state: GeometricState, cotangents: Sequence[Floats | None]
    ) -> list[Floats | None]:
        """Times the derivative of the exponentials, which is symmetric."""
        return [
            c * out if on and c is not None else c
            for c, out, on in zip(cotangents, state.outputs, self.model.exponentiated, strict=True)
        ]

    def reports(self, state: GeometricState) -> Reports:
        """One report a batch element."""
        return self.inside.reports(state.inside)

    def flatten(self, values: Sequence[Any], axes: Axes) -> list[Any]:
        """What the program in logarithms takes, as (B or 1, *core)."""
        given = self._given([np.asarray(v) for v in values])
        return self.inside.flatten(given, self.inside.axes([v.shape for v in given]))

    # -- for frameworks that trace

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return self.inside.output_shapes(self._with_logs(shapes))

    def state_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        shapes = self._with_logs(shapes)
        return [*self.inside.state_shapes(shapes), *self.inside.output_shapes(shapes)]

    def pack(self, state: GeometricState) -> list[Floats]:
        return [*self.inside.pack(state.inside), *state.outputs]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> GeometricState:
        split = len(arrays) - len(self.model.outputs)
        inside = self.inside.unpack(self._given(values), arrays[:split])
        return GeometricState(inside, inside.axes, [*values], [*arrays[split:]])

    # -- pieces

    def _axes(self, values: Sequence[NDArray[Any]]) -> Axes:
        return Axes.of(self.names, self.shapes, [v.shape for v in values])

    def _with_logs(self, items: Sequence[Any]) -> list[Any]:
        return [*items, *(items[k] for k in self._logged)]

    def _given(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The parameters, and the logarithms of some.

        Where the values are checked, 1 stands in for what has no logarithm: the check says more.
        """
        if len(values) != len(self.names):
            return [*values]
        with np.errstate(divide="ignore", invalid="ignore"):
            checked = self.settings.check_attributes
            logs = [np.log(_inside(values[k]) if checked else values[k]) for k in self._logged]
        return [*values, *logs]


class Stated:
    """What a program in logarithms is called, and its objective, as the user stated it."""

    def __init__(self, model: Any) -> None:
        self.exponentiated = model.exponentiated
        self.outputs = model.outputs
        self.parameters = model.parameters[: len(model.parameters) - len(model.logged)]
        self._model = model

    def objective(self, values: Sequence[Floats], canonical: Floats) -> Floats:
        """The objective, from that in logarithms."""
        objective: Floats = np.exp(self._model.objective(values, canonical))
        return objective


def _inside(value: NDArray[Any]) -> NDArray[Any]:
    """The value with 1 in the place of what has no logarithm."""
    return np.where(value > 0.0, value, np.ones((), dtype=value.dtype))
