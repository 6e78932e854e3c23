"""The drop-in layers: other packages' words for options, and geometric programs."""

from __future__ import annotations

import sys
import types
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import ffoadapt
from ffoadapt_cvxpy._cvxpylayers import CvxpyLayers, _common

torch = pytest.importorskip("torch")
ffoadapt_torch = pytest.importorskip("ffoadapt_torch")


def drop_in(problem: Any, parameters: Any, variables: Any, **more: Any) -> CvxpyLayers:
    given = {"solver": None, "gp": False, "verbose": False, "solver_args": None}
    given |= {"custom_method": None, "settings": {}, **more}
    return CvxpyLayers(problem, parameters, variables, **given)


def norm_ball() -> tuple[Any, list[Any], list[Any]]:
    x, c = cp.Variable(3), cp.Parameter(3)
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.norm(x) <= 1]), [c], [x]


def box() -> tuple[Any, list[Any], list[Any]]:
    x, c = cp.Variable(3), cp.Parameter(3)
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [x >= 0, cp.sum(x) <= 1]), [c], [x]


# ---------------------------------------------------------------------------------- options


@pytest.mark.parametrize("problem", [norm_ball, box])
@pytest.mark.parametrize(
    "words",
    [
        {"eps": 1e-9, "max_iters": 5000, "acceleration_lookback": 0},
        {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 5000},
        {"abstol": 1e-9, "reltol": 1e-8, "feastol": 1e-7, "max_iters": 5000},
        {"tol_gap_abs": 1e-9, "tol_feas": 1e-8, "max_iter": 5000},
        {"tol": 1e-9, "maxiter": 5000, "solve_method": "SCS"},
        {"tolerance": 1e-8, "eps": 1e-9, "max_iterations": 5000, "use_indirect": False},
    ],
    ids=lambda words: next(iter(words)),
)
def test_words_choose_no_solver(problem, words):
    """The solver is the usual one, and all of those that come after it take the options."""
    given = drop_in(*problem())
    if words.get("solve_method"):
        words = {k: v for k, v in words.items() if k != "solve_method"}
    usual, asked = (given.at(args, None)._function for args in (None, words))
    assert asked.settings.solver == "auto"
    assert asked.settings.solver_options == {"tolerance": 1e-9, "max_iterations": 5000}
    structure = given.layer.program.structure
    first = usual.solver.job(structure).name
    assert asked.solver.job(structure).name == first
    names = [[name for name, _ in f.solver.others(structure, first)] for f in (usual, asked)]
    assert names[0] == names[1] and names[0]
    x, at_once = given.at(words, None), drop_in(*problem(), solver_args=words)
    value = np.array([2.0, -1.0, 0.5])
    np.testing.assert_allclose(x(value)[0], at_once.layer(value)[0], atol=1e-6)


def test_a_named_solver_keeps_its_words():
    given = drop_in(*box(), solver="OSQP", solver_args={"max_iter": 7, "eps_abs": 1e-3})
    options = given.layer._function.solver.job(given.layer.program.structure).options
    assert (options["max_iter"], options["eps_abs"], options["eps_rel"]) == (7, 1e-3, 1e-6)
    scs = {"acceleration_lookback": 5, "acceleration_interval": 3}
    given = drop_in(*box(), solver="scs", solver_args=scs)
    options = given.layer._function.solver.job(given.layer.program.structure).options
    assert scs.items() <= options.items()
    for other in ("osqp", "clarabel", "daqp"):  # to whom these say nothing
        given = drop_in(*box(), solver=other, solver_args={**scs, "max_iters": 50, "tol": 1e-7})
        assert given.layer._function.settings.solver_options == {
            "max_iterations": 50,
            "tolerance": 1e-7,
        }
    with pytest.raises(ffoadapt.OptionError, match=r"no option 'maximum'"):
        drop_in(*box(), solver_args={"maximum": 3})


def test_arguments_that_are_mappings_keep_their_layer():
    given = drop_in(*box())
    lpgd = {"mode": "lpgd", "derivative_kwargs": {"tau": 0.1, "rho": 0.1}, "max_iters": 100}
    assert given.at(lpgd, None) is given.at(
        {**lpgd, "derivative_kwargs": {"rho": 0.1, "tau": 0.1}}, None
    )
    assert given.at(lpgd, None) is not given.at({**lpgd, "max_iters": 101}, None)


# ------------------------------------------------------------------------ in cvxpylayers' words


def least_squares() -> Any:
    A, b, x = cp.Parameter((4, 3)), cp.Parameter(4), cp.Variable(3)
    objective = cp.Minimize(cp.sum_squares(A @ x - b) + cp.sum_squares(x))
    return ffoadapt_torch.CvxpyLayer(cp.Problem(objective), [A, b], [x])


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((7, 4, 3), (5, 4)), "Inconsistent batch sizes"),
        (((7, 4, 3), (7, 8)), "Invalid parameter shape"),
        (((4, 3), (8,)), "Invalid parameter shape"),
        (((3,), (4,)), "Invalid parameter dimensionality"),
    ],
)
def test_shapes_that_do_not_fit(shapes, words):
    with pytest.raises(ffoadapt.ShapeError, match=words):
        least_squares()(*map(torch.ones, shapes))


