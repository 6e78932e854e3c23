"""What parameters declare, against what cvxpy itself accepts as their values."""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffoadapt
from ffoadapt_cvxpy._attributes import declared

PATTERN = ([0, 2, 1], [1, 1, 0])
DECLARATIONS: list[dict[str, Any]] = [
    {"nonneg": True},
    {"nonpos": True},
    {"pos": True},
    {"neg": True},
    {"bounds": [-1.5, 2.0]},
    {"bounds": [np.array([[0.0, -2, -1]] * 3), np.full((3, 3), 0.5)]},
    {"bounds": [None, 1.0]},
    {"symmetric": True},
    {"diag": True},
    {"sparsity": PATTERN},
    {"PSD": True},
    {"NSD": True},
    {"boolean": True},
    {"integer": True},
    {"integer": (np.array([0, 1]), np.array([2, 0]))},
    {},
]
FLOAT32 = float(np.finfo(np.float32).eps)


def parameter(**attributes: Any) -> cp.Parameter:
    return cp.Parameter((3, 3), name="M", **attributes)


def program(*parameters: cp.Parameter) -> ffoadapt.ParametricProgram:
    """One in which each matters."""
    x = cp.Variable(3)
    total = sum(p if p.shape == (3,) else p @ np.ones(3) for p in parameters)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - total)))
    return ffoadapt.Layer(problem, parameters, [x]).program


def layer(p: cp.Parameter, **more: Any) -> ffoadapt.Layer:
    x = cp.Variable(p.shape)
    return ffoadapt.Layer(cp.Problem(cp.Minimize(cp.sum_squares(x - p))), [p], [x], **more)


def cvxpy_accepts(p: cp.Parameter, value: np.ndarray) -> bool:
    with warnings.catch_warnings():  # sparse values as arrays
        warnings.simplefilter("ignore")
        try:
            p.value = value
        except ValueError:
            return False
    return True


def accepts(p: cp.Parameter, value: np.ndarray, precision: float | None = None) -> bool:
    try:
        program(p).check([value[None]], None if precision is None else [precision])
    except ffoadapt.ParameterError as error:
        assert error.elements == (0,) and "'M' is declared" in str(error)
        return False
    return True


def inside(attributes: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """A value that keeps to the attributes."""
    value = rng.standard_normal((3, 3))
    if "boolean" in attributes or "integer" in attributes:
        value = np.round(value)
    return np.array(_dense(parameter(**attributes).project(value)))


def _dense(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value


@settings(max_examples=200, deadline=None)
@given(
    which=st.sampled_from(range(len(DECLARATIONS))),
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0.0, 1e-13, 1e-6, 1e-3, 1.0]),
    spread=st.sampled_from(["entry", "all", "symmetric"]),
)
@pytest.mark.filterwarnings("ignore:Accessing a sparse")
def test_as_cvxpy_does(which: int, seed: int, size: float, spread: str) -> None:
    """A value off by much more, or much less, than cvxpy allows; or not at all."""
    rng, attributes = np.random.default_rng(seed), DECLARATIONS[which]
    change = rng.choice([-1.0, 1.0], (3, 3)) * rng.uniform(0.5, 1.0, (3, 3))
    if spread == "entry":
        change = change * (np.arange(9) == rng.integers(9)).reshape(3, 3)
    if spread == "symmetric":
        change = change + change.T
    p = parameter(**attributes)
    value = inside(attributes, rng) + size * change
    assert accepts(p, value) == cvxpy_accepts(p, value)


@pytest.mark.parametrize("attributes", DECLARATIONS, ids=lambda a: ",".join(a) or "none")
@pytest.mark.filterwarnings("ignore:Accessing a sparse")
def test_batches(attributes):
    """An element is bad whatever the others are, and a shared value is so in all elements."""
    rng = np.random.default_rng(0)
    other, p = cp.Parameter(3), parameter(**attributes)
    both = program(other, p)
    values = np.stack([inside(attributes, rng) for _ in range(4)])
    assert both.check([np.ones((4, 3)), values]) is None
    assert both.check([np.ones((0, 3)), values[:1]]) is None
    if not attributes:
        return
    values[2] = -1.7 * np.arange(9).reshape(3, 3) + np.pi * np.eye(3)
    values[3] = 2.3 * np.arange(9).reshape(3, 3) - np.pi * np.eye(3)
    bad = tuple(i for i in range(4) if not cvxpy_accepts(p, values[i]))
    with pytest.raises(ffoadapt.ParameterError, match=f"of batch element {bad[0]} ") as info:
        both.check([np.ones((4, 3)), values])
    assert info.value.elements == bad
    with pytest.raises(ffoadapt.ParameterError) as info:
        both.check([np.ones((4, 3)), values[bad[0]][None]])
    assert info.value.elements == (0, 1, 2, 3)
    assert "batch element" not in str(info.value)


