"""Checks of derivatives: against closed forms, and against differences of the solver's own answers.

The oracle does not vary, so a wrong gradient from right points is rare; what these checks find is
a dual that is right for no datum but q, or an answer too loose to tell which constraints hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from .._exceptions import FFOAdaptError
from .._layers.cone_program import solve
from .._layers.result import Result
from ._problem import Problem
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped, require

__all__ = ["check_gradient", "check_gradient_closed_form"]


STEP = 1e-3


def check_gradient(
    solver: AnySolver, problem: Problem, datum: str, settings: CheckSettings = DEFAULT
) -> None:
    """The gradient of a datum, along a random direction, is the difference of two solves.

    Cotangents on x and on the dual at once; central differences with a step of 1e-3.
    """
    if problem.data.get(datum) is None or np.size(problem.data[datum]) == 0:
        raise CheckSkipped(f"the problem has no {datum}")
    rng = settings.rng(5, sum(map(ord, problem.name + datum)))
    tangents = problem.directions(datum, rng)
    here = _solve(solver, problem, settings)
    cotangents = {k: rng.standard_normal(getattr(here, k).shape) for k in ("x", *problem.dual)}
    grad = here.vjp(**cotangents)
    told = sum(_inner(getattr(grad, k), t) for k, t in tangents.items())
    ahead, behind = (
        _solve(
            solver,
            problem,
            settings,
            **{k: problem.data[k] + sign * STEP * t for k, t in tangents.items()},
        )
        for sign in (1.0, -1.0)
    )
    seen = sum(
        float(v @ (getattr(ahead, k) - getattr(behind, k))) / (2 * STEP)
        for k, v in cotangents.items()
    )
    size = sum(float(np.abs(v).sum()) for v in cotangents.values())
    limit = max(1e-4, 100 * settings.tolerance) * max(1.0, abs(seen), size)
    if not abs(told - seen) <= limit:
        raise CheckFailure(
            f"the derivative along a direction of {datum} is {told:.6g}; differences of the "
            f"solver's own answers give {seen:.6g} (expected within {limit:.1g}). Likely cause: "
            "the dual has a wrong sign, scale or order, or the answer is too loose. The report: "
            f"{here.report()}"
        )


def check_gradient_closed_form(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """The gradient is the known one, for each datum whose Jacobian has a closed form."""
    if not problem.jacobian:
        raise CheckSkipped("no closed form of its derivative is known")
    here = _solve(solver, problem, settings)
    v = settings.rng(6).standard_normal(here.x.size)
    grad = here.vjp(x=v)
    for datum, jacobian in problem.jacobian.items():
        seen, exact = getattr(grad, datum), jacobian.T @ v
        error = float(np.abs(seen - exact).max())
        limit = max(1e-4, 1000 * settings.tolerance) * max(1.0, float(np.abs(exact).max()))
        if not error <= limit:
            raise CheckFailure(
                f"the gradient of {datum} is off by {error:.3g} from the closed form; expected at "
                f"most {limit:.1g}. Likely cause: a wrong dual, or an answer too loose to tell "
                f"which constraints hold. The report: {here.report()}"
            )


def _solve(solver: AnySolver, problem: Problem, settings: CheckSettings, **changes: Any) -> Result:
    loaded, _ = require(solver, problem)
    try:
        return solve(problem.program(**changes), solver, solver_options=settings.options(loaded))
    except FFOAdaptError as error:
        raise CheckFailure(f"a problem that has a solution was not solved: {error}") from error


def _inner(a: Any, b: Any) -> float:
    product = a.multiply(b) if sparse.issparse(a) else np.asarray(a) * b
    return float(product.sum())