def test_parameters_that_are_missing():
    layer, every = least_squares(), "A tensor must be provided for each CVXPY parameter"
    with pytest.raises(ffoadapt.ParameterError, match=every):
        layer(torch.ones(4, 3))
    with pytest.raises(AttributeError, match=every) as none:
        layer(torch.ones(4, 3), None)
    assert isinstance(none.value, ffoadapt.ParameterError)


def test_what_does_not_belong_to_the_problem():
    x, y, p = cp.Variable(2), cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)))
    for parameters in ([], [p, cp.Parameter()]):
        with pytest.raises(ValueError, match=r"must exactly match problem\.parameters"):
            ffoadapt_torch.CvxpyLayer(problem, parameters, [x])
    for foreign in (y, (y >= 0).dual_variables[0]):
        with pytest.raises(ValueError, match=r"must be a subset of problem\.variables"):
            ffoadapt_torch.CvxpyLayer(problem, [p], [x, foreign])


def test_a_quadratic_form_in_a_constraint():
    x, P = cp.Variable(2), cp.Parameter((2, 2), PSD=True)
    problem = cp.Problem(cp.Minimize(cp.sum(x)), [cp.quad_form(x, P) <= 1])
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="only supported in the objective"):
        ffoadapt_torch.CvxpyLayer(problem, [P], [x])


def test_failures_are_those_of_diffcp_too(monkeypatch):
    """For who catches ``diffcp.SolverError``, which cvxpylayers lets through."""

    class TheirError(Exception):
        pass

    x, p = cp.Variable(), cp.Parameter()
    layer = ffoadapt_torch.CvxpyLayer(cp.Problem(cp.Minimize(x + p), [x >= 1, x <= -1]), [p], [x])
    monkeypatch.delitem(sys.modules, "diffcp", raising=False)
    with pytest.raises(ffoadapt.SolveError) as plain:
        layer(ONE)
    assert type(plain.value) is ffoadapt.SolveError
    monkeypatch.setitem(sys.modules, "diffcp", types.SimpleNamespace(SolverError=TheirError))
    with pytest.raises(TheirError) as both:
        layer(ONE)
    assert isinstance(both.value, ffoadapt.SolveError)
    assert both.value.statuses == plain.value.statuses


@pytest.mark.parametrize("attribute", ["symmetric", "PSD"])
def test_finite_differences_of_symmetric_parameters(attribute):
    """`gradcheck` moves one entry at a time; what is far from symmetric is still refused."""
    X, C = cp.Variable((2, 2)), cp.Parameter((2, 2), **{attribute: True})
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C) + cp.sum(C)), [cp.sum(X) <= 1])
    layer = ffoadapt_torch.CvxpyLayer(problem, [C], [X])
    value = tensor([[2.0, 0.5], [0.5, 3.0]])
    assert torch.autograd.gradcheck(layer, (value,), atol=1e-5)
    with pytest.raises(ffoadapt.ParameterError, match="not symmetric"):
        layer(tensor([[2.0, 0.5], [0.6, 3.0]]))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), "tight", None])
def test_a_wrong_tolerance_is_not_lost_among_right_ones(wrong):
    (found,) = _common({"abstol": 1e-8, "reltol": wrong, "feastol": 1e-9}).values()
    assert found is wrong
    assert _common({"abstol": 1e-8, "tolerance": 1e-9}) == {"tolerance": 1e-9}


# ------------------------------------------------------------------------- geometric programs


def geometric() -> tuple[Any, list[Any], list[Any]]:
    """min. x + a_1 y, x y >= a_0 (e is 1): x = sqrt(a_0 a_1), y = sqrt(a_0 / a_1)."""
    x, y = cp.Variable(pos=True), cp.Variable(pos=True)
    a, e = cp.Parameter(2, pos=True, name="a"), cp.Parameter(nonneg=True, name="e")
    return cp.Problem(cp.Minimize(x + a[1] * y), [x * y**e >= a[0]]), [a, e], [x, y]


def test_duals_of_a_geometric_program():
    """min. x + a_1 y, x y >= a_0: the multiplier between logarithms is the derivative of the log of
    the optimal value 2 sqrt(a_0 a_1) by log a_0, which is 1/2; with a box as cvxpy says."""
    x, y, a = cp.Variable(pos=True), cp.Variable(pos=True), cp.Parameter(2, pos=True)
    product, bound = x * y >= a[0], cp.hstack([x, y]) <= 1.5
    problem = cp.Problem(cp.Minimize(x + a[1] * y), [product, bound])
    wanted = [x, product.dual_variables[0], y, bound.dual_variables[0]]
    layer = ffoadapt_torch.CvxpyLayer(problem, [a], wanted, gp=True)
    inside = layer(tensor([1.0, 0.9]))
    np.testing.assert_allclose(inside[1].item(), 0.5, atol=1e-6)
    np.testing.assert_allclose(inside[3].detach(), 0.0, atol=1e-6)
    value = tensor([2.0, 0.5])
    found = layer(value)
    a.value = value.detach().numpy()
    problem.solve(solver=cp.CLARABEL, gp=True)
    for out, right in zip(found, [x, product, y, bound], strict=True):
        right = right.value if isinstance(right, cp.Variable) else right.dual_value
        np.testing.assert_allclose(out.detach(), right, atol=1e-4)
    assert found[3].max() > 0.05
    assert torch.autograd.gradcheck(layer, (value,), atol=1e-5)


