"""The conformance kit: what a solver, framework, modeler or algorithm must get right, as tests.

A third party adopts a suite in three lines, under pytest:

    class TestMine(ffoadapt.testing.SolverSuite):
        solver = "mine"

`ffoadapt.check_solver("mine")` runs the same checks without pytest, which this package never
imports. The checks are plain functions that raise `CheckFailure`.
"""

from __future__ import annotations

from ._algorithm_suite import AlgorithmSuite
from ._checks import CHECKS, SMOOTH_CHECKS, Case, Check, cases
from ._crash_checks import check_survives
from ._declaration_checks import (
    check_common_options,
    check_declarations,
    check_declared_cones,
    check_discovery,
    check_lazy_import,
    check_quiet,
    check_tolerance,
    check_unknown_option,
)
from ._framework_suite import FrameworkSuite
from ._gradient_checks import check_gradient, check_gradient_closed_form
from ._modeler_suite import ModelerCase, ModelerSuite
from ._point_checks import (
    check_box_dual_sign,
    check_complementarity,
    check_dual_feasibility,
    check_dual_sign,
    check_objective,
    check_primal_feasibility,
    check_psd_order,
    check_solution,
    check_solved,
    check_stationarity,
)
from ._problem import Problem
from ._problems import problems
from ._reference import ReferenceSolver
from ._report import CheckReport, CheckResult, check_solver
from ._smooth_problem import SmoothProblem
from ._smooth_problems import smooth_problems
from ._solve_checks import (
    check_batch,
    check_determinism,
    check_inputs_unmodified,
    check_session,
    check_threads,
    check_warm_start,
)
from ._solver_suite import SolverSuite
from ._status_checks import check_iteration_limit, check_recovery, check_status
from ._subject import CheckFailure, CheckSettings, CheckSkipped

__all__ = [
    "CHECKS",
    "SMOOTH_CHECKS",
    "AlgorithmSuite",
    "Case",
    "Check",
    "CheckFailure",
    "CheckReport",
    "CheckResult",
    "CheckSettings",
    "CheckSkipped",
    "FrameworkSuite",
    "ModelerCase",
    "ModelerSuite",
    "Problem",
    "ReferenceSolver",
    "SmoothProblem",
    "SolverSuite",
    "cases",
    "check_batch",
    "check_box_dual_sign",
    "check_common_options",
    "check_complementarity",
    "check_declarations",
    "check_declared_cones",
    "check_determinism",
    "check_discovery",
    "check_dual_feasibility",
    "check_dual_sign",
    "check_gradient",
    "check_gradient_closed_form",
    "check_inputs_unmodified",
    "check_iteration_limit",
    "check_lazy_import",
    "check_objective",
    "check_primal_feasibility",
    "check_psd_order",
    "check_quiet",
    "check_recovery",
    "check_session",
    "check_solution",
    "check_solved",
    "check_solver",
    "check_stationarity",
    "check_status",
    "check_survives",
    "check_threads",
    "check_tolerance",
    "check_unknown_option",
    "check_warm_start",
    "problems",
    "smooth_problems",
]
