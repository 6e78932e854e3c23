"""Geometric programs on `Layer`, in every framework: min. x + a_1 y, x y^e >= a_0, in closed form.

With e = 1 the solution is x = sqrt(a_0 a_1), y = sqrt(a_0 / a_1), the optimal value 2 x.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

import ffoadapt

A = np.array([3.0, 0.7])


def layer(**settings: Any) -> ffoadapt.Layer:
    x, y = cp.Variable(pos=True, name="x"), cp.Variable(pos=True, name="y")
    a, e = cp.Parameter(2, pos=True, name="a"), cp.Parameter(nonneg=True, name="e")
    problem = cp.Problem(cp.Minimize(x + a[1] * y), [x * y**e >= a[0]])
    return ffoadapt.Layer(problem, [a, e], [x, y], gp=True, **settings)


def exact(a: Any) -> tuple[Any, Any, Any]:
    """x and y, and the derivative of x + 2 y by a."""
    x, y = (a[..., 0] * a[..., 1]) ** 0.5, (a[..., 0] / a[..., 1]) ** 0.5
    by = 0.5 * np.stack([(x + 2 * y) / a[..., 0], (x - 2 * y) / a[..., 1]], axis=-1)
    return x, y, by


def test_solve_and_its_derivatives() -> None:
    x, y, by_a = exact(A)
    result = layer().solve(A, 1.0)
    np.testing.assert_allclose(result.variables, [x, y], rtol=1e-7)
    assert result.objective == pytest.approx(2 * x, rel=1e-7)
    np.testing.assert_allclose(result.vjp(1.0, 2.0)[0], by_a, rtol=1e-6)
    for k, direction in enumerate(np.eye(2)):
        dx, dy = result.jvp(direction, None)
        assert dx + 2 * dy == pytest.approx(by_a[k], rel=1e-6)
    assert result.report().verdict == "differentiable"


def test_all_gradients_are_those_of_differences() -> None:
    found = layer().check_gradients(A, 1.2)
    assert set(found.errors) == {"a", "e"} and found.ok, str(found)


def test_a_batch_and_the_last_call() -> None:
    batch = np.array([[3.0, 0.7], [1.0, 2.0], [0.5, 0.5]])
    one = layer()
    x, y = one(batch, 1.0)
    np.testing.assert_allclose(x, exact(batch)[0], rtol=1e-7)
    np.testing.assert_allclose(y, exact(batch)[1], rtol=1e-7)
    assert one.last is not None and len(one.last.report()) == 3
    result = one.solve(batch, 1.0)
    np.testing.assert_allclose(result.objective, 2 * x, rtol=1e-7)
    np.testing.assert_allclose(
        result.vjp(np.ones(3), 2 * np.ones(3))[0], exact(batch)[2], rtol=1e-6, atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torch() -> None:
    a = torch.tensor(A, requires_grad=True)
    e = torch.tensor(1.0, dtype=torch.float64)
    one = layer()
    x, y = one(a, e)
    (x + 2 * y).backward()
    np.testing.assert_allclose(a.grad, exact(A)[2], rtol=1e-6)
    move = lambda a: torch.stack(one(a, e))  # noqa: E731
    by_reverse, by_forward = torch.func.jacrev(move)(a), torch.func.jacfwd(move)(a)
    np.testing.assert_allclose(by_reverse.detach(), by_forward.detach(), atol=1e-9)
    each = torch.func.vmap(torch.func.grad(lambda a: sum(one(a, e))))(torch.stack([a, 2 * a]))
    np.testing.assert_allclose(each[0].detach(), by_reverse.detach().sum(0), atol=1e-9)
    assert one(a.float(), e.float())[0].dtype == torch.float32


def test_jax() -> None:
    jax = pytest.importorskip("jax")
    pytest.importorskip("ffoadapt_jax")
    one = layer()
    with jax.enable_x64(True):
        loss = lambda a: one(a, 1.0)[0] + 2 * one(a, 1.0)[1]  # noqa: E731
        for grad in (jax.grad(loss), jax.jit(jax.grad(loss)), jax.jit(jax.jacfwd(loss))):
            np.testing.assert_allclose(grad(jax.numpy.asarray(A)), exact(A)[2], rtol=1e-6)
        batch = jax.numpy.asarray([A, 2 * A])
        np.testing.assert_allclose(
            jax.jit(jax.vmap(jax.grad(loss)))(batch), exact(np.asarray(batch))[2], rtol=1e-6
        )


def test_what_has_no_logarithm_is_named() -> None:
    with pytest.raises(ffoadapt.ParameterError, match=r"'a' .* holds -1 .* must be positive"):
        layer()(np.array([3.0, -1.0]), 1.0)
    x, _ = layer(on_failure="nan")(np.array([A, -A]), 1.0)
    np.testing.assert_allclose(x[0], exact(A)[0], rtol=1e-7)
    assert np.isnan(x[1])


def test_other_options_and_a_copy_of_the_program() -> None:
    one = layer(solver="clarabel")
    assert "a(2,), e()" in repr(one) and "log" not in repr(one)
    for x, _ in (
        one(A, 1.0, solver_options={"tolerance": 1e-10}),
        ffoadapt.Layer(one.program)(A, 1.0),
    ):
        np.testing.assert_allclose(x, exact(A)[0], rtol=1e-7)


def test_maximization() -> None:
    """max. x y, x + y <= a: a^2 / 4."""
    x, y, a = cp.Variable(pos=True), cp.Variable(pos=True), cp.Parameter(pos=True)
    problem = cp.Problem(cp.Maximize(x * y), [x + y <= a])
    result = ffoadapt.Layer(problem, [a], [x], gp=True).solve(3.0)
    assert result.objective == pytest.approx(2.25, rel=1e-6)
    np.testing.assert_allclose(result.vjp(1.0)[0], 0.5, rtol=1e-6)


def test_no_geometric_program() -> None:
    x, a = cp.Variable(), cp.Parameter()
    problem = cp.Problem(cp.Minimize((x - a) ** 2))
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="not a geometric program"):
        ffoadapt.Layer(problem, [a], [x], gp=True)