ONE = torch.tensor(1.0, dtype=torch.float64)


def tensor(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_geometric_program():
    layer = ffoadapt_torch.CvxpyLayer(*geometric(), gp=True)
    a, e = tensor([3.0, 0.7]), tensor(1.0)
    x, y = layer(a, e)
    np.testing.assert_allclose([x.item(), y.item()], [2.1**0.5, (3 / 0.7) ** 0.5], rtol=1e-6)
    (x + 2 * y).backward()
    exact = 0.5 * np.array([x.item() / 3 + 2 * y.item() / 3, x.item() / 0.7 - 2 * y.item() / 0.7])
    np.testing.assert_allclose(a.grad, exact, rtol=1e-5)
    step = 1e-5
    ahead, behind = (sum(layer(a, e + d)) + layer(a, e + d)[1] for d in (step, -step))
    np.testing.assert_allclose(e.grad, ((ahead - behind) / (2 * step)).item(), rtol=1e-3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([3.0, -1.5], r"'a' .* holds -1\.5 at index 1\. .* must be positive"),
        ([0.0, 1.0], r"'a' .* holds 0 at index 0\. .* must be positive"),
        ([[3.0, 1.0], [2.0, -2.0]], r"batch element 1 holds -2 at index 1\. .* must be positive"),
        ([3.0, float("nan")], r"a holds nan at index \(1,\)"),
    ],
    ids=["negative", "zero", "batch", "nan"],
)
def test_what_has_no_logarithm_is_named(value, words):
    layer = ffoadapt_torch.CvxpyLayer(*geometric(), gp=True)
    with pytest.raises(ffoadapt.ProblemError, match=words):
        layer(tensor(value), ONE)
    if np.ndim(value) == 2:
        with pytest.raises(ffoadapt.ProblemError, match=words):
            torch.func.vmap(lambda a: layer(a, ONE))(tensor(value))
    with pytest.raises(ffoadapt.ParameterError, match="'e' is declared nonneg=True"):
        layer(tensor([1.0, 1.0]), -ONE)


def test_what_has_no_logarithm_in_jax():
    jax = pytest.importorskip("jax")
    ffoadapt_jax = pytest.importorskip("ffoadapt_jax")
    layer = ffoadapt_jax.CvxpyLayer(*geometric(), gp=True)
    solve = lambda a: layer(a, np.float32(1.0))  # noqa: E731
    good, bad = (jax.numpy.asarray(v, dtype="float32") for v in ([3.0, 0.7], [3.0, -0.7]))
    np.testing.assert_allclose(jax.jit(solve)(good)[0], 2.1**0.5, rtol=1e-5)
    with pytest.raises(ffoadapt.ParameterError, match=r"'a' .* holds -0\.7 at index 1\."):
        solve(bad)
    with pytest.raises(Exception, match="must be positive"):
        jax.block_until_ready(jax.jit(solve)(bad))


def test_elements_without_a_logarithm_are_contained():
    layer = ffoadapt_torch.CvxpyLayer(*geometric(), gp=True, on_failure="nan")
    a = tensor([[3.0, 0.7], [3.0, -0.7], [0.0, 1.0], [1.0, 2.0]])
    x, y = layer(a, ONE)
    assert torch.isnan(x).tolist() == torch.isnan(y).tolist() == [False, True, True, False]
    np.testing.assert_allclose(x.detach()[[0, 3]], [2.1**0.5, 2**0.5], rtol=1e-6)
    x[[0, 3]].sum().backward()
    assert a.grad.isfinite().all() and not a.grad[1:3].any() and a.grad[[0, 3]].all()


def test_without_the_check_it_is_nan():
    layer = ffoadapt_torch.CvxpyLayer(*geometric(), gp=True, check_attributes=False)
    with pytest.raises(ffoadapt.ProblemError, match=r"log\(a\) holds nan at index \(1,\)"):
        layer(tensor([3.0, -1.5]), ONE)


def test_bounds_of_a_geometric_parameter():
    x, a = cp.Variable(pos=True), cp.Parameter(pos=True, bounds=[0.5, 2.0], name="a")
    layer = ffoadapt_torch.CvxpyLayer(cp.Problem(cp.Minimize(x), [x >= a]), [a], [x], gp=True)
    np.testing.assert_allclose(layer(ONE)[0], 1.0, rtol=1e-6)
    with pytest.raises(ffoadapt.ParameterError, match=r"'a' is declared with bounds.* above 2"):
        layer(3 * ONE)
