"""`smooth` and `SmoothLayer`: programs that are given as functions, in the framework of params."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._exceptions import DifferentiationError, FFOAdaptError, ParameterError
from .._layers.gradient_check import GradientCheck
from .._layers.outcome import Latest, infos, statuses
from .._layers.solutions import Solved, plain_tuple
from .._oracle.report import GradientReport
from .._plugins.framework import Framework
from .._plugins.registry import registry
from .._program.points import Status
from .._runtime.trees import flatten
from .function import OUTPUTS, SmoothFunction, SmoothState
from .functions import NotScalarError
from .gradient_check import check_gradients
from .settings import SmoothSettings

__all__ = ["SmoothLayer", "SmoothResult", "SmoothSolution", "smooth"]

Floats = NDArray[np.float64]

FUNCTIONS = 32
"""Of so many trees and shapes of parameters a layer remembers what it has found out."""


MANY = 6
"""Of more leaves that may be a batch, all are, or none."""


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
        try:
            self.start = np.array(_plain(start), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"start is no array of numbers: {error}") from error
        if not np.isfinite(self.start).all():
            raise ParameterError("start holds what is not finite; expected finite numbers")
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
            framework, leaves, tree, _ = _read(params)
            self._cores[_form(framework, tree)] = [tuple(np.shape(leaf)) for leaf in leaves]

    def __call__(self, params: Any, start: Any = None) -> Any:
        """y (*batch, *shape) at these params, in their framework, dtype and device."""
        return self._solution(params, start)[0][0]

    def solution(self, params: Any, start: Any = None) -> SmoothSolution:
        """y and all multipliers, differentiable."""
        outputs, outcome = self._solution(params, start)
        found: SmoothSolution = SmoothSolution(*outputs)
        if outcome is not None:
            found.__dict__["outcome"] = outcome
        return found

    def _solution(self, params: Any, start: Any) -> tuple[list[Any], SmoothOutcome | None]:
        framework, leaves, function = self._function(params)
        if start is not None:
            function = _Started(function, np.array(_plain(start), dtype=np.float64))  # type: ignore
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
        given = None if start is None else np.array(_plain(start), dtype=np.float64)
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
        framework, leaves, tree, constants = _read(params)
        form = _form(framework, tree)
        shapes = [tuple(leaf.shape) for leaf in leaves]
        names = [f"params leaf {k}" for k in range(len(leaves))] if len(leaves) > 1 else ["params"]
        names = _names(params, leaves) or names
        with self._lock:
            cores = self._core_shapes(framework, form, tree, names, shapes)
            key = (form, tuple(cores), _identity(constants))
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
            found = self._checked(framework, tree, names, list(shapes))
        except NotScalarError as error:
            # What makes an objective of a batch returns one number for each of its elements.
            first = error.shape[0] if error.shape else 0
            for cores in _readings(shapes, first):
                with suppress(FFOAdaptError):
                    found = self._checked(framework, tree, names, cores)
                    break
            else:
                raise
        self._cores[form] = found
        return found

    def _checked(
        self, framework: Framework, tree: Any, names: Any, cores: list[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        """The core shapes, where the functions take params of these."""
        try:
            self._made(framework, tree, names, cores)._known()
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, FFOAdaptError):
                raise
            raise ParameterError(
                f"the functions do not take these params with a y of shape {self.start.shape}, as "
                f"start has: {type(error).__name__}: {error}"
            ) from error
        return cores


class _Started:
    """A function that starts elsewhere for one call."""

    def __init__(self, function: SmoothFunction, start: Floats) -> None:
        self._function, self._start = function, start

    def forward(self, values: Any) -> Any:
        return self._function.forward(values, start=self._start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


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
            array = np.asarray(_plain(value), dtype=np.float64)
            expected = getattr(self, name).shape
            if array.shape[array.ndim - len(expected) :] != expected:
                raise DifferentiationError(
                    f"the cotangent on {name} has shape {array.shape}, expected {expected}"
                )
            given.append(array)
        found = self._function.vjp(self._state, given, [True] * len(self._function.names))
        return self._function.functions.rebuild([np.asarray(g) for g in found])

    def jvp(self, params: Any) -> SmoothSolution:
        """Tangents on all outputs from those on params, a tree like it (None for zero)."""
        leaves = _tangents(self._framework, self._params, params)
        found: SmoothSolution = SmoothSolution(*self._function.jvp(self._state, leaves))
        return found


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


def _read(params: Any) -> tuple[Framework, list[Any], Any, list[Any]]:
    """The framework, the leaves that are its floating arrays, what makes params of such leaves, and
    the other leaves."""
    if hasattr(params, "__next__"):  # a module's parameters
        params = list(params)
    every = flatten(params)[0]
    kinds = {}
    for leaf in every:
        spec = registry.by_module("framework", type(leaf))
        if spec is not None:
            kinds[spec.name] = spec
    strict = {name: s for name, s in kinds.items() if not _mixes(s, kinds)}
    if len(strict) > 1:
        raise ParameterError(
            f"params mixes arrays of {' and '.join(sorted(strict))}; convert them to one framework"
        )
    name = next(iter(strict), None)
    if name is None:
        name = _by_tree(every)
    framework: Framework = registry.get("framework", name)
    every, build = framework.flatten(params)
    if any("complex" in str(getattr(leaf, "dtype", "")) for leaf in every):
        raise ParameterError("a leaf of params is complex; expected real numbers")
    floating = [_floating(leaf, framework) for leaf in every]
    if not any(floating):
        raise ParameterError(
            "params has no floating array among its leaves; there is nothing to differentiate by. "
            "Give at least one, of torch, JAX or NumPy"
        )
    constants = [leaf for leaf, on in zip(every, floating, strict=True) if not on]
    leaves = [leaf for leaf, on in zip(every, floating, strict=True) if on]
    if framework.gradients_by_hand:
        leaves = [np.asarray(leaf) for leaf in leaves]
    return framework, leaves, Params(build, tuple(floating), constants), constants


class Params:
    """params from its floating leaves; the others are constants."""

    def __init__(self, build: Any, floating: tuple[bool, ...], constants: list[Any]) -> None:
        self.build, self.floating, self.constants = build, floating, constants

    def __call__(self, leaves: Sequence[Any]) -> Any:
        mine, others = iter(leaves), iter(self.constants)
        return self.build([next(mine) if on else next(others) for on in self.floating])


def _by_tree(every: Sequence[Any]) -> str:
    """The framework of a tree that it alone knows, such as a registered class."""
    for leaf in every:
        if isinstance(leaf, bool | int | float | str | complex):
            continue
        for name in registry.ready("framework"):
            framework = registry.get("framework", name)
            inner = framework.flatten(leaf)[0]
            if len(inner) > 1 or (inner and inner[0] is not leaf):
                spec = registry.by_module("framework", type(inner[0]))
                if spec is not None and spec.name == name:
                    return str(name)
        raise ParameterError(
            f"params holds a {type(leaf).__module__}.{type(leaf).__qualname__}; expected arrays of "
            f"an installed framework: {', '.join(registry.ready('framework'))}"
        )
    return "numpy"


def _mixes(spec: Any, kinds: dict[str, Any]) -> bool:
    return any(spec.name in other.mixes_with for other in kinds.values())


def _floating(leaf: Any, framework: Framework) -> bool:
    if framework.gradients_by_hand and isinstance(leaf, float):
        return True
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return False
    return "float" in str(dtype)


def _form(framework: Framework, tree: Params) -> Any:
    return type(framework), tree.floating, tree.build


def _identity(constants: Sequence[Any]) -> Any:
    """What tells constants apart: numbers and words by value, everything else by identity."""
    plain = (bool, int, float, str, type(None))
    return tuple((type(c), c if isinstance(c, plain) else id(c)) for c in constants)


def _readings(shapes: Sequence[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    """The core shapes that leaves of these shapes may have where the first axis, of this size, is a
    batch of some of them; most of them first."""
    able = [k for k, shape in enumerate(shapes) if shape and shape[0] == size]
    for count in range(len(able), 0, -1):
        if count < len(able) > MANY:
            return
        for some in combinations(able, count):
            yield [s[1:] if k in some else s for k, s in enumerate(shapes)]


def _names(params: Any, leaves: Sequence[Any]) -> list[str] | None:
    """The keys of a flat dict of arrays."""
    if not isinstance(params, dict):
        return None
    keys = [k for k in sorted(params, key=str) if any(params[k] is leaf for leaf in leaves)]
    return [str(k) for k in keys] if len(keys) == len(leaves) else None


def _tangents(framework: Framework, params: Any, tangents: Any) -> list[Any]:
    """Tangents of the floating leaves, zeros where there is None."""
    _, leaves, tree, _ = _read(params)

    def walk(value: Any, tangent: Any) -> list[Any]:
        if tangent is None:
            return [None] * len(framework.flatten(value)[0])
        if isinstance(value, dict):
            unknown = sorted(set(tangent) - set(value), key=str)
            if unknown:
                raise DifferentiationError(f"params has no {unknown[0]!r}")
            keys = sorted(value, key=str)
            return [leaf for k in keys for leaf in walk(value[k], tangent.get(k))]
        if isinstance(value, list | tuple):
            return [leaf for v, t in zip(value, tangent, strict=True) for leaf in walk(v, t)]
        return [tangent]

    every = walk(params, tangents)
    floating = [t for t, on in zip(every, tree.floating, strict=True) if on]
    arrays = []
    for leaf, tangent in zip(leaves, floating, strict=True):
        if tangent is None:
            arrays.append(np.zeros(tuple(leaf.shape)))
            continue
        array = np.asarray(_plain(tangent), dtype=np.float64)
        if array.shape != tuple(leaf.shape):
            raise DifferentiationError(
                f"a tangent has shape {array.shape}, expected {tuple(leaf.shape)}"
            )
        arrays.append(array)
    return arrays


def _plain(array: Any) -> Any:
    """Any framework's array as NumPy's."""
    spec = registry.by_module("framework", type(array))
    if spec is None or isinstance(array, np.ndarray):
        return array
    return registry.get("framework", spec.name).to_numpy(array)
