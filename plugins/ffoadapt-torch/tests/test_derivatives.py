"""Derivatives by every way that torch has, and what it records of a call."""

from __future__ import annotations

import io
from typing import Any

import cvxpy as cp
import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

import ffoadapt
import ffoadapt_torch
from ffoadapt_torch import CvxpyLayer

# Torch's own forward mode compiles with torch.jit.script, which it deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:DeprecationWarning", "ignore:Dynamo detected:UserWarning"
)

EYE = torch.eye(3, dtype=torch.float64)
G = torch.tensor([[1.0, 2.0, -1.0], [-1.0, 0.5, 0.0]], dtype=torch.float64)
H = torch.tensor([0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([-2.0, 0.7, 0.4], dtype=torch.float64)


def solve(q: Any) -> Any:
    return ffoadapt.qp(EYE.to(q), q, G.to(q), H.to(q)).x


def cvxpy_layer() -> CvxpyLayer:
    x, p = cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)), [cp.norm(x) <= 2])
    return CvxpyLayer(problem, [p], [x])


def jacobian(q: Any) -> Any:
    """Row by row."""
    q = q.detach().clone().requires_grad_()
    x = solve(q).reshape(-1)
    rows = [torch.autograd.grad(entry, q, retain_graph=True)[0] for entry in x]
    return torch.stack(rows).reshape(*q.shape, *q.shape)


# ------------------------------------------------------------------------ batched cotangents


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_vectorized_jacobian(dtype: torch.dtype, create_graph: bool) -> None:
    for q in (Q.to(dtype), torch.stack([Q, -Q]).to(dtype)):
        found = torch.autograd.functional.jacobian(
            solve, q, vectorize=True, create_graph=create_graph
        )
        torch.testing.assert_close(found.detach(), jacobian(q))


def test_vectorized_jacobian_in_forward_mode() -> None:
    found = torch.autograd.functional.jacobian(solve, Q, vectorize=True, strategy="forward-mode")
    torch.testing.assert_close(found, jacobian(Q))


def test_gradients_batched_with_others_that_are_not() -> None:
    q = Q.clone().requires_grad_()
    solution = ffoadapt.qp(EYE, q, G, H)
    ones = torch.ones(2, dtype=torch.float64)
    cotangents = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)

    def pull(v: Any) -> Any:
        outputs = solution.x, solution.z_ineq
        return torch.autograd.grad(outputs, q, (v, ones), retain_graph=True)[0]

    exact = torch.stack([pull(v) for v in cotangents])
    stacked = cotangents, torch.stack([ones, ones])
    (found,) = torch.autograd.grad(
        (solution.x, solution.z_ineq), q, stacked, is_grads_batched=True, retain_graph=True
    )
    torch.testing.assert_close(found, exact)
    vmap = torch._vmap_internals._vmap
    torch.testing.assert_close(vmap(pull)(cotangents), exact)
    nested = vmap(vmap(pull))(torch.stack([cotangents, 2.0 * cotangents, cotangents]))
    torch.testing.assert_close(nested[2], exact)


def test_gradcheck_with_batches_of_everything() -> None:
    q = torch.stack([Q, -Q]).requires_grad_()
    assert torch.autograd.gradcheck(
        solve,
        (q,),
        check_batched_grad=True,
        check_forward_ad=True,
        check_batched_forward_grad=True,
    )


# ------------------------------------------------------------------------------ empty batches


def test_batch_of_none() -> None:
    layer = cvxpy_layer()
    t = torch.ones(0, 2, requires_grad=True)
    (x,) = layer(t)
    x.sum().backward()
    assert x.shape == t.grad.shape == (0, 2)
    empty = torch.zeros(0, 3, dtype=torch.float64)
    func = torch.func
    assert func.vmap(solve)(empty).shape == (0, 3)
    assert func.vmap(func.grad(lambda q: solve(q).sum()))(empty).shape == (0, 3)
    assert func.jvp(solve, (empty,), (empty,))[1].shape == (0, 3)
    assert func.jacrev(solve)(empty).shape == func.jacfwd(solve)(empty).shape == (0, 3, 0, 3)


def test_batch_of_none_compiled() -> None:
    layer = cvxpy_layer()
    compiled = torch.compile(lambda t: layer(t)[0], backend="aot_eager", fullgraph=True)
    t = torch.ones(0, 2, requires_grad=True)
    x = compiled(t)
    x.sum().backward()
    assert x.shape == t.grad.shape == (0, 2)


# -------------------------------------------------------------------------- second derivatives


def square(q: Any) -> Any:
    return solve(q).square().sum()


