"""Auxiliary variables that cvxpy adds are no kink and no missing uniqueness with any solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import ffoadapt

pytest.importorskip("clarabel")

Made = tuple[cp.Problem, list[cp.Parameter], list[cp.Variable], list[np.ndarray]]

RNG = np.random.default_rng(7)
SCENARIOS, MIXING, RATES = RNG.normal(size=(10, 3)), RNG.normal(size=(5, 3)), RNG.normal(size=3)


def bounded(make: Callable[[Any], Any], p: list[float]) -> Made:
    """min |x - p|^2 with a constraint that does not hold."""
    x, target, bound = cp.Variable(3), cp.Parameter(3), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - target)), [make(x) <= bound])
    return problem, [target, bound], [x], [np.array(p), np.array(4.0)]


def mixed() -> Made:
    x, target, A, b = cp.Variable(3), cp.Parameter(3), cp.Parameter((5, 3)), cp.Parameter(5)
    rows = [A @ x + 0.2 * cp.norm1(x) <= b, cp.norm1(x) <= 60]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - target)), rows)
    return problem, [target, A, b], [x], [RATES, MIXING, np.full(5, 0.8)]


def control(soft: str, limit: float) -> Made:
    """Speeds above a limit cost, linearly or their square, with slacks or with `cp.pos`."""
    N, B = 6, np.array([0.045, 0.3])
    X, U = cp.Variable((N + 1, 2)), cp.Variable(N)
    start, weight, most = cp.Parameter(2), cp.Parameter(nonneg=True), cp.Parameter()
    step = np.array([[1.0, 0.3], [0.0, 1.0]])
    rows = [X[0] == start, cp.abs(U) <= 5]
    rows += [X[k + 1] == step @ X[k] + B * U[k] for k in range(N)]
    cost = weight * cp.sum_squares(X[:, 0] - 1) + 0.2 * cp.sum_squares(U)
    if "slack" in soft:
        over = cp.Variable(N + 1, nonneg=True)
        rows.append(X[:, 1] <= most + over)
    else:
        over = cp.pos(X[:, 1] - most)
    cost += 20 * (cp.sum_squares(over) if "square" in soft else cp.sum(over))
    values = [np.array([-0.3, 0.1]), np.array(1.5), np.array(limit)]
    return cp.Problem(cp.Minimize(cost), rows), [start, weight, most], [U, X], values


def risk(tail: float, constrained: bool) -> Made:
    """Conditional value at risk, of a whole number of scenarios or not."""
    w, t = cp.Variable(3), cp.Variable()
    returns, means, most = cp.Parameter((10, 3)), cp.Parameter(3), cp.Parameter()
    worst = t + cp.sum(cp.pos(-returns @ w - t)) / tail
    cost, rows = cp.sum_squares(w) - means @ w, [cp.sum(w) == 1, w >= -2]
    if constrained:
        rows.append(worst <= most)
    else:
        cost += 0.3 * worst + 0.0 * most
    values = [SCENARIOS, np.array([0.1, 0.4, -0.2]), np.array(9.0)]
    return cp.Problem(cp.Minimize(cost), rows), [returns, means, most], [w], values


def turnover() -> Made:
    w, old, means = cp.Variable(4), cp.Parameter(4), cp.Parameter(4)
    rows = [cp.sum(w) == 1, cp.norm1(w - old) <= 6]
    problem = cp.Problem(cp.Minimize(2 * cp.sum_squares(w) - means @ w), rows)
    values = [np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.3, -0.2, 0.1, 0.5])]
    return problem, [old, means], [w], values


FAMILIES: dict[str, Callable[[], Made]] = {
    "abs": lambda: bounded(lambda x: cp.max(cp.abs(x)), [0.6, -0.35, 0.0]),
    "norm_inf": lambda: bounded(cp.norm_inf, [0.6, -0.6, 0.6]),
    "max": lambda: bounded(cp.max, [0.5, 0.5, 0.1]),
    "pos": lambda: bounded(lambda x: cp.sum(cp.pos(x)), [0.5, -0.5, 0.0]),
    "norm1": lambda: bounded(cp.norm1, [0.0, 0.3, 0.0]),
    "norm1 in rows": mixed,
    "pos, soft": lambda: control("pos", 6.0),
    "pos, soft and due": lambda: control("pos", 0.3),
    "pos squared": lambda: control("pos square", 6.0),
    "pos squared and due": lambda: control("pos square", 0.3),
    "slacks": lambda: control("slack", 6.0),
    "slacks squared": lambda: control("slack square", 6.0),
    "cvar of two": lambda: risk(2.0, False),
    "cvar of parts": lambda: risk(2.4, False),
    "cvar as a limit": lambda: risk(2.0, True),
    "turnover": turnover,
}

SOLVERS = ("clarabel", "scs", "osqp", "daqp", "piqp", "highs", "proxqp", "qpalm")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_nobody_sees_is_no_kink(family: str, solver: str) -> None:
    """And the gradient of each parameter is right."""
    if solver not in ffoadapt.solvers():
        pytest.skip(f"{solver} is not installed")
    problem, parameters, variables, values = FAMILIES[family]()
    layer = ffoadapt.Layer(problem, parameters, variables, solver=solver)
    result, rng = layer.solve(*values), np.random.default_rng(0)
    assert result.report().verdict == "differentiable", str(result.report())
    v = [rng.standard_normal(out.shape) for out in result.variables]
    tight = {"solver_options": {"tolerance": 1e-11}}
    truth = ffoadapt.Layer(problem, parameters, variables, solver="clarabel", **tight)
    for k, gradient in enumerate(result.vjp(*v)):
        d = 1e-4 * rng.standard_normal(values[k].shape)
        ends = []
        for sign in (1.0, -1.0):
            moved = [value + sign * d if j == k else value for j, value in enumerate(values)]
            outputs = truth.solve(*moved).variables
            ends.append(sum(float((a * b).sum()) for a, b in zip(v, outputs, strict=True)))
        slope = ends[0] - ends[1]
        assert abs(slope - 2.0 * float((gradient * d).sum())) <= 1e-4 * 1e-4 + 1e-3 * abs(slope)


def kinks() -> dict[str, Made]:
    x, y, p, c = cp.Variable(2), cp.Variable(), cp.Parameter(2), cp.Parameter()
    near = cp.Minimize(cp.sum_squares(x - p))
    ones = np.array([1.0, 0.2])
    return {
        "corner": (cp.Problem(near, [x <= 1, x >= -1]), [p], [x], [ones]),
        "abs": (cp.Problem(near, [cp.abs(x) <= 1]), [p], [x], [ones]),
        "max of both": (cp.Problem(near, [cp.max(x) <= 1]), [p], [x], [np.ones(2)]),
        "abs and its bound": (
            cp.Problem(cp.Minimize(cp.square(y - 2)), [cp.abs(y) <= c]),
            [c],
            [y],
            [np.array(2.0)],
        ),
        "pos": (cp.Problem(cp.Minimize(cp.square(y - c)), [y >= 0]), [c], [y], [np.array(0.0)]),
        "pos in the objective": (
            cp.Problem(cp.Minimize(cp.square(y - c) + cp.pos(y))),
            [c],
            [y],
            [np.array(0.0)],
        ),
        "pos squared": (
            cp.Problem(cp.Minimize(cp.square(y - c) + cp.square(cp.pos(y - 2)))),
            [c],
            [y],
            [np.array(2.0)],
        ),
        "norm_inf in the objective": (
            cp.Problem(cp.Minimize(cp.sum_squares(x - p) + cp.norm_inf(x))),
            [p],
            [x],
            [np.array([2.5, 2.0])],
        ),
    }


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kink", kinks())
def test_what_shows_is_a_kink(kink: str, solver: str) -> None:
    if solver not in ffoadapt.solvers():
        pytest.skip(f"{solver} is not installed")
    problem, parameters, variables, values = kinks()[kink]
    layer = ffoadapt.Layer(problem, parameters, variables, solver=solver)
    assert layer.solve(*values).report().verdict == "weakly_active"
