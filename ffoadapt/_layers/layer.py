"""`Layer`: a modeler's problem as a differentiable function of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from .._exceptions import OptionError, ParameterError, UnsupportedProblemError
from .._models.reading import SPARSE, checked, dense
from .._oracle.report import Reports
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._plugins.modeler import Modeler, ParametricProgram
from .._plugins.registry import registry
from .._plugins.solver import Solver
from .._solve.options import check_options
from .._solve.settings import Settings, SolveSettings
from .function import SolveFunction
from .geometric import GeometricFunction
from .gradient_check import GradientCheck, check_gradients
from .outcome import Latest, Outcome
from .result import LayerResult
from .valued import ValuedFunction

__all__ = ["Layer"]

OTHERS = 16
"""How many sets of per-call solver options a layer remembers."""


LayerFunction = SolveFunction | ValuedFunction | GeometricFunction


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
    gp
        The problem is a geometric program: solved in logarithms; parameters, variables and their
        gradients are as the problem states them.
    held
        Parameters of the problem that are no arguments of the layer: each call takes the ``value``
        that they have then, without a gradient; inside of ``jit`` that is the one at the trace.
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
        gp: bool = False,
        held: Sequence[Any] = (),
        **settings: Unpack[SolveSettings],
    ) -> None:
        self.program = _parametrize(problem, [*parameters, *held], variables, gp)
        self._held = tuple(held)
        function = SolveFunction(self.program, Settings.of(solver, settings))
        function.latest = Latest(wanted=True, said=[])
        function.solver.job(self.program.structure)  # for errors of unknown solvers and options
        self._function: LayerFunction = function
        if function.settings.objective:
            self._function = ValuedFunction(function)
        if self.program.exponentiated:
            self._function = GeometricFunction(self._function)
        self._others: dict[Any, LayerFunction] = {}

    def __repr__(self) -> str:
        model, solver = self._function.model, self._function.settings.solver
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
        arrays = [np.asarray(framework.to_numpy(v)) for v in given]
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

    def _with(self, options: Mapping[str, Any] | None) -> LayerFunction:
        if options is None or options == {}:
            return self._function
        settings = self._function.settings
        merged = {**(settings.solver_options or {}), **check_options(options)}
        settings = replace(settings, solver_options=merged)
        key = settings.key
        function = self._others.get(key) if key is not None else None
        if function is None:
            function = self._function.with_settings(settings)
            if key is not None:  # the same options at every call keep their sessions
                if len(self._others) >= OTHERS:
                    self._others.clear()
                self._others[key] = function
        return function

    def _read(self, values: Sequence[Any]) -> tuple[Framework, Sequence[Any]]:
        """The framework of the values, and the values, which hold numbers, with those held."""
        names = self._function.names
        asked = names[: len(names) - len(self._held)]
        if len(values) != len(asked):
            raise ParameterError(
                f"the layer takes {len(asked)} parameters ({', '.join(asked) or 'none'}), got "
                f"{len(values)}"
            )
        framework = find_framework(dict(zip(asked, values, strict=True)), aside=SPARSE)
        # A sparse vector would come as a matrix of one row: as a batch.
        axes = self._function.ndims[: len(asked)]
        every = [dense(framework, v) if n == 2 else v for v, n in zip(values, axes, strict=True)]
        every += [_held_value(n, p) for n, p in zip(names[len(asked) :], self._held, strict=True)]
        return framework, list(map(checked, names, every))


def _held_value(name: str, parameter: Any) -> Any:
    """What a parameter that is no argument has for its value at a call."""
    value = getattr(parameter, "value", None)
    if value is None:
        raise ParameterError(
            f"the held parameter {name!r} has no value; set {name}.value before the call, or make "
            "it an argument: list it in parameters"
        )
    return value.toarray() if isinstance(value, SPARSE) else np.asarray(value)


def _parametrize(
    problem: Any, parameters: Sequence[Any], variables: Sequence[Any], gp: bool
) -> ParametricProgram:
    spec = registry.by_module("modeler", type(problem))
    if spec is not None:
        modeler: Modeler = registry.get("modeler", spec.name)
        made = modeler.geometric if gp else modeler.parametrize
        return made(problem, parameters, variables)
    if gp:
        raise OptionError("gp=True is for problems of a modeler, such as cvxpy.Problem")
    if isinstance(problem, ParametricProgram):
        return problem
    kind = f"{type(problem).__module__}.{type(problem).__qualname__}"
    if {"program", "program_vjp", "retrieve"} <= set(dir(problem)):
        members = {*vars(ParametricProgram), *ParametricProgram.__annotations__}
        lacking = sorted(m for m in members - set(dir(problem)) if not m.startswith("_"))
        raise UnsupportedProblemError(
            f"{kind} is no ffoadapt.ParametricProgram: it lacks {', '.join(lacking)}. Make it a "
            "subclass of ffoadapt.ParametricProgram, which has defaults for most of its members"
        )
    modelers = ", ".join(registry.ready("modeler")) or "none"
    raise UnsupportedProblemError(
        f"no installed modeler knows {kind}; "
        f"installed modelers: {modelers}. For matrices use ffoadapt.qp or ffoadapt.cone_program; "
        "for cvxpy problems: pip install ffoadapt-cvxpy"
    )
