"""Batches of layers, in which no element may depend on its neighbours nor on who watches."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ffoadapt
from ffoadapt import _kernel
from ffoadapt._program import structure

cp = pytest.importorskip("cvxpy")
torch = pytest.importorskip("torch")


@pytest.fixture(params=["dense", "sparse"])
def factors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "sparse":
        monkeypatch.setattr(structure, "DENSE_ENTRIES", 0)
        monkeypatch.setattr(structure, "DENSE_CURVED_ENTRIES", 0)


def entropy() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    moments = np.random.default_rng(1).standard_normal((4, 30))
    fixed = [moments @ x == moments @ np.full(30, 0.5)]
    return cp.Problem(cp.Minimize(c @ x - cp.sum(cp.entr(x))), fixed), c, x


def ball() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    inside = [cp.norm(x[:20] + 0.1) <= 1, cp.norm(x[15:]) <= 1, x <= 0.5]
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), inside), c, x


def correlations() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    X, c = cp.Variable((6, 6), PSD=True), cp.Parameter((6, 6))
    return cp.Problem(cp.Minimize(cp.sum_squares(X - c)), [cp.diag(X) == 1]), c, X


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
@pytest.mark.parametrize("make", [entropy, ball, correlations])
def test_an_element_is_bitwise_what_it_is_alone(make: Any, solver: str, factors: None) -> None:
    pytest.importorskip(solver)
    problem, c, x = make()
    layer = ffoadapt.Layer(problem, parameters=[c], variables=[x], solver=solver)
    rng = np.random.default_rng(0)
    sizes = np.geomspace(0.01, 2.0, 5).reshape(5, *[1] * len(c.shape))  # they take turns to polish
    values = sizes * rng.standard_normal((5, *c.shape))
    cotangents = rng.standard_normal((5, *x.shape))
    together = layer.solve(values)
    gradients = together.vjp(cotangents)[0]
    for i in range(5):
        alone = layer.solve(values[i])
        np.testing.assert_array_equal(together.variables[0][i], alone.variables[0])
        np.testing.assert_array_equal(gradients[i], alone.vjp(cotangents[i])[0])


def random_batch(seed: int, cones: tuple[ffoadapt.Cone, ...], n: int, size: int) -> list[Any]:
    """P, q, A, b of programs with known solutions, on faces of all kinds."""
    rng, m = np.random.default_rng(seed), sum(cone.dim for cone in cones)
    half, A, x, p = (rng.standard_normal((size, *s)) for s in ((n, n), (m, n), (n,), (m,)))
    P = half @ half.swapaxes(-1, -2) + 0.1 * np.eye(n)
    parts = np.split(p, np.cumsum([cone.dim for cone in cones])[:-1], axis=1)
    s = np.concatenate([c.project(v) for c, v in zip(cones, parts, strict=True)], axis=1)
    b = (A @ x[..., None])[..., 0] + s
    q = -(P @ x[..., None])[..., 0] - (A.swapaxes(-1, -2) @ (s - p)[..., None])[..., 0]
    return [P, q, A, b]


def check_alone(data: list[Any], cones: tuple[ffoadapt.Cone, ...], elements: Any) -> None:
    """Values and gradients of these elements of a batch are to the bit what they are alone."""

    def solved(arrays: list[Any]) -> tuple[Any, Any]:
        leaves = [torch.from_numpy(v).requires_grad_() for v in arrays]
        found = ffoadapt.cone_program(*leaves, cones, solver="clarabel", on_failure="nan")
        there = torch.isfinite(found.x)
        weights = torch.linspace(-1.0, 1.0, found.x.shape[-1], dtype=torch.float64)
        total = (found.x * weights)[there].sum() + torch.nan_to_num(found.z).sum()
        return found.x.detach(), torch.autograd.grad(total, leaves)

    x, gradients = solved(data)
    for i in elements:
        alone, found = solved([v[i].copy() for v in data])
        assert torch.equal(torch.nan_to_num(alone), torch.nan_to_num(x[i]))
        for single, many in zip(found, gradients, strict=True):
            assert torch.equal(single, many[i])


@pytest.fixture(params=["compiled", "not compiled"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "compiled":
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)


@pytest.mark.parametrize("seed", [0, 1])
def test_dependent_rows_of_a_semidefinite_cone_are_an_element_s_own(
    seed: int, kernel: None
) -> None:
    """How many rows its neighbours have, from the ranks of their matrices, is not seen."""
    pytest.importorskip("clarabel")
    cones = (ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(5), ffoadapt.PSDCone(3))
    check_alone(random_batch(seed, cones, 5, 16), cones, range(16))


CONES = st.one_of(
    st.builds(ffoadapt.NonnegativeCone, st.integers(1, 6)),
    st.builds(ffoadapt.SecondOrderCone, st.integers(2, 5)),
    st.builds(ffoadapt.PSDCone, st.integers(2, 4)),
    st.just(ffoadapt.ExponentialCone()),
    st.builds(ffoadapt.PowerCone, st.floats(0.1, 0.9)),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**20),
    cones=st.lists(CONES, min_size=1, max_size=4).map(tuple),
    n=st.integers(1, 9),
    size=st.integers(2, 20),
)
def test_elements_of_random_batches_are_bitwise_what_they_are_alone(
    kernel: None, seed: int, cones: tuple[ffoadapt.Cone, ...], n: int, size: int
) -> None:
    """Also where a neighbour has no solution."""
    pytest.importorskip("clarabel")
    data = random_batch(seed, (ffoadapt.ZeroCone(1), *cones), n, size)
    bad = seed % size
    data[2][bad, 0], data[3][bad, 0] = 0.0, 1.0  # 0'x = 1
    elements = {(bad + 1) % size, (bad + size // 2) % size, size - 1} - {bad}
    check_alone(data, (ffoadapt.ZeroCone(1), *cones), elements)


def singular() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """A program that does not determine x[1], whose gradient is that of least squares."""
    x, c = cp.Variable(30), cp.Parameter(30)
    return cp.Problem(cp.Minimize(cp.square(x[0] - c[0])), [cp.norm(x) <= 9]), c, x


def kinked() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    return cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1e-9 * c]), c, x


def quadratic() -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    x, c = cp.Variable(30), cp.Parameter(30)
    return cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.sum(x) == 1, x >= -1]), c, x


@pytest.mark.parametrize(
    "make", [quadratic, entropy, ball, correlations, singular, kinked], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_hook_sees_what_a_result_says_and_changes_nothing(
    make: Any, size: int, factors: None
) -> None:
    problem, c, x = make()
    layer = ffoadapt.Layer(problem, parameters=[c], variables=[x], solver="clarabel")
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((size, *c.shape)))
    values.requires_grad_()

    def gradient() -> np.ndarray:
        return torch.autograd.grad(layer(values)[0].sum(), values)[0].numpy()

    expected = gradient()
    seen: list[Any] = []
    layer.on_report = seen.append
    np.testing.assert_array_equal(gradient(), expected)
    result = layer.solve(values.detach().numpy())
    layer.on_report = None
    result.vjp(np.ones((size, *x.shape)))
    reports = result.report()
    assert list(map(str, seen[0])) == list(map(str, reports))
    assert seen[0].verdicts == [report.verdict for report in reports]
    if make is singular:
        assert set(seen[0].verdicts) == {"not_unique"}
    elif make is not kinked:
        assert set(seen[0].verdicts) == {"differentiable"}


@pytest.mark.parametrize("axes", [(), (1,), (3,), (3, 2)])
def test_a_parameter_that_nothing_depends_on_has_zero_gradient(axes: tuple[int, ...]) -> None:
    x, c = cp.Variable(4), cp.Parameter(4)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= cp.multiply(np.zeros(4), c)])
    layer = ffoadapt.Layer(problem, parameters=[c], variables=[x], solver="clarabel")
    values = torch.ones(*axes, 4, dtype=torch.float64, requires_grad=True)
    outputs = layer(values)[0]
    assert outputs.shape == (*axes, 4)
    found = torch.autograd.grad(outputs.sum(), values)[0]
    assert found.shape == values.shape and not found.any()
    jacobian = torch.func.jacrev(lambda c: layer(c)[0])(values)
    assert jacobian.shape == (*axes, 4, *axes, 4) and not jacobian.any()
