"""`Layer`: a modeler's problem as a differentiable function of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from .._exceptions import DifferentiationError, OptionError, ParameterError, UnsupportedProblemError
from .._models.reading import checked, numbers
from .._oracle.report import GradientReport, Reports
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._plugins.modeler import Modeler, ParametricProgram
from .._plugins.registry import registry
from .._plugins.solver import Solver
from .._program.points import Status
from .._solve.options import check_options
from .._solve.settings import Settings, SolveSettings
from .function import SolveFunction, State
from .gradient_check import GradientCheck, check_gradients
from .outcome import Latest, Outcome, described, infos, statuses

__all__ = ["Layer", "LayerResult"]


OTHERS = 16
"""How many sets of per-call solver options a layer remembers."""


class Layer:
    """Parameters in, optimal variables out, differentiable, in the framework of the arguments.

    Parameters
    ----------
    problem
        A problem of an installed modeler, e.g. a DPP-compliant ``cvxpy.Problem``; or an
        `ffoadapt.ParametricProgram`.
    parameters
        Its parameters, in the order of the call.
    variables
        What the call returns: variables, or dual variables of constraints
        (``constraint.dual_variables[i]``).
    solver
        A name from `ffoadapt.solvers`, a `Solver` object or class, a decorated function, or
        ``"auto"`` for the fastest installed.
    settings
        See `ffoadapt.SolveSettings`.

    Notes
    -----
    A leading axis on any parameter is a batch; parameters without one are shared by it. dtype and
    device of the arguments come back. The layer keeps nothing of a call but how it went (`last`).
    The first solution that is used and only `Status.OPTIMAL_INACCURATE` warns
    (`InaccurateSolutionWarning`).
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any] = (),
        variables: Sequence[Any] = (),
        *,
        solver: str | Solver | type[Solver] = "auto",
        **settings: Unpack[SolveSettings],
    ) -> None:
        if "gp" in settings:
            raise OptionError(
                "a Layer takes no gp: geometric programs are for the CvxpyLayer of a framework's "
                "plugin, such as ffoadapt_torch.CvxpyLayer(..., gp=True)"
            )
        self.program = _parametrize(problem, parameters, variables)
        self._function = SolveFunction(self.program, Settings.of(solver, settings))
        self._function.latest = Latest(wanted=True, said=[])
        self._others: dict[Any, SolveFunction] = {}
        structure = getattr(self.program, "structure", None)
        if structure is not None:  # an unknown solver or option is an error of the constructor
            self._function._job(structure)

    def __repr__(self) -> str:
        model, solver = self.program, self._function.settings.solver
        sides = (
            ", ".join(f"{name}{shape}" for name, shape in pairs) or "none"
            for pairs in (model.parameters, model.outputs)
        )
        return f"Layer({' -> '.join(sides)}; solver {solver!r})"

    def __call__(self, *values: Any, solver_options: Mapping[str, Any] | None = None) -> Any:
        """The variables, in a tuple, at these parameter values."""
        function = self._with(solver_options)
        framework, given = self._read(values)
        return tuple(framework.apply(function, given))

    def solve(self, *values: Any, solver_options: Mapping[str, Any] | None = None) -> LayerResult:
        """Solve in NumPy, and keep what explains and differentiates the solution.

        ``values`` may come from any framework; no gradient flows through this call.
        """
        function = self._with(solver_options)
        framework, read = self._read(values)
        # Copies: the derivatives are those at these numbers, whatever becomes of the arrays.
        given = [np.array(framework.to_numpy(v)) for v in read]
        outputs, state = function.forward(given, quiet=True)
        arrays = [np.asarray(v, dtype=np.float64) for v in given]
        return LayerResult(function, arrays, outputs, state)

    def check_gradients(
        self, *values: Any, directions: int = 3, tolerance: float = 1e-4, seed: int = 0
    ) -> GradientCheck:
        """Compare the gradient of each parameter with central differences of tight solves.

        ``str()`` of the result says which parameter disagrees; ``.ok`` whether none does.
        """
        framework, given = self._read(values)
        arrays = [framework.to_numpy(v) for v in given]
        return check_gradients(
            self._function,
            self._function.names,
            arrays,
            directions=directions,
            tolerance=tolerance,
            seed=seed,
        )

    @property
    def last(self) -> Outcome | None:
        """How the last call in this thread went: its ``status``, ``info`` and ``report()``.

        None where there was none. A call inside of ``jit`` runs in another thread. What a report
        needs of the last call stays in memory until the next.
        """
        place = self._function.latest.place
        return place[-1] if place else None

    @property
    def on_report(self) -> Callable[[Reports], None] | None:
        """Called after every backward pass with the reports of the batch, if set.

        They are a sequence; its ``verdicts`` are cheaper than a look at each report.
        """
        return self._function.on_report

    @on_report.setter
    def on_report(self, hook: Callable[[Reports], None] | None) -> None:
        for function in (self._function, *self._others.values()):
            function.on_report = hook

    def _with(self, options: Mapping[str, Any] | None) -> SolveFunction:
        if options is None or options == {}:
            return self._function
        settings = self._function.settings
        merged = {**(settings.solver_options or {}), **check_options(options)}
        settings = replace(settings, solver_options=merged)
        key = settings.key
        found = self._others.get(key) if key is not None else None
        if found is None:
            found = self._function.with_settings(settings)
            if key is not None:  # the same options at every call keep their sessions
                if len(self._others) >= OTHERS:
                    self._others.clear()
                self._others[key] = found
        return found

    def _read(self, values: Sequence[Any]) -> tuple[Framework, Sequence[Any]]:
        """The framework of the values, and the values, which hold numbers."""
        names = self._function.names
        if len(values) != len(names):
            raise ParameterError(
                f"the layer takes {len(names)} parameters ({', '.join(names) or 'none'}), got "
                f"{len(values)}"
            )
        framework = find_framework(dict(zip(names, values, strict=True)))
        return framework, list(map(checked, names, values))


