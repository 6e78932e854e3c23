"""Solvers of smooth programs from scipy: SLSQP, trust-constr, and L-BFGS-B for bounds alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import optimize

from .._plugins.solver import Options, Session, Solver
from .._program.points import Solution, Status
from .form import SmoothForm

__all__ = ["LBFGSB", "SLSQP", "TrustConstr"]


FEASIBLE = 1e-6
"""A larger violation is none of rounding."""


class _Scipy(Solver):
    """`scipy.optimize.minimize` with one of its methods."""

    form = "smooth"
    matrices = ()
    method: ClassVar[str] = ""
    common_options: ClassVar[Mapping[str, Any]] = {"max_iterations": "maxiter", "verbose": "disp"}

    def known_options(self) -> list[str]:
        return [*self.defaults]

    def run(
        self,
        program: SmoothForm,
        options: Options,
        objective: Any = None,
        inside: bool = False,
        **more: Any,
    ) -> Any:
        bounds = None
        if "bounds" in program.kinds:
            hold = inside & (program.lower < program.start) & (program.start < program.upper)
            bounds = optimize.Bounds(program.lower, program.upper, keep_feasible=hold)
        return optimize.minimize(
            objective or program.objective,
            program.start,
            method=self.method,
            jac=program.gradient,
            bounds=bounds,
            options=dict(options),
            **more,
        )


def _solution(result: Any, dual: Any, status: Status) -> Solution:
    status = status if "status" in result else Status.OPTIMAL  # nothing is free, says scipy
    known = {"status": "status", "message": "message", "iterations": "nit"}
    said = {name: result[own] for name, own in known.items() if own in result}
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
        known = {0: Status.OPTIMAL, 8: _held(program, result.x), 9: Status.ITERATION_LIMIT}
        return _solution(result, None, known.get(result.get("status"), Status.ERROR))


class _Curvature(optimize.SR1):  # type: ignore[misc]
    """Symmetric rank one: also of functions that are not convex; linear ones have none."""

    def update(self, delta_x: Any, delta_grad: Any) -> None:
        if delta_grad.any():  # else scipy warns
            super().update(delta_x, delta_grad)


class TrustConstr(_Scipy):
    """Trust regions and an interior point; takes more steps and more kinds of trouble.

    Where it fails it starts again, and then inequalities and bounds that hold at the start hold at
    every point at which functions are evaluated: it goes slower, but stays in their domain.
    """

    cones = ("bounds", "inequalities", "equalities")
    method = "trust-constr"
    common_options: ClassVar[Mapping[str, Any]] = {
        **_Scipy.common_options,
        "tolerance": ("gtol", "barrier_tol"),
    }
    defaults: ClassVar[Mapping[str, Any]] = {
        "gtol": 1e-8,
        "xtol": 1e-11,
        "barrier_tol": 1e-9,
        "maxiter": 3000,
        "disp": False,
    }

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        try:
            solution = self._solved(program, options, False)
        except _OutsideError as error:
            solution = Solution(status=Status.ERROR, info={"message": str(error)})
        if solution.status is Status.ERROR and program.kinds - {"equalities"}:
            solution = self._solved(program, options, True)
        return solution

    def _solved(self, program: SmoothForm, options: Options, inside: bool) -> Solution:
        p, constraints, given = program, [], dict(options)
        read: Callable[[Any], Any] = _as_it_is if inside else _finite
        counts = {"ineq": p.m_ineq, "eq": p.m_eq, "bounds": p.n}
        if p.m_ineq:
            rows, hold = p.inequality_jacobian, inside & (p.inequalities(p.start) < 0.0)
            constraints.append(_rows(read(p.inequalities), -np.inf, rows, hold))
        if p.m_eq:
            constraints.append(_rows(read(p.equalities), 0.0, p.equality_jacobian, False))
        if constraints:  # rows that depend on each other are no error for it
            given["factorization_method"] = "SVDFactorization"
        gradient, barrier = given.pop("gtol"), given["barrier_tol"]

        def done(y: Any, state: Any) -> bool:  # scipy's own test leaves the barrier out
            residual = max(state.optimality, state.constr_violation)
            return residual < gradient and getattr(state, "barrier_parameter", 0.0) < barrier

        result = self.run(
            p,
            given | {"gtol": 0.0},
            read(p.objective),
            inside,
            constraints=constraints,
            hess=_Curvature(),
            callback=done,
        )
        known = {0: Status.ITERATION_LIMIT, 3: Status.OPTIMAL}
        known |= dict.fromkeys((2, 4), _held(p, result.x))
        here = [k for k, m in counts.items() if m and (k != "bounds" or "bounds" in p.kinds)]
        v = {k: np.zeros(m) for k, m in counts.items()} | dict(zip(here, result.v, strict=True))
        dual = v["ineq"], v["eq"], np.maximum(-v["bounds"], 0.0), np.maximum(v["bounds"], 0.0)
        return _solution(result, dual, known.get(result.get("status"), Status.ERROR))


def _held(program: SmoothForm, y: Any) -> Status:
    """Of a point that was left because there is no better one near: whether it is one at all."""
    if program.violation(y) <= FEASIBLE:
        return Status.OPTIMAL_INACCURATE
    return Status.ERROR


class _OutsideError(Exception):
    """A function has no value at a point that the solver came to."""


def _as_it_is(function: Any) -> Any:
    return function


def _finite(function: Any) -> Any:
    """The function, but it is an error where it has no value: scipy would go on until the end."""

    def asked(y: Any) -> Any:
        value = function(y)
        if not np.isfinite(value).all():
            raise _OutsideError("it came to a point at which a function has no finite value")
        return value

    return asked


def _rows(values: Any, low: float, rows: Any, hold: Any) -> Any:
    curved = _Curvature()
    return optimize.NonlinearConstraint(values, low, 0.0, rows, curved, keep_feasible=hold)


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
        return _solution(result, None, known.get(result.get("status"), Status.OPTIMAL_INACCURATE))