@pytest.mark.parametrize(
    "derivative",
    [
        lambda q: torch.func.hessian(square)(q),
        lambda q: torch.func.hessian(solve)(q),
        lambda q: torch.func.vmap(torch.func.hessian(square))(torch.stack([q, q])),
        lambda q: torch.func.jacrev(torch.func.jacrev(square))(q),
        lambda q: torch.func.jacrev(torch.func.jacfwd(square))(q),
        lambda q: torch.func.jacfwd(torch.func.jacfwd(square))(q),
        lambda q: torch.autograd.functional.hessian(square, q),
        lambda q: torch.autograd.functional.hessian(square, q, vectorize=True),
        lambda q: torch.autograd.functional.hessian(
            square, q, vectorize=True, outer_jacobian_strategy="forward-mode"
        ),
        lambda q: torch.autograd.functional.hvp(square, q, q),
    ],
)
def test_second_derivatives(derivative: Any) -> None:
    """Every way gives the Hessian: of |x|^2, where x is linear in q, of x, or along q."""
    found = derivative(Q)
    jacobian = torch.func.jacrev(solve)(Q)
    expected = 2.0 * jacobian.T @ jacobian
    if isinstance(found, tuple):
        torch.testing.assert_close(found[1], expected @ Q)
    elif found.ndim == 3 and len(found) == 3:
        assert not found.any()
    else:
        torch.testing.assert_close(found, expected.expand(found.shape))


def test_second_derivatives_by_every_datum() -> None:
    """Beside differences of the gradient, on the host's path, in a batch with shared data."""
    rng = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    root, x, G, A = draw(2, 4, 4), draw(2, 4), draw(5, 4), draw(1, 4)
    P, h = root @ root.mT + 0.1 * torch.eye(4), x @ G.T + draw(2, 5).abs()
    values = [P, 3 * draw(2, 4), G, h, A, x @ A.T]

    def gradient(*values: Any) -> Any:
        leaves = [v if v.requires_grad else v.clone().requires_grad_() for v in values]
        out = ffoadapt.qp(*leaves)
        total = (out.x**3).sum() + (out.z_ineq**2).sum() + out.y_eq.sin().sum()
        return torch.autograd.grad(total, leaves, create_graph=True)

    leaves = [v.clone().requires_grad_() for v in values]
    weights = [draw(*v.shape) for v in values]
    weights[0] = weights[0] + weights[0].mT
    product = sum((g * w).sum() for g, w in zip(gradient(*leaves), weights, strict=True))
    second = torch.autograd.grad(product, leaves)
    for k, value in enumerate(values):
        along = draw(*value.shape)
        along = along + along.mT if k == 0 else along
        ends = []
        for step in (1e-5, -1e-5):
            moved = [*values[:k], value + step * along, *values[k + 1 :]]
            each = zip(gradient(*moved), weights, strict=True)
            ends.append(float(sum((g.detach() * w).sum() for g, w in each)))
        slope, found = (ends[0] - ends[1]) / 2e-5, float((second[k].detach() * along).sum())
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-6), k


def test_second_derivatives_are_refused() -> None:
    """Of curved cones, at a kink, and where a setting makes another derivative."""
    layer, inside = cvxpy_layer(), torch.tensor([0.3, 0.2], dtype=torch.float64)
    at_kink = torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64)
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)

    def boxed(q: Any, **settings: Any) -> Any:
        return ffoadapt.box_qp(EYE.to(q), -q, EYE.to(q), zero, one, **settings).x.square().sum()

    for function, point, words in (
        (lambda p: layer(p)[0].square().sum(), inside, "zero and nonnegative cones"),
        (boxed, at_kink, "weakly active"),
        (lambda q: boxed(q, smoothing=1e-3), at_kink + 0.1, "smoothing"),
    ):
        with pytest.raises(ffoadapt.DifferentiationError, match=f"second derivatives.*{words}"):
            torch.func.hessian(function)(point)
    found = torch.func.hessian(boxed)(at_kink + 0.1)
    torch.testing.assert_close(found, torch.diag(2.0 * torch.tensor([1, 0, 1]).to(found)))


# -------------------------------------------------------------------------------------- graphs


def functions() -> dict[str, Any]:
    layer = cvxpy_layer()
    eye, one = torch.eye(2), torch.ones(2)
    return {
        "CvxpyLayer": lambda t: layer(t)[0],
        "Layer": lambda t: layer.layer(t)[0],
        "qp": lambda t: ffoadapt.qp(eye, -t, eye, one).x,
    }


def two_calls(graph: Any, function: Any) -> None:
    """The gradient of the first call after a second one is that of the first."""
    one, two = torch.tensor([3.0, -4.0], requires_grad=True), torch.tensor([0.1, 5.0])
    found = graph(one)
    graph(two)
    torch.testing.assert_close(found, function(one))
    (gradient,) = torch.autograd.grad(found[0], one)
    (exact,) = torch.autograd.grad(function(one)[0], one)
    torch.testing.assert_close(gradient, exact)


@pytest.mark.filterwarnings("ignore")  # torch: jit is deprecated, shapes are constants
@pytest.mark.parametrize("name", list(functions()))
def test_traced_functions_keep_no_state(name: str) -> None:
    function = functions()[name]
    traced = torch.jit.trace(function, torch.tensor([2.0, 1.0]))
    two_calls(traced, function)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    two_calls(torch.jit.load(file), function)


