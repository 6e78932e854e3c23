"""`ffoadapt_jax.CvxpyLayer` in the place of `cvxpylayers.jax.CvxpyLayer`: the same code."""

from __future__ import annotations

import copy
import pickle
import warnings

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ffoadapt
import ffoadapt_jax


def theirs():
    reason = "cvxpylayers is not installed: pip install cvxpylayers diffcp"
    module = pytest.importorskip("cvxpylayers.jax", reason=reason)
    pytest.importorskip("diffcp", reason=reason)
    return module.CvxpyLayer


@pytest.fixture(
    params=[
        pytest.param(lambda: ffoadapt_jax.CvxpyLayer, id="ffoadapt"),
        pytest.param(theirs, id="cvxpylayers"),
    ]
)
def layer_class(request):
    return request.param()


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="cvxpylayers|diffcp")
        yield


def least_squares():
    x, A, b = cp.Variable(2, name="x"), cp.Parameter((3, 2), name="A"), cp.Parameter(3, name="b")
    return cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)), [x >= -10]), [A, b], [x]


TIGHT = {"eps": 1e-10, "max_iters": 20_000}


class TestSameCode:
    def test_values_and_gradients(self, layer_class):
        layer = layer_class(*least_squares())
        rng = np.random.default_rng(0)
        A, b = jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.normal(size=3))
        weight = jnp.asarray([1.0, 2.0])

        def ours(A, b):
            return layer(A, b, solver_args=TIGHT)[0] @ weight

        def closed(A, b):
            return jnp.linalg.solve(A.T @ A, A.T @ b) @ weight

        np.testing.assert_allclose(ours(A, b), closed(A, b), atol=1e-6)
        for found, exact in zip(
            jax.grad(ours, argnums=(0, 1))(A, b),
            jax.grad(closed, argnums=(0, 1))(A, b),
            strict=True,
        ):
            np.testing.assert_allclose(found, exact, atol=1e-5)

    def test_batch_and_broadcast(self, layer_class):
        layer = layer_class(*least_squares(), solver_args=TIGHT)
        A, b = jnp.eye(3, 2), jnp.arange(12.0).reshape(4, 3)
        (x,) = layer(A, b)
        np.testing.assert_allclose(x, b[:, :2], atol=1e-6)
        assert layer(A, b[:1])[0].shape == (1, 2)

    def test_geometric_program(self, layer_class):
        x, y, z = (cp.Variable(pos=True) for _ in range(3))
        a, b, c = (cp.Parameter(pos=True, value=v) for v in (2.0, 1.0, 0.5))
        problem = cp.Problem(
            cp.Minimize(1 / (x * y * z)), [a * (x * y + x * z + y * z) <= b, x >= y**c]
        )
        problem.solve(cp.CLARABEL, gp=True)
        layer = layer_class(problem, parameters=[a, b, c], variables=[x, y, z], gp=True)
        found = layer(*(jnp.asarray(v) for v in (2.0, 1.0, 0.5)), solver_args=TIGHT)
        np.testing.assert_allclose(found, [v.value for v in (x, y, z)], rtol=1e-4)

    def test_errors_are_value_errors(self, layer_class):
        problem, parameters, variables = least_squares()
        with pytest.raises(ValueError):
            layer_class(problem, parameters[:1], variables)
        layer = layer_class(problem, parameters, variables)
        with pytest.raises(ValueError):
            layer(jnp.ones((3, 2)))
        with pytest.raises(ValueError):
            layer(jnp.ones((2, 2)), jnp.ones(3))
        with pytest.raises(ValueError):
            layer(jnp.ones((2, 3, 2)), jnp.ones((5, 3)))


def test_what_cvxpylayers_cannot():
    """jit, vmap and forward mode with any solver."""
    layer = ffoadapt_jax.CvxpyLayer(*least_squares(), solver="SCS", solver_args={"eps": 1e-10})
    A, b = jnp.eye(3, 2), jnp.arange(12.0).reshape(4, 3)

    def solved(b):
        return layer(A, b)[0]

    np.testing.assert_allclose(jax.jit(jax.vmap(solved))(b), b[:, :2], atol=1e-6)
    jacobian = np.eye(2, 3)
    np.testing.assert_allclose(jax.jacfwd(solved)(b[0]), jacobian, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacrev(solved))(b[0]), jacobian, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies(copied):
    layer = ffoadapt_jax.CvxpyLayer(*least_squares())
    A, b = jnp.eye(3, 2), jnp.arange(3.0)
    np.testing.assert_allclose(layer(A, b)[0], [0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(copied(layer)(A, b)[0], [0.0, 1.0], atol=1e-6)


def test_what_is_refused():
    with pytest.raises(ffoadapt.OptionError, match=r"ffoadapt\.Solver"):
        ffoadapt_jax.CvxpyLayer(*least_squares(), custom_method=object())
    with pytest.raises(ffoadapt.OptionError, match="lpgd_left"):
        ffoadapt_jax.CvxpyLayer(*least_squares(), solver_args={"mode": "newton"})
