"""ffoadapt: any optimization solver as a differentiable layer for torch, JAX and NumPy.

A solver hands over a primal and a dual solution; one oracle turns them into gradients.

Names are imported at first use, so that ``import ffoadapt`` costs next to nothing: not even numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; `_WHERE` says the same to the interpreter
    from . import bilevel, experimental, testing
    from ._cones import (
        Cone,
        ExponentialCone,
        NonnegativeCone,
        PowerCone,
        PSDCone,
        SecondOrderCone,
        ZeroCone,
    )
    from ._exceptions import (
        DifferentiationError,
        DuplicatePluginError,
        FFOAdaptError,
        InaccurateSolutionWarning,
        MissingDependencyError,
        OptionError,
        ParameterError,
        PluginError,
        ProblemError,
        ShapeError,
        SolveError,
        UnknownPluginError,
        UnsupportedProblemError,
        ZeroGradientWarning,
    )
    from ._layers.cone_program import ConeProgram, solve
    from ._layers.gradient_check import GradientCheck
    from ._layers.inspection import (
        algorithms,
        choose_solver,
        executors,
        frameworks,
        get_plugin,
        gradient_report,
        modelers,
        plugins,
        solvers,
    )
    from ._layers.layer import Layer
    from ._layers.matrices import box_qp, cone_program, qp
    from ._layers.outcome import Outcome
    from ._layers.result import LayerResult, Result
    from ._layers.solutions import BoxSolution, ConeSolution, QPSolution
    from ._models.affine import AffineOutput, AffineProgram
    from ._oracle.report import GradientReport
    from ._oracle.resolve import Resolve
    from ._plugins.algorithm import Algorithm, BilevelState
    from ._plugins.decorators import (
        box_solver,
        conic_solver,
        register_solver,
        smooth_solver,
        split_solver,
    )
    from ._plugins.executor import Executor, Job
    from ._plugins.framework import Differentiable, Framework, TracedSolve
    from ._plugins.modeler import Modeler, ParametricProgram
    from ._plugins.records import (
        AlgorithmSpec,
        ExecutorSpec,
        FrameworkSpec,
        ModelerSpec,
        SolverSpec,
    )
    from ._plugins.registry import PluginInfo
    from ._plugins.solver import POLYHEDRAL, Options, Session, Solver
    from ._program.batch import ProgramBatch
    from ._program.forms import BoxForm, ConeForm, SplitForm
    from ._program.pattern import Pattern
    from ._program.points import Points, Solution, Status
    from ._program.structure import Structure
    from ._smooth.form import SmoothForm
    from ._smooth.layer import SmoothLayer, smooth
    from ._smooth.operators import operator_program
    from ._smooth.results import SmoothResult, SmoothSolution
    from ._smooth.settings import SmoothSettings
    from ._solve.choice import SolverChoice
    from ._solve.settings import SolveSettings
    from .hookspecs import hookimpl
    from .testing import check_solver

__version__ = "0.1.0"

__all__ = [
    "POLYHEDRAL",
    "AffineOutput",
    "AffineProgram",
    "Algorithm",
    "AlgorithmSpec",
    "BilevelState",
    "BoxForm",
    "BoxSolution",
    "Cone",
    "ConeForm",
    "ConeProgram",
    "ConeSolution",
    "Differentiable",
    "DifferentiationError",
    "DuplicatePluginError",
    "Executor",
    "ExecutorSpec",
    "ExponentialCone",
    "FFOAdaptError",
    "Framework",
    "FrameworkSpec",
    "GradientCheck",
    "GradientReport",
    "InaccurateSolutionWarning",
    "Job",
    "Layer",
    "LayerResult",
    "MissingDependencyError",
    "Modeler",
    "ModelerSpec",
    "NonnegativeCone",
    "OptionError",
    "Options",
    "Outcome",
    "PSDCone",
    "ParameterError",
    "ParametricProgram",
    "Pattern",
    "PluginError",
    "PluginInfo",
    "Points",
    "PowerCone",
    "ProblemError",
    "ProgramBatch",
    "QPSolution",
    "Resolve",
    "Result",
    "SecondOrderCone",
    "Session",
    "ShapeError",
    "SmoothForm",
    "SmoothLayer",
    "SmoothResult",
    "SmoothSettings",
    "SmoothSolution",
    "Solution",
    "SolveError",
    "SolveSettings",
    "Solver",
    "SolverChoice",
    "SolverSpec",
    "SplitForm",
    "Status",
    "Structure",
    "TracedSolve",
    "UnknownPluginError",
    "UnsupportedProblemError",
    "ZeroCone",
    "ZeroGradientWarning",
    "__version__",
    "algorithms",
    "bilevel",
    "box_qp",
    "box_solver",
    "check_solver",
    "choose_solver",
    "cone_program",
    "conic_solver",
    "executors",
    "experimental",
    "frameworks",
    "get_plugin",
    "gradient_report",
    "hookimpl",
    "modelers",
    "operator_program",
    "plugins",
    "qp",
    "register_solver",
    "smooth",
    "smooth_solver",
    "solve",
    "solvers",
    "split_solver",
    "testing",
]

_WHERE = {
    "_cones": "Cone ExponentialCone NonnegativeCone PSDCone PowerCone SecondOrderCone ZeroCone",
    "_exceptions": (
        "DifferentiationError DuplicatePluginError FFOAdaptError InaccurateSolutionWarning "
        "MissingDependencyError OptionError ParameterError PluginError ProblemError "
        "ShapeError SolveError UnknownPluginError UnsupportedProblemError ZeroGradientWarning"
    ),
    "_layers.cone_program": "ConeProgram solve",
    "_layers.gradient_check": "GradientCheck",
    "_layers.inspection": (
        "algorithms choose_solver executors frameworks get_plugin gradient_report modelers "
        "plugins solvers"
    ),
    "_layers.layer": "Layer",
    "_layers.matrices": "box_qp cone_program qp",
    "_layers.outcome": "Outcome",
    "_layers.result": "LayerResult Result",
    "_layers.solutions": "BoxSolution ConeSolution QPSolution",
    "_models.affine": "AffineOutput AffineProgram",
    "_oracle.report": "GradientReport",
    "_oracle.resolve": "Resolve",
    "_plugins.algorithm": "Algorithm BilevelState",
    "_plugins.decorators": "box_solver conic_solver register_solver smooth_solver split_solver",
    "_plugins.executor": "Executor Job",
    "_plugins.framework": "Differentiable Framework TracedSolve",
    "_plugins.modeler": "Modeler ParametricProgram",
    "_plugins.records": "AlgorithmSpec ExecutorSpec FrameworkSpec ModelerSpec SolverSpec",
    "_plugins.registry": "PluginInfo",
    "_plugins.solver": "Options POLYHEDRAL Session Solver",
    "_program.batch": "ProgramBatch",
    "_program.forms": "BoxForm ConeForm SplitForm",
    "_program.pattern": "Pattern",
    "_program.points": "Points Solution Status",
    "_program.structure": "Structure",
    "_smooth.form": "SmoothForm",
    "_smooth.layer": "SmoothLayer smooth",
    "_smooth.operators": "operator_program",
    "_smooth.results": "SmoothResult SmoothSolution",
    "_smooth.settings": "SmoothSettings",
    "_solve.choice": "SolverChoice",
    "_solve.settings": "SolveSettings",
    "hookspecs": "hookimpl",
    "testing": "check_solver",
}
_MOVED = {"LeastDistance", "Solutions", "call_each"}
_MODULE = {name: module for module, names in _WHERE.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in ("bilevel", "experimental", "testing"):
        return importlib.import_module(f".{name}", __name__)
    if name not in _MODULE:
        moved = f"; it is {__name__}.experimental.{name} now" if name in _MOVED else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{moved}")
    value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return __all__
