"""ffoadapt: any optimization solver as a differentiable layer for torch, JAX and NumPy.

A solver hands over a primal and a dual solution; one oracle turns them into gradients.

Names are imported at first use, so that ``import ffoadapt`` costs next to nothing: not even numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; `_WHERE` says the same to the interpreter
    from . import bilevel, testing
    from ._adapt import (
        box_solver,
        conic_solver,
        register_solver,
        smooth_solver,
        split_solver,
    )
    from ._affine import AffineOutput, AffineProgram
    from ._choose import SolverChoice
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
    from ._foreign import call_each
    from ._forms import BoxForm, ConeForm, SplitForm
    from ._functional import BoxSolution, ConeSolution, QPSolution, box_qp, cone_program, qp
    from ._gradient_check import GradientCheck
    from ._inspect import (
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
    from ._interfaces import (
        POLYHEDRAL,
        Algorithm,
        AlgorithmSpec,
        BilevelState,
        Differentiable,
        Executor,
        ExecutorSpec,
        Framework,
        FrameworkSpec,
        Job,
        Modeler,
        ModelerSpec,
        Options,
        ParametricProgram,
        Session,
        Solver,
        SolverSpec,
        TracedSolve,
    )
    from ._layer import Layer, LayerResult
    from ._least_distance import LeastDistance
    from ._oracle.report import GradientReport
    from ._oracle.resolve import Resolve
    from ._outcome import Outcome
    from ._pattern import Pattern
    from ._problem import ConeProgram, Result, solve
    from ._program import ProgramBatch
    from ._registry import PluginInfo
    from ._settings import SolveSettings
    from ._smooth.form import SmoothForm
    from ._smooth.layer import SmoothLayer, SmoothResult, SmoothSolution, smooth
    from ._smooth.operators import operator_program
    from ._smooth.settings import SmoothSettings
    from ._solution import Points, Solution, Solutions, Status
    from ._structure import Structure
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
    "LeastDistance",
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
    "Solutions",
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
    "call_each",
    "check_solver",
    "choose_solver",
    "cone_program",
    "conic_solver",
    "executors",
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
    "_adapt": "box_solver conic_solver register_solver smooth_solver split_solver",
    "_affine": "AffineOutput AffineProgram",
    "_choose": "SolverChoice",
    "_cones": "Cone ExponentialCone NonnegativeCone PSDCone PowerCone SecondOrderCone ZeroCone",
    "_exceptions": (
        "DifferentiationError DuplicatePluginError FFOAdaptError InaccurateSolutionWarning "
        "MissingDependencyError "
        "OptionError ParameterError PluginError ProblemError ShapeError SolveError "
        "UnknownPluginError UnsupportedProblemError ZeroGradientWarning"
    ),
    "_foreign": "call_each",
    "_functional": "BoxSolution ConeSolution QPSolution box_qp cone_program qp",
    "_gradient_check": "GradientCheck",
    "_inspect": (
        "algorithms choose_solver executors frameworks get_plugin gradient_report modelers plugins "
        "solvers"
    ),
    "_interfaces": (
        "Algorithm AlgorithmSpec BilevelState Differentiable Executor ExecutorSpec Framework "
        "FrameworkSpec Job Modeler ModelerSpec Options POLYHEDRAL ParametricProgram Session "
        "Solver SolverSpec TracedSolve"
    ),
    "_layer": "Layer LayerResult",
    "_least_distance": "LeastDistance",
    "_oracle.report": "GradientReport",
    "_oracle.resolve": "Resolve",
    "_outcome": "Outcome",
    "_problem": "ConeProgram Result solve",
    "_forms": "BoxForm ConeForm SplitForm",
    "_pattern": "Pattern",
    "_program": "ProgramBatch",
    "_structure": "Structure",
    "_registry": "PluginInfo",
    "_settings": "SolveSettings",
    "_smooth.form": "SmoothForm",
    "_smooth.layer": "SmoothLayer SmoothResult SmoothSolution smooth",
    "_smooth.operators": "operator_program",
    "_smooth.settings": "SmoothSettings",
    "_solution": "Points Solution Solutions Status",
    "hookspecs": "hookimpl",
    "testing": "check_solver",
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in ("bilevel", "testing"):
        return importlib.import_module(f".{name}", __name__)
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return __all__
