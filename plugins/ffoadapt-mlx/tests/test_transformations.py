"""What MLX does with a layer: dtypes, tangents, training, users' functions; what it refuses."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

import ffoadapt

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'mlx[cpu]'")


@pytest.fixture(autouse=True)
def _cpu():
    with mx.stream(mx.cpu):
        yield


def project(q, **options):
    """The projection of -q onto the simplex."""
    n = q.shape[-1]
    G, h, A, b = -np.eye(n), np.zeros(n), np.ones((1, n)), np.ones(1)
    return ffoadapt.qp(np.eye(n), q, G, h, A, b, **options).x


def q(dtype="float64"):
    return mx.array(np.array([-1.0, -1.5, 0.5]), dtype=getattr(mx, dtype))


JACOBIAN = [[-0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtype_comes_back(dtype):
    x = project(q(dtype))
    assert x.dtype == getattr(mx, dtype)
    np.testing.assert_allclose(np.array(x.astype(mx.float32)), [0.25, 0.75, 0.0], atol=1e-2)
    grad = mx.grad(lambda q: project(q)[0])(q(dtype))
    assert grad.dtype == getattr(mx, dtype)


def test_float64_keeps_its_digits():
    value = mx.array(np.array([-1.0 / 3.0, -2.0 / 3.0, 0.0]), dtype=mx.float64)
    np.testing.assert_allclose(np.array(project(value)), [1 / 3, 2 / 3, 0.0], rtol=0, atol=1e-15)


def test_jvp_is_the_jacobian():
    rows = [mx.jvp(project, [q()], [row])[1][0] for row in mx.eye(3, dtype=mx.float64)]
    np.testing.assert_allclose(np.stack([np.array(r) for r in rows]), JACOBIAN, atol=1e-12)


def test_several_cotangents_of_one_graph():
    rows = [mx.vjp(project, [q()], [row])[1][0] for row in mx.eye(3, dtype=mx.float64)]
    np.testing.assert_allclose(np.stack([np.array(r) for r in rows]), JACOBIAN, atol=1e-12)


def test_integers_are_constants():
    b = mx.array([1])
    grad = mx.grad(lambda q: ffoadapt.qp(np.eye(3), q, A=np.ones((1, 3)), b=b).x[0])(q())
    np.testing.assert_allclose(np.array(grad), [-2 / 3, 1 / 3, 1 / 3], atol=1e-12)


@pytest.mark.parametrize(
    "twice",
    [
        lambda: mx.grad(lambda q: mx.grad(lambda q: project(q)[0])(q).sum())(q()),
        lambda: mx.jvp(mx.grad(lambda q: project(q)[0]), [q()], [q()]),
        lambda: mx.grad(lambda q: mx.jvp(project, [q], [q])[1][0].sum())(q()),
    ],
)
def test_second_derivatives_are_refused(twice):
    with pytest.raises(ffoadapt.DifferentiationError, match="second derivatives"):
        twice()


@pytest.mark.parametrize(
    "traced",
    [lambda: mx.vmap(project)(mx.stack([q(), q()])), lambda: mx.compile(project)(q())],
)
def test_traces_are_refused(traced):
    with pytest.raises(ffoadapt.ParameterError, match=r"leading axis instead of vmap"):
        traced()


def test_complex_is_refused():
    with pytest.raises(ffoadapt.ParameterError, match="complex"):
        project(mx.array([1j, 0j, 0j]))


def test_cvxpy_layer_trains():
    x, c = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.norm(x) <= 1])
    layer = ffoadapt.Layer(problem, parameters=[c], variables=[x])
    target = mx.array(np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 0.5]]), dtype=mx.float64)
    c = mx.zeros((2, 3), dtype=mx.float64)

    def loss(c):
        return (layer(c)[0] - target).square().sum()

    for _ in range(50):
        c = c - 0.4 * mx.grad(loss)(c)
    assert loss(c).item() < 1e-4


def test_smooth_layer():
    """The point of a disk nearest to t, and its derivatives; r is the squared radius."""
    layer = ffoadapt.SmoothLayer(
        lambda p, y: (y - p["t"]).square().sum(),
        inequalities=lambda p, y: y @ y - p["r"],
        start=[0.1, 0.1],
    )

    def first(t, r):
        return layer({"t": t, "r": r})[0]

    t, r = mx.array(np.array([3.0, 4.0]), dtype=mx.float64), mx.array(4.0, dtype=mx.float64)
    np.testing.assert_allclose(np.array(layer({"t": t, "r": r})), [1.2, 1.6], atol=1e-8)
    by_t, by_r = mx.grad(lambda t, r: first(t, r), [0, 1])(t, r)
    np.testing.assert_allclose(np.array(by_t), np.array([0.64, -0.48]) * 2 / 5, atol=1e-6)
    np.testing.assert_allclose(by_r.item(), 0.6 / 4, atol=1e-6)


def test_bilevel_agrees_with_the_closed_form():
    """min over x of (y - 1)^2 + x^2, where y = x minimizes (y - x)^2: x = 1/2."""
    found = ffoadapt.bilevel.minimize(
        upper=lambda x, y: (y - 1.0).square().sum() + x.square().sum(),
        lower=lambda x, y: (y - x).square().sum(),
        x=mx.zeros((1,)),
        y=mx.zeros((1,)),
        algorithm="hypergradient",
        steps=100,
    )
    np.testing.assert_allclose(np.array(found.x), [0.5], atol=1e-3)


def test_outputs_without_any_axis():
    """The optimal value, and a variable that is one number."""

    def value(q):
        return ffoadapt.qp(np.eye(3), q, -np.eye(3), np.zeros(3), objective=True).objective

    # x = (1, 1.5, 0) is also the gradient of the value, by the envelope theorem.
    assert value(q()).shape == () and np.isclose(value(q()).item(), -1.625)
    assert np.allclose(np.array(mx.grad(value)(q())), [1.0, 1.5, 0.0])
    x, c = cp.Variable(), cp.Parameter()
    layer = ffoadapt.Layer(cp.Problem(cp.Minimize((x - c) ** 2), [x <= 2]), [c], [x])
    slope = mx.grad(lambda c: layer(c)[0])(mx.array(0.3))
    assert slope.shape == () and np.isclose(slope.item(), 1.0)
