"""What a layer says of its gradients in training: on_report and check_gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ffoadapt

cp = pytest.importorskip("cvxpy")


def projection(solver: str = "clarabel") -> ffoadapt.Layer:
    """x(c) = c projected onto the simplex."""
    x, c = cp.Variable(3), cp.Parameter(3, name="c")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.sum(x) == 1, x >= 0])
    return ffoadapt.Layer(problem, [c], [x], solver=solver)


def test_on_report_sees_every_backward_pass() -> None:
    layer = projection()
    seen: list[list[ffoadapt.GradientReport]] = []
    layer.on_report = seen.append
    c = torch.tensor([[0.5, 0.2, 0.1], [3.0, 0.0, 0.0]], requires_grad=True)
    layer(c)[0].sum().backward()
    layer(c[0])[0].sum().backward()
    assert [len(reports) for reports in seen] == [2, 1]
    assert all(report.verdict == "differentiable" for reports in seen for report in reports)
    layer.on_report = None
    layer(c[0])[0].sum().backward()
    assert len(seen) == 2


def test_check_gradients_agrees() -> None:
    check = projection().check_gradients(np.array([0.5, 0.2, 0.1]))
    assert check.ok and check.disagreeing == []
    assert check.errors["c"] < 1e-6
    assert "agree" in str(check)


def test_check_gradients_names_what_disagrees() -> None:
    """At a kink one-sided derivatives differ, so no gradient agrees with central differences."""
    x, c, d = cp.Variable(2), cp.Parameter(2, name="c"), cp.Parameter(2, name="d")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c) + d @ x), [x >= 0])
    check = ffoadapt.Layer(problem, [c, d], [x]).check_gradients(np.zeros(2), np.zeros(2))
    assert not check.ok
    assert check.disagreeing == ["c", "d"]
    assert "disagree" in str(check) and "c: " in str(check)


def test_check_gradients_where_one_is_zero() -> None:
    """At the vertex of a linear program x does not depend on c, but differences have noise."""
    x, c, h = cp.Variable(2), cp.Parameter(2, name="c"), cp.Parameter(2, name="h")
    problem = cp.Problem(cp.Minimize(c @ x), [np.array([[1.3, 0.2], [0.1, 0.7]]) @ x >= h])
    check = ffoadapt.Layer(problem, [c, h], [x]).check_gradients(
        np.array([2.0, 1.0]), np.array([31.0, 17.0])
    )
    assert check.ok and check.errors["c"] == 0.0


def test_jacobian_without_constraints() -> None:
    x, c = cp.Variable(3), cp.Parameter(3)
    layer = ffoadapt.Layer(cp.Problem(cp.Minimize(cp.sum_squares(x) + c @ x)), [c], [x])
    jacobian = layer.solve(np.ones(3)).vjp(np.eye(3))[0]
    assert np.allclose(jacobian, -0.5 * np.eye(3), atol=1e-12)


def test_what_nobody_sees_need_not_be_unique() -> None:
    """The bound of a norm is free where its constraint does not hold; x is what counts."""
    rng = np.random.default_rng(0)
    x, c = cp.Variable(4), cp.Parameter(4, name="c")
    A, b = cp.Parameter((6, 4), name="A"), cp.Parameter(6, name="b")
    rows = [A @ x + 0.1 * cp.norm1(x) <= b, cp.norm1(x) <= 50]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), rows)
    values = rng.standard_normal(4), rng.standard_normal((6, 4)), np.ones(6)
    layer = ffoadapt.Layer(problem, [c, A, b], [x], solver="clarabel")
    for report in (layer.solve(*values).report(), ffoadapt.gradient_report(layer, *values)):
        assert report.verdict == "differentiable" and report.rank_deficiency > 0
    assert layer.check_gradients(*values).ok


@pytest.mark.parametrize("asked, verdict", [("x", "differentiable"), ("xy", "not_unique")])
def test_uniqueness_is_that_of_the_outputs(asked: str, verdict: str) -> None:
    """x = c, and any y in the unit interval is as good as any other."""
    x, y, c = cp.Variable(2), cp.Variable(), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [y >= 0, y <= 1])
    layer = ffoadapt.Layer(problem, [c], [x, y][: len(asked)], solver="clarabel")
    assert layer.solve(np.ones(2)).report().verdict == verdict


def test_uniqueness_that_a_parameter_sees() -> None:
    """x is 0 whatever y, but a parameter that prices y would move it."""
    x, y, c = cp.Variable(), cp.Variable(), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.square(x) + c * y), [y >= 0, y <= 1])
    layer = ffoadapt.Layer(problem, [c], [x], solver="clarabel")
    assert layer.solve(np.zeros(())).report().verdict == "not_unique"


@pytest.mark.parametrize("bad", [0, -1])
def test_check_gradients_wants_a_direction(bad: int) -> None:
    with pytest.raises(ffoadapt.ProblemError, match="expected at least 1"):
        projection().check_gradients(np.zeros(3), directions=bad)


def test_inaccurate_solutions_are_marked_or_refused() -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 10))
    program = ffoadapt.ConeProgram.from_split(
        np.eye(10), rng.standard_normal(10), A, rng.random(20) * 0.1
    )
    loose = {"solver_options": {"tolerance": 1e-1}, "polish": False}
    result = ffoadapt.solve(program, "scs", **loose)
    assert result.status is ffoadapt.Status.OPTIMAL_INACCURATE
    assert result.info["kkt_residual"] > 1e-4
    assert result.report().verdict == "inaccurate_solution"
    with pytest.raises(ffoadapt.SolveError, match="its solution is inaccurate"):
        ffoadapt.solve(program, "scs", accept_inaccurate=False, **loose)


def test_unknown_setting_names_the_known() -> None:
    with pytest.raises(ffoadapt.OptionError, match="Did you mean 'on_failure'"):
        ffoadapt.qp(np.eye(2), np.ones(2), on_failur="nan")  # type: ignore[call-arg]
