"""`smooth` and `SmoothLayer`: programs that are given as functions, in the framework of params."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError, ParameterError
from .._layers.gradient_check import GradientCheck
from .._layers.outcome import Latest
from .._plugins.framework import Framework
from .._types import Floats
from .element import point_of
from .function import SmoothFunction
from .functions import NotScalarError
from .gradient_check import check_gradients
from .params import form_of, identity_of, names_of, read_params
from .results import SmoothOutcome, SmoothResult, SmoothSolution
from .settings import SmoothSettings

__all__ = ["SmoothLayer", "smooth"]


FUNCTIONS = 32
"""Of so many trees and shapes of parameters a layer remembers what it has found out."""


MANY = 6
"""Of more leaves that may be a batch, all are, or none."""


class SmoothLayer:
    """minimize objective over y, subject to inequalities <= 0, equalities = 0 and bounds.

    Any local minimizer that a solver of functions finds, as a differentiable function of params:
    by first derivatives of the functions alone.

    Parameters
    ----------
    objective
        ``(params, y) -> scalar`` in torch or JAX. Functions for NumPy return ``(value, gradient)``,
        where gradient is that in y, or the pair of those in params (a tree like it) and in y.
    inequalities, equalities
        ``(params, y) -> array``, or a list of arrays: h <= 0 and e = 0.
    bounds
        ``(lower, upper)``, numbers or arrays like y, None for none; or a function of params that
        returns them, through which gradients flow.
    start
        Where solvers start, shaped as y is. It should be inside of the functions' domain.
    params
        An example of params without batch axes: the arrays of a call may have one axis more each,
        in front, which is the batch. Without it the first call is that example; where its objective
        returns B numbers instead of one, the arrays whose first axis is B are the batch.
    solver
        A name, a `Solver` of form ``"smooth"``, a function decorated with `smooth_solver`, or
        ``"auto"``.
    settings
        See `SmoothSettings`.

    Notes
    -----
    params is any tree of the framework's arrays (dicts, lists, tuples, a module's parameters);
    everything else in it is a constant. Functions are evaluated in float64 whatever the dtype of
    the arrays is, which comes back. The layer keeps nothing of a call but how it went (`last`), and
    with ``warm_start=True`` the solution.
    """

    def __init__(
        self,
        objective: Callable[..., Any],
        inequalities: Callable[..., Any] | None = None,
        equalities: Callable[..., Any] | None = None,
        bounds: Any = None,
        *,
        start: Any = None,
        params: Any = None,
        solver: Any = "auto",
        **settings: Any,
    ) -> None:
        named = {"objective": objective, "inequalities": inequalities, "equalities": equalities}
        for name, function in named.items():
            if not callable(function) and (function is not None or name == "objective"):
                raise ParameterError(
                    f"{name} is a {type(function).__name__}; expected a function of (params, y)"
                )
        if start is None:
            raise ParameterError(
                "start is missing; give a point, shaped as y is, from which solvers start"
            )
        self.start = point_of(start)
        self.settings = SmoothSettings.of(solver, settings)
        self.objective, self.inequalities, self.equalities = named.values()
        self.bounds, self.solver = bounds, solver
        self._named, self._bounds, self._given = named, bounds, settings
        self._functions: dict[Any, SmoothFunction] = {}
        self._latest = Latest(wanted=True, said=[])
        self._on_report: Callable[[Any], None] | None = None
        self._lock = threading.Lock()
        self._cores: dict[Any, list[tuple[int, ...]]] = {}
        if params is not None:
            framework, leaves, tree, _ = read_params(params)
            self._cores[form_of(framework, tree)] = [tuple(np.shape(leaf)) for leaf in leaves]

    def __call__(self, params: Any, start: Any = None) -> Any:
        """y (*batch, *shape) at these params, in their framework, dtype and device."""
        return self._solution(params, start)[0][0]

    def solution(self, params: Any, start: Any = None) -> SmoothSolution:
        """y and all multipliers, differentiable."""
        outputs, outcome = self._solution(params, start)
        result: SmoothSolution = SmoothSolution(*outputs)
        if outcome is not None:
            result.__dict__["outcome"] = outcome
        return result

    def _solution(self, params: Any, start: Any) -> tuple[list[Any], SmoothOutcome | None]:
        framework, leaves, function = self._function(params)
        if start is not None:
            function = _Started(function, point_of(start))  # type: ignore[assignment]
        place = self._latest.place
        if place:
            place.clear()
        outputs = framework.apply(function, leaves)
        outcome = SmoothOutcome(function, place[-1]) if place else None  # type: ignore[arg-type]
        return outputs, outcome

    def with_objective(self, objective: Callable[..., Any]) -> SmoothLayer:
        """The same constraints under another objective, which starts at the same point."""
        made = SmoothLayer(
            objective,
            self.inequalities,
            self.equalities,
            self.bounds,
            start=self.start,
            solver=self.solver,
            **self._given,
        )
        made._cores = self._cores
        return made

    def solve(self, params: Any, start: Any = None) -> SmoothResult:
        """Solve in NumPy, and keep what explains and differentiates the solution."""
        framework, leaves, function = self._function(params)
        values = [np.array(framework.to_numpy(leaf), dtype=np.float64) for leaf in leaves]
        given = None if start is None else point_of(start)
        outputs, state = function.forward(values, quiet=True, start=given)
        return SmoothResult(function, params, framework, outputs, state)

    def check_gradients(
        self, params: Any, *, directions: int = 3, tolerance: float = 1e-4, seed: int = 0
    ) -> GradientCheck:
        """Compare the gradient of each leaf of params with central differences of solves."""
        framework, leaves, function = self._function(params)
        values = [np.array(framework.to_numpy(leaf), dtype=np.float64) for leaf in leaves]
        return check_gradients(function, values, directions, tolerance, seed)

    @property
    def last(self) -> SmoothOutcome | None:
        """How the last call in this thread went; None where there was none."""
        place = self._latest.place
        if not place:
            return None
        state: Any = place[-1]
        return SmoothOutcome(state.function, state)

    @property
    def on_report(self) -> Callable[[Any], None] | None:
        """Called after every backward pass with the list of the batch's reports, if set."""
        return self._on_report

    @on_report.setter
    def on_report(self, hook: Callable[[Any], None] | None) -> None:
        self._on_report = hook
        for function in self._functions.values():
            function.on_report = hook

    # -- params to a function

    def _function(self, params: Any) -> tuple[Framework, list[Any], SmoothFunction]:
        framework, leaves, tree, constants = read_params(params)
        form = form_of(framework, tree)
        shapes = [tuple(leaf.shape) for leaf in leaves]
        names = [f"params leaf {k}" for k in range(len(leaves))] if len(leaves) > 1 else ["params"]
        names = names_of(params, leaves) or names
        with self._lock:
            cores = self._core_shapes(framework, form, tree, names, shapes)
            key = (form, tuple(cores), identity_of(constants))
            function = self._functions.get(key)
            if function is None:
                if len(self._functions) >= FUNCTIONS:
                    self._functions.clear()
                function = self._made(framework, tree, names, cores)
                self._functions[key] = function
        return framework, leaves, function

    def _made(
        self, framework: Framework, tree: Any, names: Any, cores: Sequence[tuple[int, ...]]
    ) -> SmoothFunction:
        made = SmoothFunction(
            framework, self._named, self._bounds, self.start, names, cores, tree, self.settings
        )
        made.latest, made.on_report = self._latest, self._on_report
        return made

    def _core_shapes(
        self, framework: Framework, form: Any, tree: Any, names: Any, shapes: Any
    ) -> list[tuple[int, ...]]:
        known = self._cores.get(form)
        if known is not None:
            return [
                shape[len(shape) - len(core) :] if len(shape) > len(core) else shape
                for shape, core in zip(shapes, known, strict=True)
            ]
        try:
            checked = self._checked(framework, tree, names, list(shapes))
        except NotScalarError as error:
            # What makes an objective of a batch returns one number for each of its elements.
            first = error.shape[0] if error.shape else 0
            for cores in _readings(shapes, first):
                with suppress(FFOAdaptError):
                    checked = self._checked(framework, tree, names, cores)
                    break
            else:
                raise
        self._cores[form] = checked
        return checked

    def _checked(
        self, framework: Framework, tree: Any, names: Any, cores: list[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        """The core shapes, where the functions take params of these."""
        self._made(framework, tree, names, cores)._known()
        return cores


def _readings(shapes: Sequence[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    """The core shapes that leaves of these shapes may have where the first axis, of this size, is a
    batch of some of them; most of them first."""
    able = [k for k, shape in enumerate(shapes) if shape and shape[0] == size]
    for count in range(len(able), 0, -1):
        if count < len(able) > MANY:
            return
        for some in combinations(able, count):
            yield [s[1:] if k in some else s for k, s in enumerate(shapes)]


class _Started:
    """A function that starts elsewhere for one call."""

    def __init__(self, function: SmoothFunction, start: Floats) -> None:
        self._function, self._start = function, start

    def forward(self, values: Any) -> Any:
        return self._function.forward(values, start=self._start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def smooth(
    objective: Callable[..., Any],
    params: Any,
    start: Any,
    *,
    inequalities: Callable[..., Any] | None = None,
    equalities: Callable[..., Any] | None = None,
    bounds: Any = None,
    solver: Any = "auto",
    **settings: Any,
) -> SmoothSolution:
    """Solve a smooth program once, differentiably in every leaf of params; see `SmoothLayer`.

    Make a `SmoothLayer` to solve the same program again: it remembers what it has found out of the
    functions, and JAX what it has compiled.
    """
    layer = SmoothLayer(
        objective, inequalities, equalities, bounds, start=start, solver=solver, **settings
    )
    return layer.solution(params)