class LayerResult:
    """A solved layer, in NumPy.

    Attributes
    ----------
    variables
        The outputs, each (*batch, *shape).
    objective
        (*batch,) the user's objective (a float without batch axes).
    status, info
        A `Status` and a dict; with batch axes, lists of them in the order of the flat batch.
    """

    def __init__(
        self, function: SolveFunction, values: list[Any], outputs: list[Any], state: State
    ) -> None:
        self._function, self._state = function, state
        self.variables = tuple(outputs)
        batch, points = state.batch, state.points
        quadratic = 0.5 * np.sum(points.x * batch.multiply("P", points.x), axis=-1)
        canonical = quadratic + np.sum(batch.q * points.x, axis=-1)
        flat, axes = function.flatten(values, state.axes), state.axes
        objective = function.model.objective(flat, canonical).reshape(axes.batch)
        self.objective: Any = float(objective) if axes.single else objective
        status = points.status if axes.single else [*points.status]
        self.status: Status | list[Status] = statuses(axes.single, status)
        self.info: Any = infos(axes.single, points.info, state.name)

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self._function.model.outputs)
        status = described(self.status)
        return f"LayerResult({status}; solver {self._state.name!r}; variables {names or 'none'})"

    def report(self) -> GradientReport | Reports:
        """Why to trust the gradient, or not; one report, or a sequence of one a batch element."""
        reports = self._function.reports(self._state)
        return reports[0] if self._state.axes.single else reports

    def vjp(self, *cotangents: Any) -> tuple[Any, ...]:
        """Cotangents on the parameters from one a variable (None for zero).

        Each is shaped like its variable, or with one more axis in front for several at once.
        """
        outputs = self._function.model.outputs
        if len(cotangents) != len(outputs):
            raise DifferentiationError(
                f"vjp takes one cotangent a variable, {len(outputs)}, got {len(cotangents)}"
            )
        arrays = [
            None if c is None else _float64(f"the cotangent on {name}", c)
            for (name, _), c in zip(outputs, cotangents, strict=True)
        ]
        for (name, _), array, value in zip(outputs, arrays, self.variables, strict=True):
            if array is not None and array.shape[array.ndim - value.ndim :] != value.shape:
                raise DifferentiationError(
                    f"the cotangent on {name} has shape {array.shape}, expected {value.shape}"
                )
        pairs = zip(arrays, self.variables, strict=True)
        leads = {a.shape[: a.ndim - v.ndim] for a, v in pairs if a is not None}
        if len(leads) > 1:
            raise DifferentiationError(
                f"the cotangents have {' and '.join(map(str, sorted(leads)))} axes before those of "
                "their variables; expected the same for all"
            )
        needed = [True] * len(self._function.names)
        return tuple(self._function.vjp(self._state, arrays, needed, quiet=True))

    def jvp(self, *tangents: Any) -> tuple[Any, ...]:
        """Tangents on the variables from one a parameter (None for zero)."""
        names = self._function.names
        if len(tangents) != len(names):
            raise DifferentiationError(
                f"jvp takes one tangent a parameter, {len(names)}, got {len(tangents)}"
            )
        arrays = [
            None if t is None else _float64(f"the tangent of {name}", t)
            for name, t in zip(names, tangents, strict=True)
        ]
        for name, array, lead, shape in zip(
            names, arrays, self._state.axes.leads, self._function.shapes, strict=True
        ):
            if array is not None and array.shape != (*lead, *shape):
                raise DifferentiationError(
                    f"the tangent of {name} has shape {array.shape}, expected {(*lead, *shape)}"
                )
        return tuple(self._function.jvp(self._state, arrays))


def _float64(name: str, value: Any) -> np.ndarray[Any, Any]:
    return numbers(name, value).astype(np.float64, copy=False)


def _parametrize(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> Any:
    spec = registry.by_module("modeler", type(problem))
    if spec is not None:
        modeler: Modeler = registry.get("modeler", spec.name)
        return modeler.parametrize(problem, parameters, variables)
    if all(hasattr(problem, name) for name in ("program", "program_vjp", "retrieve")):
        program: ParametricProgram = problem
        return program
    modelers = ", ".join(registry.ready("modeler")) or "none"
    raise UnsupportedProblemError(
        f"no installed modeler knows {type(problem).__module__}.{type(problem).__qualname__}; "
        f"installed modelers: {modelers}. For matrices use ffoadapt.qp or ffoadapt.cone_program; "
        "for cvxpy problems: pip install ffoadapt-cvxpy"
    )
