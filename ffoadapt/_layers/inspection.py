"""What is installed, which solver would be chosen, and how far to trust a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .._exceptions import ProblemError
from .._oracle.report import GradientReport
from .._plugins.registry import KINDS, PluginInfo, registry
from .._solve.choice import SolverChoice, choose
from .cone_program import ConeProgram, solve
from .layer import Layer
from .outcome import Outcome
from .result import LayerResult, Result
from .solutions import BoxSolution, ConeSolution, QPSolution

__all__ = [
    "algorithms",
    "choose_solver",
    "executors",
    "frameworks",
    "get_plugin",
    "gradient_report",
    "modelers",
    "plugins",
    "solvers",
]


Solved = BoxSolution | ConeSolution | QPSolution


def solvers(form: Literal["cone", "smooth"] = "cone") -> list[str]:
    """Names of the solvers that are ready to use: of programs of matrices, or with ``"smooth"`` of
    programs of functions."""
    if form not in ("cone", "smooth"):
        raise ProblemError(f"form={form!r}; expected 'cone' or 'smooth'")
    return sorted(name for name, spec in registry.ready("solver").items() if spec.form == form)


def frameworks() -> list[str]:
    """Names of the frameworks that are ready to use."""
    return sorted(registry.ready("framework"))


def modelers() -> list[str]:
    """Names of the modelers that are ready to use."""
    return sorted(registry.ready("modeler"))


def executors() -> list[str]:
    """Names of the executors that are ready to use."""
    return sorted(registry.ready("executor"))


def algorithms() -> list[str]:
    """Names of the algorithms of `ffoadapt.bilevel` that are ready to use."""
    return sorted(registry.ready("algorithm"))


def plugins() -> list[PluginInfo]:
    """Every plugin found, the unusable ones with the reason and what to do."""
    return registry.listing()


def get_plugin(kind: str, name: str) -> Any:
    """The object behind a name: a `Solver`, `Framework`, `Modeler`, `Executor` or `Algorithm`.

    How one plugin reaches another without importing it.

    Raises
    ------
    UnknownPluginError, MissingDependencyError
    """
    if kind not in KINDS:
        raise ProblemError(f"kind={kind!r}; expected one of {', '.join(KINDS)}")
    return registry.get(kind, name)


def choose_solver(program: ConeProgram | Layer) -> SolverChoice:
    """Which installed solver ``solver="auto"`` takes for a program, and why."""
    if isinstance(program, Layer):
        return choose(program.program.structure)
    if isinstance(program, ConeProgram):
        return choose(program.structure)
    raise ProblemError(
        f"choose_solver takes an ffoadapt.ConeProgram or Layer, got {type(program).__name__}"
    )


def gradient_report(
    target: ConeProgram | Layer | Result | LayerResult | Outcome | Solved,
    *values: Any,
    solver: Any = None,
    solver_options: Mapping[str, Any] | None = None,
) -> GradientReport | Sequence[GradientReport]:
    """Why to trust a gradient, or not.

    Parameters
    ----------
    target
        A program, a layer (with its parameter ``values``), the result of solving either, what
        `qp`, `box_qp` or `cone_program` returned, or `Layer.last`.
    solver, solver_options
        How to solve a program; a layer has its own solver.
    """
    if isinstance(target, Layer):
        if solver is not None:
            raise ProblemError("a layer has its own solver; build another layer to compare")
        return target.solve(*values, solver_options=solver_options).report()
    if isinstance(target, ConeProgram):
        return solve(target, solver or "auto", solver_options=solver_options).report()
    if isinstance(target, Result | LayerResult | Outcome | Solved):
        return target.report()
    raise ProblemError(
        "gradient_report takes a ConeProgram, a Layer with its parameter values, a result, or what "
        "qp, box_qp or cone_program returned, got "
        f"{type(target).__name__}"
    )