@pytest.mark.parametrize("name", list(functions()))
def test_graphs_keep_no_state(name: str) -> None:
    function = functions()[name]
    two_calls(make_fx(function)(torch.tensor([2.0, 1.0])), function)

    class Module(torch.nn.Module):
        def forward(self, t: Any) -> Any:
            return function(t)

    exported = torch.export.export(Module(), (torch.tensor([2.0, 1.0]),))
    two_calls(exported.module(), function)


def test_graphs_of_another_process_are_refused() -> None:
    from ffoadapt_torch import _compiled

    with pytest.raises(ffoadapt.ParameterError, match="another process"):
        _compiled._solve([torch.ones(2)], 7, torch.float32)


def test_no_tangent_of_a_graph_is_zero() -> None:
    """Torch leaves out the tangents of an operator without a word."""
    with pytest.raises(ffoadapt.DifferentiationError, match="forward-mode"):
        torch.func.linearize(solve, Q)
    with pytest.raises(ffoadapt.DifferentiationError, match="forward-mode"):
        make_fx(lambda q: torch.func.jvp(solve, (q,), (q,))[1])(Q)
    layer = cvxpy_layer()
    compiled = torch.compile(lambda t: layer(t)[0], backend="aot_eager", fullgraph=True)
    t = torch.tensor([3.0, 4.0])
    compiled(t)
    with forward_ad.dual_level(), pytest.raises(ffoadapt.DifferentiationError):
        compiled(forward_ad.make_dual(t, t))

    def moved(q: Any) -> Any:
        return torch.func.jvp(solve, (q,), (Q,))[1]

    ffoadapt_torch.prepare_compile()
    with pytest.raises(Exception, match="forward-mode"):  # torch puts an error of its own around it
        torch.compile(moved, backend="aot_eager", fullgraph=True)(Q)


# ------------------------------------------------------------------------------------ outcomes


def test_solutions_and_layers_say_how_it_went() -> None:
    solution = ffoadapt.qp(EYE, Q.clone().requires_grad_(), G, H)
    assert solution.status is ffoadapt.Status.OPTIMAL
    assert solution.report() == ffoadapt.gradient_report(solution)
    layer = cvxpy_layer()
    assert layer.last is None
    layer(torch.ones(4, 2))
    assert layer.last.status == [ffoadapt.Status.OPTIMAL] * 4
    layer(torch.ones(2), solver_args={"tolerance": 1e-7})
    assert layer.last.status is ffoadapt.Status.OPTIMAL
    assert layer.last.report().verdict == "differentiable"


def test_inside_of_transformations_nothing_is_known() -> None:
    seen: list[Any] = []

    def function(q: Any) -> Any:
        solution = ffoadapt.qp(EYE, q, G, H)
        seen.append(solution.status)
        return solution

    found = torch.func.vmap(function)(torch.stack([Q, -Q]))
    assert type(found) is ffoadapt.QPSolution and found.status is None and seen == [None]
    found = torch.utils._pytree.tree_map(lambda t: 2.0 * t, ffoadapt.qp(EYE, Q, G, H))
    assert type(found) is ffoadapt.QPSolution and found.status is None
    jacobians = torch.func.jacrev(lambda q: ffoadapt.qp(EYE, q, G, H))(Q)
    torch.testing.assert_close(jacobians.x, jacobian(Q))


def test_a_compiled_function_may_return_a_solution() -> None:
    ffoadapt_torch.prepare_compile()

    def function(q: Any) -> Any:
        return ffoadapt.qp(EYE, q, G, H)

    found = torch.compile(function, backend="aot_eager", fullgraph=True)(Q)
    assert type(found) is ffoadapt.QPSolution and found.status is None
    torch.testing.assert_close(found.x, solve(Q))


# ------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize(
    "matrix",
    [
        torch.stack([EYE, 2.0 * EYE]).to_sparse(),
        torch.stack([EYE, 2.0 * EYE]).to_sparse(2),
        pytest.param(
            lambda: torch.stack([EYE, 2.0 * EYE]).to_sparse_csr(),
            marks=pytest.mark.filterwarnings("ignore:Sparse"),
        ),
    ],
)
def test_batches_of_sparse_matrices_are_refused(matrix: Any) -> None:
    P = matrix() if callable(matrix) else matrix
    with pytest.raises(ffoadapt.ShapeError, match=r"sparse P has shape \(2, 3, 3\).*no batch axes"):
        ffoadapt.qp(P, Q)
    with pytest.raises(ffoadapt.ShapeError, match="sparse G has"):
        ffoadapt.qp(EYE, Q, P, torch.zeros(3, dtype=torch.float64))


def test_sparse_matrices_with_dense_dimensions_are_refused() -> None:
    with pytest.raises(ffoadapt.ShapeError, match="P: a sparse tensor with a dense dimension"):
        ffoadapt.qp(EYE.to_sparse(1), Q)
