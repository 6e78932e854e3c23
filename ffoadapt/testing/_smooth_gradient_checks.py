"""Checks of a solver of functions as a user sees it: batches, gradients, verdicts."""

from __future__ import annotations

import numpy as np

from .._exceptions import FFOAdaptError
from .._types import Floats
from ._smooth_point import (
    smooth_require,
)
from ._smooth_problem import SmoothProblem
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings

__all__ = ["check_batch", "check_gradient", "check_verdict"]


def check_batch(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A batch gives what its elements give one by one, values and gradients."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    rng = settings.rng(4)
    tilts = 0.02 * rng.standard_normal((3, problem.n))
    cotangent = rng.standard_normal(problem.n)
    limit = 1e2 * settings.tolerance
    try:
        together = layer.solve({**params, "tilt": tilts})
        gradients = together.vjp(y=np.tile(cotangent, (3, 1)))
        for i, tilt in enumerate(tilts):
            alone = layer.solve({**params, "tilt": tilt})
            _close("y", together.y[i], alone.y, i, limit)
            gradient = alone.vjp(y=cotangent)["tilt"]
            _close("the gradient", gradients["tilt"][i], gradient, i, limit)
    except FFOAdaptError as error:
        raise CheckFailure(f"a batch of three solvable programs failed: {error}") from error


def _close(what: str, seen: Floats, wanted: Floats, i: int, limit: float) -> None:
    error = float(np.abs(seen - wanted).max(initial=0.0))
    if not error <= limit * max(1.0, float(np.abs(wanted).max(initial=0.0))):
        raise CheckFailure(
            f"{what} of batch element {i} differs by {error:.3g} from the same program solved "
            "alone. Likely cause: the solver keeps something from one call to the next"
        )


def check_gradient(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Gradients of a tilt of the objective and of shifts of the rows are differences of solves."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    try:
        check = layer.check_gradients(params, directions=1, seed=settings.seed)
    except FFOAdaptError as error:
        raise CheckFailure(f"a program near a solvable one failed: {error}") from error
    if not check.ok:
        raise CheckFailure(f"the gradient differs from differences of solves: {check}")


def check_verdict(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Where equalities depend on each other the report says so, whatever the solver returns."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    try:
        verdict = layer.solve(params).report().verdict  # type: ignore[union-attr]
    except FFOAdaptError as error:
        raise CheckFailure(f"it is solvable, and failed: {error}") from error
    if verdict != "dependent_constraints":
        raise CheckFailure(f"the verdict is {verdict!r}, expected 'dependent_constraints'")
