"""``objective=True``: the optimal value as an output, and its gradient by the envelope theorem."""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import sparse

import ffoadapt
from ffoadapt import NonnegativeCone, SecondOrderCone

# Of torch's gradcheck, which imports what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

DOUBLE = torch.float64


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def tensors(*arrays: Any) -> list[torch.Tensor]:
    return [torch.tensor(a, dtype=DOUBLE, requires_grad=True) for a in arrays]


def split_data(rng: np.random.Generator, batch: int) -> list[torch.Tensor]:
    M, x = rng.standard_normal((4, 4)), rng.standard_normal((batch, 4))
    G, A = rng.standard_normal((6, 4)), rng.standard_normal((batch, 1, 4))
    h = (G @ x.T).T + rng.uniform(0.05, 0.5, (batch, 6))
    return tensors(M @ M.T, 3.0 * rng.standard_normal(4), G, h, A, (A @ x[..., None])[..., 0])


def test_qp_in_every_datum_in_both_modes(rng: np.random.Generator) -> None:
    data = split_data(rng, 3)

    def value(P: Any, *rest: Any) -> Any:
        return ffoadapt.qp(0.5 * (P + P.mT), *rest, objective=True).objective

    def mixed(P: Any, *rest: Any) -> Any:
        solution = ffoadapt.qp(0.5 * (P + P.mT), *rest, objective=True)
        return solution.objective * solution.x.sum(-1) + solution.z_ineq.sum(-1)

    x = ffoadapt.qp(*data).x
    by_hand = 0.5 * ((x @ data[0]) * x).sum(-1) + x @ data[1]
    assert torch.allclose(value(*data), by_hand, rtol=1e-12)
    assert torch.autograd.gradcheck(value, data, atol=1e-7, check_forward_ad=True)
    assert torch.autograd.gradcheck(mixed, data, atol=1e-5)


def test_box_and_cone_programs(rng: np.random.Generator) -> None:
    P, A = np.diag(rng.uniform(0.5, 2.0, 3)), rng.standard_normal((5, 3))
    middle = A @ rng.standard_normal(3)
    lower, upper = middle - rng.uniform(0.01, 0.3, 5), middle + rng.uniform(0.01, 0.3, 5)
    lower[0] = -np.inf
    data = tensors(P, rng.standard_normal((2, 3)), A, lower, upper)

    def box(*data: Any) -> Any:
        return ffoadapt.box_qp(*data, objective=True).objective

    gradients = torch.autograd.grad(box(*data).sum(), data)
    for k, gradient in enumerate(gradients):
        move = torch.tensor(rng.standard_normal(gradient.shape), dtype=DOUBLE)
        move = 0.5 * (move + move.mT) if k == 0 else move.nan_to_num()
        ends = [
            box(*(d.detach() + sign * 1e-5 * move if j == k else d for j, d in enumerate(data)))
            for sign in (1.0, -1.0)
        ]
        slope = ((ends[0] - ends[1]) / 2e-5).sum()
        assert torch.isclose((gradient * move).sum(), slope, rtol=1e-6, atol=1e-7), k

    cones = [NonnegativeCone(2), SecondOrderCone(3)]
    rows = np.vstack([-np.eye(2, 3), np.zeros((1, 3)), np.eye(3)[1:]])
    data = tensors(
        rng.standard_normal(3) + np.array([0.5, 0.0, 0.0]), rows, [2.0, 2.0, 1.3, 0.2, 0.1]
    )
    P = torch.eye(3, dtype=DOUBLE)

    def conic(q: Any, A: Any, b: Any) -> Any:
        return ffoadapt.cone_program(P, q, A, b, cones, objective=True).objective

    assert torch.autograd.gradcheck(conic, data, atol=1e-6, check_forward_ad=True)


