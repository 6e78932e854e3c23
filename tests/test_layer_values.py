"""What a layer's parameters may be given: sparse values, values held in the modeler, pairs."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental import sparse as jsparse
from scipy import sparse

import ffoadapt
import ffoadapt_jax
import ffoadapt_torch

DOUBLE = torch.float64


# ------------------------------------------------------------------------------- sparse values


def sparse_problem() -> tuple[ffoadapt.Layer, np.ndarray, np.ndarray]:
    places = [(0, 0), (1, 2), (2, 1), (2, 2)]
    A = cp.Parameter((3, 3), sparsity=tuple(np.transpose(places)))
    x, c = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c) + cp.norm1(A @ x)))
    value = np.zeros((3, 3))
    value[tuple(np.transpose(places))] = [0.7, -0.4, 0.2, 0.9]
    return ffoadapt.Layer(problem, [A, c], [x]), value, np.array([1.0, -2.0, 0.5])


def test_sparse_values_in_every_framework() -> None:
    layer, value, c = sparse_problem()
    result = layer.solve(value, c)
    weight = np.array([1.0, 2.0, -1.0])
    slope = result.vjp(weight)[0]
    for kind in (sparse.csr_matrix, sparse.coo_array):
        assert np.array_equal(layer(kind(value), c)[0], result.variables[0])

    T = torch.tensor(value).to_sparse().requires_grad_()
    (x,) = layer(T, torch.tensor(c))
    assert np.allclose(x.detach(), result.variables[0])
    (x @ torch.tensor(weight)).backward()
    assert T.grad.is_sparse and np.allclose(T.grad.to_dense(), slope)
    batch = torch.stack([torch.tensor(value), 2 * torch.tensor(value)]).to_sparse()
    assert np.allclose(layer(batch, torch.tensor(c))[0][0], result.variables[0])

    with jax.enable_x64(True):
        J = jsparse.BCOO.fromdense(value)

        def loss(data: Any) -> Any:
            return layer(jsparse.BCOO((data, J.indices), shape=J.shape), jnp.array(c))[0] @ weight

        found = jax.grad(loss)(J.data)
        assert np.allclose(found, slope[tuple(np.asarray(J.indices).T)], atol=1e-8)
        rows = jsparse.BCSR.fromdense(value)
        assert np.allclose(layer(rows, jnp.array(c))[0], result.variables[0])


# ------------------------------------------------------------------------------- held parameters


def held_problem() -> tuple[cp.Problem, cp.Variable, cp.Parameter, cp.Parameter, cp.Parameter]:
    x, c, d = cp.Variable(2), cp.Parameter(2, name="c"), cp.Parameter(nonneg=True, name="d")
    d.value = 0.5
    twice = cp.CallbackParam(lambda: 2.0 * d.value, name="twice", nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c) + d * x[0] + twice * x[1]))
    return problem, x, c, d, twice


def test_held_parameters_are_read_at_each_call() -> None:
    problem, x, c, d, twice = held_problem()
    layer = ffoadapt.Layer(problem, [c], [x], held=[d, twice])
    value = torch.tensor([1.0, 2.0], dtype=DOUBLE, requires_grad=True)
    (found,) = layer(value)
    assert torch.allclose(found, value - torch.tensor([0.25, 0.5], dtype=DOUBLE))
    d.value = 2.0  # and so a callback that reads it
    (found,) = layer(value)
    assert torch.allclose(found, value - torch.tensor([1.0, 2.0], dtype=DOUBLE))
    found.sum().backward()
    assert torch.allclose(value.grad, torch.ones(2, dtype=DOUBLE))
    with jax.enable_x64(True):
        assert np.allclose(layer(jnp.array([[1.0, 2.0]]))[0], [[0.0, 0.0]])
    assert np.allclose(layer.solve(np.array([1.0, 2.0])).variables[0], [0.0, 0.0])
    assert layer.check_gradients(np.array([1.0, 2.0])).ok


def test_held_parameters_of_the_drop_ins() -> None:
    problem, x, c, d, twice = held_problem()
    layer = ffoadapt_torch.CvxpyLayer(problem, [c], [x], held=[d, twice])
    value = torch.tensor([1.0, 2.0], dtype=DOUBLE)
    for arguments in ({}, {"solver_args": {"eps": 1e-9}}):
        assert np.allclose(layer(value, **arguments)[0], [0.75, 1.5])
    with pytest.raises(ffoadapt.ParameterError, match="takes 1 parameters"):
        layer(value, value)
    with jax.enable_x64(True):
        other = ffoadapt_jax.CvxpyLayer(problem, [c], [x], held=[d, twice])
        assert np.allclose(jax.jit(lambda v: other(v)[0])(jnp.array([1.0, 2.0])), [0.75, 1.5])


def test_a_callback_is_an_argument_where_it_is_listed() -> None:
    problem, x, c, d, twice = held_problem()
    layer = ffoadapt.Layer(problem, [c, twice], [x], held=[d])
    assert np.allclose(layer(np.array([1.0, 2.0]), 3.0)[0], [0.75, 0.5])


def test_what_is_wrong_with_held_parameters() -> None:
    problem, x, c, d, twice = held_problem()
    with pytest.raises(ffoadapt.ParameterError, match=r"must exactly match.*held=\[\.\.\.\]"):
        ffoadapt.Layer(problem, [c], [x])
    with pytest.raises(ffoadapt.ParameterError, match="more than once"):
        ffoadapt.Layer(problem, [c, d], [x], held=[d, twice])
    layer = ffoadapt.Layer(problem, [c], [x], held=[d, twice])
    d.value = None
    with pytest.raises(
        ffoadapt.ParameterError, match=r"held parameter 'd' has no value; set d\.value"
    ):
        layer(np.ones(2))


# ------------------------------------------------------------------------------- complex numbers

complex_is_known = pytest.mark.skipif(
    tuple(map(int, cp.__version__.split(".")[:2])) < (1, 9), reason="cvxpy keeps no pairs"
)


def complex_problem() -> tuple[cp.Problem, list[Any], list[Any], list[np.ndarray]]:
    z, r = cp.Variable(3, complex=True), cp.Variable(2)
    parameters = [
        cp.Parameter(3, complex=True),
        cp.Parameter(2),
        cp.Parameter((2, 3), complex=True),
        cp.Parameter(imag=True),
    ]
    c, t, H, i = parameters
    objective = cp.sum_squares(z - c) + cp.sum_squares(r - t) + cp.norm(H @ z) + cp.abs(z[0] - i)
    problem = cp.Problem(
        cp.Minimize(objective + cp.sum(t)),
        [cp.abs(z) <= 0.9, cp.real(z[0]) + cp.imag(z[1]) >= 0.7 + r[0]],
    )
    rng = np.random.default_rng(4)
    values = [rng.standard_normal(s) for s in ((3, 2), (2,), (2, 3, 2))]
    outputs = [z, r, problem.constraints[1].dual_variables[0]]
    return problem, parameters, outputs, [*values, np.array([0.0, 0.4])]


@complex_is_known
def test_complex_problems_are_pairs() -> None:
    problem, parameters, outputs, values = complex_problem()
    layer = ffoadapt.Layer(problem, parameters, outputs, solver="clarabel", objective=True)
    z, r, dual, value = layer(*values)
    for parameter, v in zip(parameters, values, strict=True):
        parameter.value = v if parameter.is_real() else v[..., 0] + 1j * v[..., 1]
    options = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    assert np.isclose(problem.solve(solver="CLARABEL", **options), value, rtol=1e-8)
    assert np.allclose(z[..., 0] + 1j * z[..., 1], outputs[0].value, atol=1e-6)
    assert np.allclose(r, outputs[1].value, atol=1e-6)
    assert np.allclose(dual, outputs[2].value, atol=1e-5)
    # An imaginary parameter has no real part: nothing depends on it.
    assert layer.solve(*values).vjp(None, None, None, 1.0)[3][0] == 0.0
    assert layer.check_gradients(*values).ok
    batch = [np.stack([v, v]) for v in values]
    assert np.allclose(layer(*batch)[0][1], z, atol=1e-9)


@complex_is_known
def test_complex_tensors_by_view_as_real() -> None:
    z, c = cp.Variable(2, complex=True), cp.Parameter(2, complex=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(z - c)), [cp.abs(z[0]) <= 1])
    layer = ffoadapt.Layer(problem, [c], [z], solver="clarabel")
    given = torch.tensor([3.0 + 4.0j, 0.5j], requires_grad=True)
    (pairs,) = layer(torch.view_as_real(given))
    found = torch.view_as_complex(pairs)
    assert np.allclose(found.detach(), [0.6 + 0.8j, 0.5j], atol=1e-6)
    found.real.sum().backward()
    # The projection onto the unit disc at 5 e: (I - ee')/5, by its first row.
    assert np.allclose(given.grad, [(0.64 - 0.48j) / 5.0, 1.0], atol=1e-5)


@complex_is_known
def test_hermitian_matrices() -> None:
    n = 3
    X, C = cp.Variable((n, n), hermitian=True), cp.Parameter((n, n), hermitian=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [X >> 0, cp.real(cp.trace(X)) == 1])
    layer = ffoadapt.Layer(problem, [C], [X], solver="clarabel")
    rng = np.random.default_rng(5)
    Z = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    C.value = Z = Z + Z.conj().T
    (found,) = layer(np.stack([Z.real, Z.imag], axis=-1))
    roots, vectors = np.linalg.eigh(Z)  # its eigenvalues are projected onto the simplex
    descending = np.cumsum(roots[::-1])
    shift = max((s - 1.0) / k for k, s in enumerate(descending, 1))
    right = (vectors * np.maximum(roots - shift, 0.0)) @ vectors.conj().T
    assert np.allclose(found[..., 0] + 1j * found[..., 1], right, atol=1e-6)
    assert layer.check_gradients(np.stack([Z.real, Z.imag], axis=-1)).ok


@complex_is_known
def test_duals_of_complex_constraints_are_refused() -> None:
    z, c = cp.Variable(2, complex=True), cp.Parameter(2, complex=True)
    problem = cp.Problem(cp.Minimize(cp.norm(z)), [z == c])
    with pytest.raises(ffoadapt.UnsupportedProblemError, match=r"cp\.real"):
        ffoadapt.Layer(problem, [c], [problem.constraints[0].dual_variables[0]])
