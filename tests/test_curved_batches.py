"""Batches of curved programs, in which no element may depend on its neighbours."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt import _structure

cp = pytest.importorskip("cvxpy")


def entropy() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    moments = np.random.default_rng(1).standard_normal((4, 30))
    fixed = [moments @ x == moments @ np.full(30, 0.5)]
    return cp.Problem(cp.Minimize(c @ x - cp.sum(cp.entr(x))), fixed), c, x


def ball() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    inside = [cp.norm(x[:20] + 0.1) <= 1, cp.norm(x[15:]) <= 1, x <= 0.5]
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), inside), c, x


def correlations() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    X, c = cp.Variable((6, 6), PSD=True), cp.Parameter((6, 6))
    return cp.Problem(cp.Minimize(cp.sum_squares(X - c)), [cp.diag(X) == 1]), c, X


@pytest.mark.parametrize("small", [0, _structure.SMALL])  # sparse factors, and dense ones
@pytest.mark.parametrize("solver", ["clarabel", "scs"])
@pytest.mark.parametrize("make", [entropy, ball, correlations])
def test_an_element_is_bitwise_what_it_is_alone(
    make, solver: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(solver)
    monkeypatch.setattr(_structure, "SMALL", small)
    problem, c, x = make()
    layer = ffoadapt.Layer(problem, parameters=[c], variables=[x], solver=solver)
    rng = np.random.default_rng(0)
    sizes = np.geomspace(0.01, 2.0, 5).reshape(5, *[1] * len(c.shape))  # they take turns to polish
    values = sizes * rng.standard_normal((5, *c.shape))
    cotangents = rng.standard_normal((5, *x.shape))
    together = layer.solve(values)
    gradients = together.vjp(cotangents)[0]
    for i in range(5):
        alone = layer.solve(values[i])
        np.testing.assert_array_equal(together.variables[0][i], alone.variables[0])
        np.testing.assert_array_equal(gradients[i], alone.vjp(cotangents[i])[0])