def test_sparse_matrices_whose_entries_come_in_any_order(rng: np.random.Generator) -> None:
    n, places = 6, np.array([[5, 0, 3, 2, 1, 4, 0], [5, 0, 3, 2, 1, 4, 3]])
    order = rng.permutation(places.shape[1])
    values = torch.tensor(rng.uniform(0.5, 1.5, order.size), dtype=DOUBLE, requires_grad=True)
    q = torch.tensor(rng.standard_normal(n), dtype=DOUBLE)

    def value(values: Any) -> Any:
        G = torch.sparse_coo_tensor(
            torch.tensor(places[:, order]), values, (n, n), check_invariants=True
        )
        P = sparse.identity(n, format="csc")
        return ffoadapt.qp(P, q, G, -0.4 * torch.ones(n, dtype=DOUBLE), objective=True).objective

    assert torch.autograd.gradcheck(value, [values], atol=1e-6)


def test_a_linear_program_learns_its_value_without_a_warning_or_a_linear_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cost = torch.tensor([2.0, 0.5], dtype=DOUBLE, requires_grad=True)
    ones = torch.ones(1, 2, dtype=DOUBLE)
    solution = ffoadapt.qp(
        None, cost, -torch.eye(2, dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE), ones, ones[0, :1],
        objective=True,
    )  # fmt: skip
    from ffoadapt._oracle.gradient import Oracle

    monkeypatch.setattr(Oracle, "vjp", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution.objective.backward()
    assert torch.allclose(cost.grad, torch.tensor([0.0, 1.0], dtype=DOUBLE))  # the solution


def problem() -> tuple[cp.Problem, list[cp.Parameter], cp.Variable]:
    x, c, d = cp.Variable(3), cp.Parameter(3), cp.Parameter(nonneg=True)
    gain = -cp.sum_squares(x - c) - d * cp.norm1(x) + 2.0 * cp.sum(c) + d - 1.0
    return cp.Problem(cp.Maximize(gain), [cp.norm(x) <= 0.8, x[0] + x[1] <= 0.5]), [c, d], x


def test_a_layer_gives_what_cvxpy_says_also_of_constants_and_maxima(
    rng: np.random.Generator,
) -> None:
    stated, parameters, x = problem()
    layer = ffoadapt.Layer(stated, parameters, [x], objective=True)
    c, d = tensors(rng.standard_normal((4, 3)), 0.3)
    solution, value = layer(c, d)
    for i in range(4):
        parameters[0].value, parameters[1].value = c[i].detach().numpy(), 0.3
        tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
        assert np.isclose(stated.solve(solver="CLARABEL", **tight), value[i].item(), rtol=1e-8)
        assert np.allclose(x.value, solution[i].detach(), atol=1e-5)
    assert torch.autograd.gradcheck(
        lambda c, d: layer(c, d)[1], (c, d), atol=1e-6, check_forward_ad=True
    )
    result = layer.solve(c, d)
    assert np.allclose(result.objective, value.detach()) and len(result.variables) == 2
    assert layer.check_gradients(c, d).ok
    gradient = torch.autograd.grad(layer(c, d)[1].sum(), [c, d])
    for there, here in zip(gradient, result.vjp(None, np.ones(4)), strict=True):
        assert np.allclose(there, here)


def test_geometric_programs() -> None:
    x, y = cp.Variable(pos=True), cp.Variable(pos=True)
    a, b = cp.Parameter(pos=True), cp.Parameter(pos=True)
    stated = cp.Problem(cp.Minimize(a / (x * y)), [x * y**2 <= b, x <= 2 * a])
    layer = ffoadapt.Layer(stated, [a, b], [x], gp=True, objective=True)
    values = tensors([1.3, 0.7], [2.5, 4.0])
    a.value, b.value = 1.3, 2.5
    assert np.isclose(layer(*values)[1][0].item(), stated.solve(gp=True, solver="CLARABEL"))
    assert torch.autograd.gradcheck(lambda *v: layer(*v)[1], values, atol=1e-6)


def test_infeasible_programs() -> None:
    G = torch.tensor([[1.0, 0], [-1, 0], [0, 1]], dtype=DOUBLE)
    q, h = tensors([0.7, -1.0], [-1.0, -0.5, 0.6])

    def closest(q: Any, h: Any) -> Any:
        eye = torch.eye(2, dtype=DOUBLE)
        return ffoadapt.qp(eye, q, G, h, infeasible="closest", objective=True).objective

    assert torch.autograd.gradcheck(closest, (q, h), atol=1e-6, check_forward_ad=True)
    both = torch.stack([h, h + 2.0])
    values = ffoadapt.qp(
        torch.eye(2, dtype=DOUBLE), q, G, both, on_failure="nan", objective=True
    ).objective
    assert torch.isnan(values[0]) and torch.isfinite(values[1])
    values[1].backward()
    assert torch.isfinite(q.grad).all() and torch.isfinite(h.grad).all() and q.grad.any()


@pytest.mark.parametrize("solver", ["auto", "ipm"])
def test_jax_in_all_transformations(solver: str) -> None:
    eye = 1.4 * jnp.eye(2)

    def value(q: Any, h: Any) -> Any:
        return ffoadapt.qp(eye, q, -jnp.eye(2), h, solver=solver, objective=True).objective

    with jax.enable_x64(True):
        q, h = jnp.array([1.0, -2.0]), jnp.array([0.1, 0.2])
        # x = (-0.1, 2 / 1.4): the first bound holds with the multiplier 1 - 0.14.
        expected = np.array([-0.1, 2.0 / 1.4]), np.array([-0.86, 0.0])
        for way in (jax.grad(value, (0, 1)), jax.jit(jax.grad(value, (0, 1)))):
            for found, right in zip(way(q, h), expected, strict=True):
                assert np.allclose(found, right, atol=1e-7)
        slope = expected[0] @ [1.0, 2.0] + expected[1] @ [3.0, 4.0]
        moves = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
        for way in (value, jax.jit(value)):
            assert np.isclose(jax.jvp(way, (q, h), moves)[1], slope, atol=1e-6)
        mapped = jax.vmap(jax.grad(value), (0, None))(jnp.stack([q, q]), h)
        assert np.allclose(mapped, [expected[0]] * 2, atol=1e-7)


def test_the_drop_ins() -> None:
    import ffoadapt_jax
    import ffoadapt_torch

    stated, parameters, x = problem()
    values = np.array([0.4, -0.2, 1.0]), np.array(0.2)
    layer = ffoadapt_torch.CvxpyLayer(stated, parameters, [x], objective=True)
    c, d = tensors(*values)
    solution, value = layer(c, d, solver_args={"eps": 1e-9})
    (gradient,) = torch.autograd.grad(value, c)
    # By the envelope theorem the derivative of -|x - c|^2 + 2 sum(c) at a fixed x.
    assert torch.allclose(gradient, 2.0 * (solution.detach() - c.detach()) + 2.0, atol=1e-6)
    with jax.enable_x64(True):
        other = ffoadapt_jax.CvxpyLayer(stated, parameters, [x], objective=True)
        by_jax = jax.grad(lambda c: other(c, jnp.array(values[1]))[1])(jnp.array(values[0]))
        assert np.allclose(by_jax, gradient, atol=1e-6)


def test_a_tangent_of_a_single_number_in_jax() -> None:
    """Outputs without any axis, outside of jit."""
    x, c = cp.Variable(), cp.Parameter()
    layer = ffoadapt.Layer(cp.Problem(cp.Minimize((x - c) ** 2), [x <= 1]), [c], [x])
    with jax.enable_x64(True):
        _, move = jax.jvp(lambda c: layer(c)[0], (jnp.array(0.3),), (jnp.array(2.0),))
    assert np.isclose(move, 2.0)


def test_errors() -> None:
    with pytest.raises(ffoadapt.DifferentiationError, match="objective=True"):
        _ = ffoadapt.qp(np.eye(2), np.ones(2)).objective
    with pytest.raises(ffoadapt.OptionError, match="objective"):
        ffoadapt.qp(np.eye(2), np.ones(2), objective="yes")  # type: ignore[arg-type]

    stated, parameters, x = problem()
    program = ffoadapt.Layer(stated, parameters, [x]).program

    class Twice(type(program)):  # type: ignore[misc]
        def objective(self, values: Any, canonical: Any) -> Any:
            return 2.0 * canonical

    program.__class__ = Twice
    with pytest.raises(ffoadapt.OptionError, match="objective_vjp and objective_jvp"):
        ffoadapt.Layer(program, objective=True)
