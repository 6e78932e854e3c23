"""What calls of smooth programs return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._exceptions import DifferentiationError
from .._layers.outcome import infos, statuses
from .._layers.solutions import Solved, plain_tuple
from .._oracle.report import GradientReport
from .._plugins.framework import Framework
from .._program.points import Status
from .._types import Floats
from .function import OUTPUTS, SmoothFunction
from .params import plain, tangents_of
from .state import SmoothState

__all__ = ["SmoothOutcome", "SmoothResult", "SmoothSolution"]


class _SmoothArrays(NamedTuple):
    y: Any
    z_ineq: Any
    z_eq: Any
    z_lower: Any
    z_upper: Any


@plain_tuple
class SmoothSolution(_SmoothArrays, Solved):
    """y (*batch, *shape); multipliers z_ineq (*batch, rows) >= 0, z_eq, and of the bounds z_lower,
    z_upper >= 0, shaped like y: grad g + J_h'z_ineq + J_e'z_eq - z_lower + z_upper = 0.

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


class SmoothOutcome:
    """How a call went: ``status``, ``info`` and ``report()``, as of `Outcome`."""

    def __init__(self, function: SmoothFunction, state: SmoothState) -> None:
        self._function, self._state = function, state

    @property
    def status(self) -> Status | list[Status]:
        return statuses(self._state.axes.single, self._state.status)

    @property
    def info(self) -> Any:
        return infos(self._state.axes.single, self._state.info, "")

    def report(self) -> GradientReport | list[GradientReport]:
        reports = self._function.reports(self._state)
        return reports[0] if self._state.axes.single else reports


class SmoothResult(SmoothOutcome):
    """A solved smooth program, in NumPy.

    Attributes
    ----------
    y, z_ineq, z_eq, z_lower, z_upper
        As in `SmoothSolution`.
    objective
        (*batch,) the objective's value; a float without batch axes.
    """

    def __init__(
        self,
        function: SmoothFunction,
        params: Any,
        framework: Framework,
        outputs: Sequence[Floats],
        state: SmoothState,
    ) -> None:
        super().__init__(function, state)
        self._framework, self._params = framework, params
        self.y, self.z_ineq, self.z_eq, self.z_lower, self.z_upper = outputs
        values = [a.place.value if a.place is not None else np.nan for a in state.answers]
        self.objective: Any = (
            values[0] if state.axes.single else np.array(values).reshape(state.axes.batch)
        )

    def vjp(self, **cotangents: Any) -> Any:
        """The gradient in params, a tree like it of NumPy arrays, from cotangents by name
        (``y=...``); each shaped like its output."""
        given: list[Any] = []
        for name in cotangents:
            if name not in OUTPUTS:
                raise DifferentiationError(
                    f"there is no output {name!r}; the outputs are {', '.join(OUTPUTS)}"
                )
        for name in OUTPUTS:
            value = cotangents.get(name)
            if value is None:
                given.append(None)
                continue
            array = np.asarray(plain(value), dtype=np.float64)
            expected = getattr(self, name).shape
            if array.shape[array.ndim - len(expected) :] != expected:
                raise DifferentiationError(
                    f"the cotangent on {name} has shape {array.shape}, expected {expected}"
                )
            given.append(array)
        gradients = self._function.vjp(self._state, given, [True] * len(self._function.names))
        return self._function.functions.rebuild([np.asarray(g) for g in gradients])

    def jvp(self, params: Any) -> SmoothSolution:
        """Tangents on all outputs from those on params, a tree like it (None for zero)."""
        leaves = tangents_of(self._framework, self._params, params)
        tangents: SmoothSolution = SmoothSolution(*self._function.jvp(self._state, leaves))
        return tangents