def test_elements_of_several_parameters():
    p, q = cp.Parameter(3, nonneg=True, name="p"), cp.Parameter(3, nonpos=True, name="q")
    values = np.ones((3, 3)), -np.ones((3, 3))
    values[0][2, 1], values[1][0, 2] = -1.0, 1.0
    with pytest.raises(ffoadapt.ParameterError, match="'p' is declared nonneg=True") as info:
        program(p, q).check(values)
    assert info.value.elements == (0, 2)


MESSAGES = [
    ({"nonneg": True}, np.diag([1.0, -0.25, 1]), r"holds -0\.25 at index \(1, 1\), below 0"),
    ({"neg": True}, np.diag([0.0, 0, 0.5]) - 1e-3, r"holds 0\.499 at index \(2, 2\), above 0"),
    ({"bounds": [-1, 3]}, np.diag([0.0, 0, 4]), r"holds 4 at index \(2, 2\), above 3"),
    ({"symmetric": True}, np.eye(3, k=1), r"holds 1 at index \(0, 1\) and 0 at index \(1, 0\)"),
    ({"diag": True}, np.eye(3, k=-2), r"holds 1 at index \(2, 0\), where it should be 0"),
    ({"sparsity": PATTERN}, np.eye(3), r"holds 1 at index \(0, 0\), where it should be 0"),
    ({"boolean": True}, np.diag([1.0, 1, 2]), r"holds 2 at index \(2, 2\), which is not 0 or 1"),
    ({"integer": True}, np.diag([1.0, 1.5, 2]), r"holds 1\.5 at index .*not an integer"),
    ({"PSD": True}, np.diag([1.0, -0.25, 2]), r"eigenvalue of -0\.25; 1e-08 would count"),
    ({"NSD": True}, np.diag([0.5, -0.25, -2]), r"eigenvalue of 0\.5; 1e-08 would count"),
]


@pytest.mark.parametrize(("attributes", "value", "words"), MESSAGES, ids=lambda a: str(a)[:14])
def test_what_is_said(attributes, value, words):
    with pytest.raises(ffoadapt.ParameterError, match=words) as info:
        layer(parameter(**attributes)).solve(value)
    assert "check_attributes=False" in str(info.value)
    assert isinstance(info.value, ValueError)
    found = layer(parameter(**attributes), check_attributes=False).solve(value)
    assert np.isfinite(found.variables[0]).all()


def test_scalars():
    p = cp.Parameter(nonneg=True, name="p")
    assert layer(p).solve(0.0).variables[0] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ffoadapt.ParameterError, match=r"'p' .* its value holds -2, below 0"):
        layer(p).solve(-2.0)
    q = cp.Parameter(boolean=True)
    with pytest.raises(ffoadapt.ParameterError, match=r"element 1 holds 0\.5, which is not 0 or 1"):
        layer(q).solve(np.array([1.0, 0.5]))


def test_every_one_of_several_attributes():
    """cvxpy looks at none of them then, but its rules rest on all."""
    p = cp.Parameter(3, nonneg=True, integer=True, bounds=[-1, 4])
    (one,) = declared([p])
    assert len(one.rules) == 3
    for bad in ([0.0, 1, -1], [0.5, 1, 1], [5.0, 1, 1]):
        with pytest.raises(ffoadapt.ParameterError):
            layer(p).solve(np.array(bad))
    np.testing.assert_allclose(layer(p).solve(np.array([0.0, 1, 4])).variables[0], [0, 1, 4])


