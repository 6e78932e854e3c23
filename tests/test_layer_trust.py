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
