"""Solvers of smooth programs from scipy: SLSQP, trust-constr, and L-BFGS-B for bounds alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import optimize

from .._interfaces import Options, Session, Solver
from .._solution import Solution, Status
from .form import SmoothForm

__all__ = ["LBFGSB", "SLSQP", "TrustConstr"]


class _Scipy(Solver):
    """`scipy.optimize.minimize` with one of its methods."""

    form = "smooth"
    matrices = ()
    method: ClassVar[str] = ""
    common_options: ClassVar[Mapping[str, Any]] = {"max_iterations": "maxiter", "verbose": "disp"}

    def known_options(self) -> list[str]:
        return [*self.defaults]

    def run(self, program: SmoothForm, options: Options, **more: Any) -> Any:
        bounds = None
        if "bounds" in program.kinds:
            bounds = optimize.Bounds(program.lower, program.upper)
        return optimize.minimize(
            program.objective,
            program.start,
            method=self.method,
            jac=program.gradient,
            bounds=bounds,
            options=dict(options),
            **more,
        )


def _solution(result: Any, dual: Any, status: Status) -> Solution:
    said = {"status": result.status, "message": str(result.message), "iterations": result.nit}
    return Solution(np.asarray(result.x), dual, None, status, said)


class SLSQP(_Scipy):
    """Sequential quadratic programming; dense, for up to some hundred variables."""

    cones = ("bounds", "inequalities", "equalities")
    method = "SLSQP"
    common_options: ClassVar[Mapping[str, Any]] = {**_Scipy.common_options, "tolerance": "ftol"}
    defaults: ClassVar[Mapping[str, Any]] = {"ftol": 1e-12, "maxiter": 500, "disp": False}

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        constraints: list[dict[str, Any]] = []
        if program.m_eq:
            equal = {"fun": program.equalities, "jac": program.equality_jacobian}
            constraints.append({"type": "eq", **equal})
        if program.m_ineq:
            constraints.append(
                {
                    "type": "ineq",
                    "fun": lambda y: -program.inequalities(y),
                    "jac": lambda y: -program.inequality_jacobian(y),
                }
            )
        result = self.run(program, options, constraints=constraints)
        limit = {0: Status.OPTIMAL, 8: Status.OPTIMAL_INACCURATE, 9: Status.ITERATION_LIMIT}
        return _solution(result, None, limit.get(result.status, Status.ERROR))


class TrustConstr(_Scipy):
    """Trust regions and an interior point; takes more steps and more kinds of trouble."""

    cones = ("bounds", "inequalities", "equalities")
    method = "trust-constr"
    common_options: ClassVar[Mapping[str, Any]] = {
        **_Scipy.common_options,
        "tolerance": ("gtol", "xtol"),
    }
    defaults: ClassVar[Mapping[str, Any]] = {
        "gtol": 1e-9,
        "xtol": 1e-11,
        "barrier_tol": 1e-9,
        "maxiter": 3000,
        "disp": False,
    }

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        constraints = []
        for count, values, rows, low in (
            (program.m_ineq, program.inequalities, program.inequality_jacobian, -np.inf),
            (program.m_eq, program.equalities, program.equality_jacobian, 0.0),
        ):
            if count:
                made = optimize.NonlinearConstraint(
                    values, low, 0.0, jac=rows, hess=optimize.BFGS()
                )
                constraints.append(made)
        result = self.run(program, options, constraints=constraints, hess=optimize.BFGS())
        known = {0: Status.ITERATION_LIMIT, 1: Status.OPTIMAL, 2: Status.OPTIMAL}
        return _solution(result, None, known.get(result.status, Status.ERROR))


class LBFGSB(_Scipy):
    """Limited-memory quasi-Newton with bounds; for many variables."""

    cones = ("bounds",)
    method = "L-BFGS-B"
    common_options: ClassVar[Mapping[str, Any]] = {
        "max_iterations": ("maxiter", "maxfun"),
        "tolerance": "gtol",
        "verbose": (),
    }
    defaults: ClassVar[Mapping[str, Any]] = {
        "ftol": 1e-15,
        "gtol": 1e-9,
        "maxiter": 15000,
        "maxfun": 15000,
        "maxcor": 20,
        "maxls": 40,
    }

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        result = self.run(program, options)
        known = {0: Status.OPTIMAL, 1: Status.ITERATION_LIMIT}
        return _solution(result, None, known.get(result.status, Status.OPTIMAL_INACCURATE))