# --------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    ("attributes", "value"),
    [
        ({"nonneg": True}, np.diag([1.0, -4e-8, 0.5])),
        ({"bounds": [0, 1000]}, np.diag([1000 + 6e-5, 1.0, 0.5])),
        ({"symmetric": True}, np.ones((3, 3)) + 1e-7 * np.eye(3, k=1)),
        ({"diag": True}, np.eye(3) + 3e-8),
        ({"PSD": True}, 300 * np.diag([1.0, 1.0, -1e-7])),
        ({"NSD": True}, -0.5 * np.diag([1.0, 1.0, -1e-7])),
        ({"integer": True}, np.eye(3) + 1e-7),
    ],
    ids=lambda a: str(a)[:14],
)
def test_rounding_of_float32(attributes, value):
    p = parameter(**attributes)
    assert accepts(p, value, FLOAT32) and not accepts(p, value)
    assert not accepts(p, value + np.triu(np.full((3, 3), -1e-2), 1) + 0.1 * np.eye(3), FLOAT32)


@pytest.mark.parametrize(("n", "samples"), [(6, 3), (40, 15), (80, 30)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_singular_covariances_are_semidefinite(n, samples, dtype):
    rng, S = np.random.default_rng(n), cp.Parameter((n, n), PSD=True)
    returns = (100 * rng.standard_normal((5, samples, n))).astype(dtype)
    values = np.asarray(np.swapaxes(returns, 1, 2) @ returns, dtype=float)
    eps = [float(np.finfo(dtype).eps)]
    check = layer(S).program.check
    assert check([values], eps) is None
    lost = values - 1e-3 * np.abs(values).max() * np.eye(n)
    with pytest.raises(ffoadapt.ParameterError, match="eigenvalue"):
        check([lost], eps)


def weighted(**settings: Any) -> tuple[ffoadapt.Layer, np.ndarray]:
    """A budget that a negative weight makes void."""
    x, w, c = cp.Variable(2), cp.Parameter(2, nonneg=True), cp.Parameter(2)
    budget = cp.sum(x) + w @ cp.abs(x - 0.3) <= 1
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [budget])
    return ffoadapt.Layer(problem, [w, c], [x], **settings), np.array([2.0, 1.5])


@pytest.mark.parametrize("w", [-3e-11, -1e-17])
def test_a_weight_that_rounding_made_negative_is_none(w):
    """For any other would let go of what it weighs."""
    layer, c = weighted()
    rounded, exact = (layer.solve(np.array([0.1, v]), c).variables[0] for v in (w, 0.0))
    np.testing.assert_array_equal(rounded, exact)
    with pytest.raises(ffoadapt.ParameterError, match=r"holds -0\.0002 at index 1, below 0"):
        layer.solve(np.array([0.1, -2e-4]), c)
    values = [np.array([[0.1, w]]), c[None]]
    assert layer.program.check(values)[0][0, 1] == 0.0 and values[0][0, 1] == w


def test_the_frameworks_precision_counts():
    torch = pytest.importorskip("torch")
    pytest.importorskip("ffoadapt_torch")
    layer, c = weighted()
    w = torch.tensor([0.1, -2e-8], requires_grad=True)
    (x,) = layer(w, torch.tensor(c, dtype=torch.float32))
    (exact,) = layer(np.array([0.1, 0.0]), c)
    np.testing.assert_allclose(x.detach(), exact, atol=1e-6)
    x.sum().backward()
    assert w.grad.isfinite().all()
    with pytest.raises(ffoadapt.ParameterError, match=r"9\.5e-07 would count as rounding"):
        layer(torch.tensor([0.1, -2e-5]), torch.tensor(c, dtype=torch.float32))
    with pytest.raises(ffoadapt.ParameterError, match=r"1e-10 would count as rounding"):
        layer(torch.tensor([0.1, -2e-8], dtype=torch.float64), torch.tensor(c))


def test_jax_in_and_outside_of_jit():
    jax = pytest.importorskip("jax")
    pytest.importorskip("ffoadapt_jax")
    layer, c = weighted()
    c = jax.numpy.asarray(c, dtype="float32")
    (exact,) = layer(np.array([0.1, 0.0]), np.asarray(c))
    solve = lambda w: layer(w, c)[0]  # noqa: E731
    for function in (solve, jax.jit(solve)):
        found = function(jax.numpy.asarray([0.1, -2e-8], dtype="float32"))
        np.testing.assert_allclose(found, exact, atol=1e-6)
    bad = jax.numpy.asarray([[0.1, 0.2], [0.1, -2e-4]], dtype="float32")
    with pytest.raises(ffoadapt.ParameterError, match=r"batch element 1 holds -0\.0002"):
        solve(bad)
    with pytest.raises(ffoadapt.ParameterError, match=r"batch element 1 holds -0\.0002"):
        jax.vmap(solve)(bad)
    with pytest.raises(Exception, match=r"element 1 holds -0\.0002"):
        jax.block_until_ready(jax.jit(jax.vmap(solve))(bad))


@pytest.mark.parametrize("solver", ["auto", "clarabel"])
def test_bad_elements_are_contained(solver):
    layer, c = weighted(on_failure="nan", solver=solver)
    w = np.array([[0.1, 0.2], [0.1, -0.3], [-3e-11, 0.4], [-1.0, 0.0]])
    result = layer.solve(w, c)
    (x,) = result.variables
    assert np.isnan(x).all(axis=1).tolist() == [False, True, False, True]
    assert [status is ffoadapt.Status.ERROR for status in result.status] == [0, 1, 0, 1]
    assert "batch element 1 holds -0.3 at index 1" in result.info[1]["message"]
    for i in (0, 2):
        np.testing.assert_array_equal(x[i], layer.solve(w[i], c).variables[0])
    gradient, _ = result.vjp(np.ones((4, 2)))
    assert np.isfinite(gradient).all() and not gradient[[1, 3]].any()
    (all_lost,) = layer.solve(w[1], np.tile(c, (3, 1))).variables
    assert np.isnan(all_lost).all()


# ----------------------------------------------------------------------------- and elsewhere


def test_gradients_are_checked_across_the_edge():
    """Differences leave what is declared; the values themselves may not."""
    D, x, c = cp.Parameter((2, 2), diag=True), cp.Variable(2), cp.Parameter(2, nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - D @ np.ones(2) - c)), [cp.sum(x) <= 1])
    layer = ffoadapt.Layer(problem, [D, c], [x])
    assert layer.check_gradients(np.diag([1.0, 2.0]), np.array([0.0, 0.5])).ok
    with pytest.raises(ffoadapt.ParameterError, match="diag=True"):
        layer.check_gradients(np.ones((2, 2)), np.array([0.0, 0.5]))


