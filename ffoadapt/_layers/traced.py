"""Calls that are solved in a framework's own arrays: their route, and how they went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from .._plugins.modeler import ParametricProgram
from .._solve.acceptance import accept
from .._solve.settings import Settings
from .._solve.traced import Traced
from .._types import Shape
from ..experimental import Keyed
from .axes import Axes
from .outcome import Outcome
from .state import State

__all__ = ["AtHost", "Elsewhere", "maps", "route"]


class Function(Protocol):
    """What is asked of the function of a call."""

    model: ParametricProgram
    settings: Settings
    orders: Sequence[Any]

    def unpack(self, values: Sequence[Any], arrays: Sequence[Any]) -> State: ...


_routes: WeakKeyDictionary[Any, dict[Any, Traced | None]] = WeakKeyDictionary()
"""Those of each function, by framework, namespace, and whether a solver may be chosen."""


def route(function: Any, framework: str, xp: Any, auto: bool) -> Traced | None:
    """The solve in the arrays of the framework, or None; see `Differentiable.traced`."""
    known = _routes.get(function)
    if known is None:
        known = _routes[function] = {}
    key = framework, xp, auto
    if key not in known:
        made = function.model, function.settings, framework, xp, function.orders, auto
        known[key] = Traced.of(*made)
    return known[key]


def maps(function: Any, xp: Any) -> Traced | None:
    """What comes before and after a point, or None; see `Differentiable.maps`."""
    known = _routes.setdefault(function, {})
    if xp not in known:
        known[xp] = Traced.maps(function.model, function.settings, xp, function.orders)
    return known[xp]


class Elsewhere(Outcome):
    """How such a call went, of which the host learns when somebody asks."""

    __slots__ = ("_asked", "_axes", "_fetch")

    def __init__(self, function: Any, axes: Axes, fetch: Callable[[], Any]) -> None:
        self._function, self._axes, self._fetch = function, axes, fetch
        self._asked: State | None = None

    @property
    def axes(self) -> int:
        return len(self._axes.batch)

    def _state(self) -> State:  # type: ignore[override]
        if self._asked is None:
            function: Function = self._function  # type: ignore[assignment]
            values, arrays, name = self._fetch()
            state = self._asked = function.unpack(values, arrays)
            state.name = name
            accept(state.batch, state.points, replace(function.settings, polish=False))
        return self._asked

    @property
    def _known(self) -> Any:  # type: ignore[override]
        state = self._state()
        return state.axes, state.batch, state.points, state.oracle.unmet, state.name


class AtHost(Keyed):
    """What `ffoadapt.Differentiable` asks of functions that are computed on the host alone."""

    def traced(self, framework: str, xp: Any, auto: bool = False) -> None:
        return None

    def maps(self, xp: Any) -> None:
        return None

    def observe(self, shapes: Sequence[Shape], fetch: Callable[[], Any]) -> None:
        """Nothing: it is not called."""
