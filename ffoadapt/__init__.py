"""ffoadapt: any optimization solver as a differentiable layer for torch, JAX and NumPy.

A solver hands over a primal and a dual solution; one oracle turns them into gradients.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._adapt import box_solver, conic_solver, register_solver, split_solver
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
    MissingDependencyError,
    OptionError,
    ParameterError,
    PluginError,
    ProblemError,
    ShapeError,
    SolveError,
    UnknownPluginError,
    UnsupportedProblemError,
)
from ._functional import BoxSolution, ConeSolution, QPSolution, box_qp, cone_program, qp
from ._gradient_check import GradientCheck
from ._inspect import (
    choose_solver,
    executors,
    frameworks,
    gradient_report,
    modelers,
    plugins,
    solvers,
)
from ._interfaces import (
    POLYHEDRAL,
    Differentiable,
    Executor,
    ExecutorSpec,
    Framework,
    FrameworkSpec,
    Job,
    Modeler,
    ModelerSpec,
    ParametricProgram,
    Session,
    Solver,
    SolverSpec,
)
from ._layer import Layer, LayerResult
from ._oracle.report import GradientReport
from ._problem import ConeProgram, Result, solve
from ._program import BoxForm, ConeForm, Pattern, ProgramBatch, SplitForm, Structure
from ._registry import PluginInfo
from ._settings import SolveSettings
from ._solution import Points, Solution, Status
from .hookspecs import hookimpl

if TYPE_CHECKING:
    from . import testing
    from .testing import check_solver

__version__ = "0.1.0"

__all__ = [
    "POLYHEDRAL",
    "AffineOutput",
    "AffineProgram",
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
    "Job",
    "Layer",
    "LayerResult",
    "MissingDependencyError",
    "Modeler",
    "ModelerSpec",
    "NonnegativeCone",
    "OptionError",
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
    "Result",
    "SecondOrderCone",
    "Session",
    "ShapeError",
    "Solution",
    "SolveError",
    "SolveSettings",
    "Solver",
    "SolverChoice",
    "SolverSpec",
    "SplitForm",
    "Status",
    "Structure",
    "UnknownPluginError",
    "UnsupportedProblemError",
    "ZeroCone",
    "__version__",
    "box_qp",
    "box_solver",
    "check_solver",
    "choose_solver",
    "cone_program",
    "conic_solver",
    "executors",
    "frameworks",
    "gradient_report",
    "hookimpl",
    "modelers",
    "plugins",
    "qp",
    "register_solver",
    "solve",
    "solvers",
    "split_solver",
    "testing",
]


def __getattr__(name: str) -> Any:
    """The conformance kit is imported at first use: who only solves pays nothing for it."""
    if name == "testing":
        return importlib.import_module(".testing", __name__)
    if name == "check_solver":
        return importlib.import_module(".testing", __name__).check_solver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