def test_a_setting_of_two_values():
    with pytest.raises(ffoadapt.OptionError, match="check_attributes='no'; expected True or False"):
        layer(cp.Parameter(2, nonneg=True), check_attributes="no")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"nonneg": True}, [0.5, 0.0, 0.0]),
        ({"nonpos": True}, [0.0, 0.0, -2.0]),
        ({"pos": True}, [0.5, 0.0, 0.0]),
        ({"neg": True}, [0.0, 0.0, -2.0]),
        ({"bounds": [-1.0, None]}, [0.5, 0.0, -1.0]),
        ({"bounds": [np.array([1.0, -1, -1]), np.array([2.0, -0.5, 1])]}, [1.0, -0.5, -1.0]),
        ({"bounds": [-np.inf, 0.25]}, [0.25, 0.0, -2.0]),
    ],
    ids=lambda a: str(a)[:16],
)
def test_attributes_of_variables_are_constraints(attributes, expected):
    x, p = cp.Variable(3, **attributes), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)))
    (found,) = ffoadapt.Layer(problem, [p], [x]).solve(np.array([0.5, 0.0, -2.0])).variables
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_parameters_without_effect_are_checked_too():
    x, p, gone = cp.Variable(2), cp.Parameter(2), cp.Parameter(2, nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + 0 * cp.sum(gone)))
    layer = ffoadapt.Layer(problem, [p, gone], [x])
    np.testing.assert_allclose(layer.solve(np.ones(2), np.ones(2)).variables[0], 1.0)
    with pytest.raises(ffoadapt.ParameterError, match="nonneg=True"):
        layer.solve(np.ones(2), -np.ones(2))
