"""`torch.compile(fullgraph=True)` around functions that solve: values and gradients are eager's."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch

import ffoadapt
import ffoadapt_torch

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

C = torch.tensor([1.0, 1.2], dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def _prepared():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler says of itself as it is imported
        ffoadapt_torch.prepare_compile()


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


def problem():
    """The point nearest to c with sum at most 1."""
    x, c = cp.Variable(2), cp.Parameter(2)
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.sum(x) <= 1]), [c], [x]


MODULE = ffoadapt_torch.CvxpyLayer(*problem(), solver="clarabel")
LAYER = ffoadapt.Layer(*problem(), solver="clarabel")


def through_module(c):
    return MODULE(2.0 * c)[0].sin()


def through_module_with_arguments(c):
    return MODULE(2.0 * c, solver_args={"eps": 1e-9})[0].sin()


def through_layer(c):
    return LAYER(2.0 * c)[0].sin()


def through_qp(c):
    eye, one = torch.eye(2, dtype=c.dtype), torch.ones(1, dtype=c.dtype)
    return ffoadapt.qp(eye, -2.0 * c, one.expand(1, 2), one, solver="clarabel").x.sin()


def through_box_qp(c):
    eye = torch.eye(2, dtype=c.dtype)
    found = ffoadapt.box_qp(eye, -c, eye, 0.0 * eye[0] - 1.0, eye[0] + 0.5, solver="clarabel")
    return found.x.sin() + found.y


def through_cone_program(c):
    eye, cones = torch.eye(2, dtype=c.dtype), [ffoadapt.SecondOrderCone(2)]
    return ffoadapt.cone_program(eye, -c, -eye, 0.0 * c, cones, solver="clarabel").x.sin()


FUNCTIONS = [
    through_module,
    through_module_with_arguments,
    through_layer,
    through_qp,
    through_box_qp,
    through_cone_program,
]


def close(compiled, eager, *inputs):
    found, expected = (torch.autograd.grad(f(*inputs).sum(), inputs) for f in (compiled, eager))
    torch.testing.assert_close(compiled(*inputs), eager(*inputs), atol=1e-12, rtol=0)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_in_one_graph(function, backend):
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for scale in (1.0, 0.1, 1.0):
        close(compiled, function, (scale * C).requires_grad_())


@pytest.mark.parametrize("function", [through_module, through_qp])
def test_batches_and_dtypes(function):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
    close(compiled, function, C.expand(3, 2).clone().requires_grad_())
    value = C.float().requires_grad_()
    assert compiled(value).dtype == torch.float32
    compiled(value).sum().backward()
    assert value.grad.dtype == torch.float32


def test_new_batch_sizes():
    """Sizes that change are specialized or recompiled, never wrong."""
    compiled = torch.compile(through_module, fullgraph=True, backend="aot_eager")
    for size in (2, 3, 5):
        close(compiled, through_module, C.expand(size, 2).clone().requires_grad_())


def test_a_model_in_training():
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 2, dtype=torch.float64), Head())

    inputs = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = []
    for compile_it in (False, True):
        net = model()
        run = torch.compile(net, fullgraph=True, backend="aot_eager") if compile_it else net
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            run(inputs).square().sum().backward()
            optimizer.step()
        weights.append(net[0].weight.detach())
    torch.testing.assert_close(*weights, atol=1e-9, rtol=0)


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ffoadapt_torch.CvxpyLayer(*problem(), solver="clarabel")

    def forward(self, c):
        return self.layer(c)[0]


def test_two_layers_in_one_graph():
    second = ffoadapt_torch.CvxpyLayer(*problem(), solver="clarabel")

    def function(c):
        return MODULE(c)[0] + second(3.0 * MODULE(c)[0])[0]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    close(compiled, function, C.clone().requires_grad_())


def test_the_layer_may_go_before_backward():
    def solved():
        layer = ffoadapt_torch.CvxpyLayer(*problem(), solver="clarabel")
        return torch.compile(lambda v: layer(v)[0], fullgraph=True, backend="aot_eager")(c)

    c = C.clone().requires_grad_()
    out = solved()
    torch._dynamo.reset()
    gc.collect()
    out.sum().backward()
    np.testing.assert_allclose(c.grad, [0.0, 0.0], atol=1e-8)


def test_errors_are_ours():
    def function(h):
        one = torch.ones(1, dtype=h.dtype)
        G, bounds = torch.stack([one, -one]), torch.stack([h, -torch.ones_like(h)])
        return ffoadapt.qp(one.diag(), 0.0 * one, G, bounds, solver="clarabel").x

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    compiled(torch.tensor(2.0, dtype=torch.float64))
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        compiled(torch.tensor(0.0, dtype=torch.float64))


def test_without_preparation_a_graph_break_and_right_numbers():
    code = """
import torch, ffoadapt
def f(c):
    eye, one = torch.eye(2, dtype=c.dtype), torch.ones(1, dtype=c.dtype)
    return ffoadapt.qp(eye, -2.0 * c, one.expand(1, 2), one).x.sin()
c = torch.tensor([1.0, 1.2], dtype=torch.float64, requires_grad=True)
compiled = torch.compile(f, backend="eager")
(found,), (expected,) = (torch.autograd.grad(g(c).sum(), c) for g in (compiled, f))
assert (found - expected).abs().max() < 1e-12
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_eager_imports_no_compiler():
    code = """
import sys, torch, ffoadapt, ffoadapt_torch
before = "torch._dynamo" in sys.modules
eye = torch.eye(2, dtype=torch.float64)
ffoadapt.qp(eye, eye[0]).x
assert ("torch._dynamo" in sys.modules) == before
assert "ffoadapt_torch._compiled" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
