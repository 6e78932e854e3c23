"""Variables that cvxpy adds for squares are taken out, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import ffoadapt
from ffoadapt_cvxpy import _modeler

clarabel = pytest.importorskip("clarabel")

Made = tuple[cp.Problem, list[cp.Parameter], list[Any]]


def ball() -> Made:
    x, c, t = cp.Variable(5), cp.Parameter(5), cp.Parameter()
    rows = [cp.norm(x) <= 1, x[0] + 0.1 * t <= 0.3]
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c) + t * x[1]), rows), [c, t], [x]


def smooth() -> Made:
    """A signal with few differences, and a term of more than three variables, which stays."""
    x, c, b = cp.Variable(8), cp.Parameter(8), cp.Parameter()
    parts = cp.sum_squares(x - c), 3 * cp.sum_squares(cp.diff(x, 2)), cp.square(cp.sum(x) - b)
    return cp.Problem(cp.Minimize(sum(parts)), [x >= -0.5]), [c, b], [x]


def correlations() -> Made:
    X, C = cp.Variable((3, 3), PSD=True), cp.Parameter((3, 3))
    fixed = [cp.diag(X) == 1]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)), fixed)
    return problem, [C], [X, fixed[0].dual_variables[0]]


def revenue() -> Made:
    """Maximized; the row of y is stated by the user, who asks for neither y nor its dual."""
    x, y, c, d = cp.Variable(4), cp.Variable(4), cp.Parameter(4), cp.Parameter(4)
    rows = [2 * y == x - c, cp.sum(x) <= 1]
    aim = cp.Maximize(d @ x - cp.sum_squares(y) + d[0] * y[1] - cp.exp(x[0]))
    return cp.Problem(aim, rows), [c, d], [x, rows[1].dual_variables[0]]


def wanted() -> Made:
    """The same, but y and the multipliers are asked for."""
    problem, parameters, (x, total) = revenue()
    y = next(v for v in problem.variables() if v.id != x.id)
    return problem, parameters, [x, y, problem.constraints[0].dual_variables[0], total]


def weighted() -> Made:
    """The coefficients are parameters, so the variables stay."""
    x, L, c = cp.Variable(4), cp.Parameter((4, 4)), cp.Parameter(4)
    aim = cp.sum_squares(L @ x - c) + 0.1 * cp.sum_squares(x)
    return cp.Problem(cp.Minimize(aim), [cp.sum(x) == 1]), [L, c], [x]


SIZES: dict[Callable[[], Made], tuple[int, int, int]] = {
    ball: (6, 0, 5),
    smooth: (9, 1, 14),
    correlations: (6, 3, 9),
    revenue: (5, 0, 4),
    wanted: (9, 4, 0),
    weighted: (8, 5, 0),
}
"""The variables and the equalities that are left, and how many pairs went."""


def layer(make: Callable[[], Made]) -> ffoadapt.Layer:
    problem, parameters, outputs = make()
    return ffoadapt.Layer(problem, parameters, outputs, solver="clarabel")


@pytest.mark.parametrize("make", SIZES)
def test_results_are_those_of_the_whole_program(
    make: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs, objective and the gradients of all parameters, in a batch."""
    short = layer(make)
    left: Any = short._function.model.structure
    n, equalities, gone = SIZES[make]
    assert (left.n, left.equalities) == (n, equalities)

    def everything(data: Any, *_: Any) -> Any:
        return data, np.ones(data.n, dtype=bool), np.ones(data.m, dtype=bool), None

    monkeypatch.setattr(_modeler, "condensed", everything)
    whole = layer(make)
    full: Any = whole._function.model.structure
    assert (full.n - n, full.m - left.m) == (gone, gone)
    rng = np.random.default_rng(3)
    values = [rng.standard_normal((4, *shape)) for shape in short._function.shapes]
    one, other = short.solve(*values), whole.solve(*values)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-9, atol=1e-9)
    assert one.report().verdicts == other.report().verdicts == ["differentiable"] * 4
    cotangents = [rng.standard_normal(v.shape) for v in one.variables]
    for found, expected in zip(one.variables, other.variables, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    gradients = one.vjp(*cotangents), other.vjp(*cotangents)
    for found, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("make", SIZES)
def test_the_objective_is_that_of_cvxpy(make: Callable[[], Made]) -> None:
    problem, parameters, outputs = make()
    result_layer = ffoadapt.Layer(problem, parameters, outputs, solver="clarabel")
    rng = np.random.default_rng(5)
    for parameter in parameters:
        parameter.value = rng.standard_normal(parameter.shape)
    result = result_layer.solve(*[parameter.value for parameter in parameters])
    problem.solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(result.objective, problem.value, rtol=1e-5, atol=1e-6)
