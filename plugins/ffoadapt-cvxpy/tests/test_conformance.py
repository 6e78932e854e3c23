"""The conformance kit of ffoadapt on this plugin; references are closed forms or cvxpy itself."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ffoadapt.testing import ModelerCase, ModelerSuite


def by_cvxpy(problem, parameters, variables):
    """Solutions by `problem.solve`, which shares no code with the layer."""

    def reference(*values):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.value = value
        tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
        problem.solve(solver="CLARABEL", **tight)
        return [variable.value for variable in variables]

    return reference


def case(name, problem, values, variables, reference=None):
    parameters = list(values)
    return ModelerCase(
        name,
        problem,
        parameters,
        list(values.values()),
        variables,
        reference or by_cvxpy(problem, parameters, variables),
    )


def quadratic(rng):
    x = cp.Variable(4)
    A, b, u = cp.Parameter((6, 4)), cp.Parameter(6), cp.Parameter(nonneg=True)
    bounds = [cp.sum(x) == 1, x <= u]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + 2.0), bounds)
    values = {A: rng.standard_normal((6, 4)), b: rng.standard_normal(6), u: 0.5}
    return case("quadratic", problem, values, [x, bounds[0].dual_variables[0]])


def linear(rng):
    x = cp.Variable(5)
    c, h = cp.Parameter(5), cp.Parameter(5)
    problem = cp.Problem(cp.Maximize(c @ x), [x <= h, x >= -1, cp.sum(x) <= 0.3])
    return case("linear", problem, {c: rng.uniform(1, 2, 5), h: rng.uniform(0.5, 1, 5)}, [x])


def softmax(rng):
    x, c = cp.Variable(4), cp.Parameter(4)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.entr(x)) + c @ x), [cp.sum(x) == 1])
    return case(
        "softmax",
        problem,
        {c: rng.standard_normal(4)},
        [x],
        lambda c: [np.exp(c) / np.exp(c).sum()],
    )


def norms(rng):
    x, Y = cp.Variable(3), cp.Variable((2, 3))
    p, radius = cp.Parameter(3), cp.Parameter(nonneg=True)
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(Y - np.ones((2, 1)) @ cp.reshape(p, (1, 3), "C")) + p @ x),
        [cp.norm(x, 2) <= radius, Y[0] >= x],
    )
    return case("norms", problem, {p: rng.standard_normal(3), radius: 0.7}, [Y, x])


def semidefinite(rng):
    """The projection onto the semidefinite matrices of the symmetric part of C."""
    X, C = cp.Variable((3, 3), PSD=True), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)))
    U = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    skew = rng.standard_normal((3, 3))

    def reference(C):
        values, U = np.linalg.eigh((C + C.T) / 2)
        return [U @ np.diag(np.maximum(values, 0)) @ U.T]

    value = U @ np.diag([-1.0, 0.7, 1.6]) @ U.T + (skew - skew.T)
    return case("semidefinite", problem, {C: value}, [X], reference)


def powers(rng):
    x = cp.Variable(2, pos=True)
    price, w = cp.Parameter(2, pos=True), cp.Parameter(pos=True)
    utility = cp.geo_mean(x, [0.4, 0.6])
    problem = cp.Problem(cp.Maximize(utility), [price @ x <= w])
    share = np.array([0.4, 0.6])
    return case(
        "powers",
        problem,
        {price: rng.uniform(0.5, 2, 2), w: 2.0},
        [x],
        lambda price, w: [share * w / price],
    )


class TestCvxpy(ModelerSuite):
    modeler = "cvxpy"
    solver = "clarabel"
    solver_options = {"tolerance": 1e-10}

    def cases(self):
        rng = np.random.default_rng(0)
        makers = (quadratic, linear, softmax, norms, semidefinite, powers)
        return [make(rng) for make in makers]
