"""Programs of functions through every way in: frameworks, batches, transforms, bad input."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import SmoothLayer, Status

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="JAX is not installed")

HS71 = {"k": 1.0, "area": 25.0, "r": 40.0, "low": np.ones(4)}
Y = [1.0, 4.742999637, 3.821149984, 1.379408294]
"""W. Hock and K. Schittkowski, Test Examples for Nonlinear Programming Codes (1981), problem 71."""

V = np.array([1.0, -2.0, 0.5, 3.0])


def objective(p: Any, y: Any) -> Any:
    return p["k"] * y[0] * y[3] * (y[0] + y[1] + y[2]) + y[2]


def hs71(**settings: Any) -> SmoothLayer:
    return SmoothLayer(
        objective,
        inequalities=lambda p, y: p["area"] - y.prod(),
        equalities=lambda p, y: (y * y).sum() - p["r"],
        bounds=lambda p: (p["low"], 5.0),
        **{"start": [1.0, 5.0, 5.0, 1.0], "solver": "slsqp", **settings},
    )


def params(framework: str, dtype: str = "float64") -> dict[str, Any]:
    if framework == "torch":
        return {k: torch.tensor(v, dtype=getattr(torch, dtype)) for k, v in HS71.items()}
    return {k: jax.numpy.array(v, dtype=dtype) for k, v in HS71.items()}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The gradient of V'y, by exact Hessians."""
    result = hs71(curvature="exact").solve(params("torch"))
    assert result.y == pytest.approx(Y, abs=1e-7)
    found: dict[str, Any] = result.vjp(y=V)
    return found


@pytest.fixture(params=["torch", "jax"])
def framework(request: pytest.FixtureRequest) -> Any:
    if request.param == "jax":
        with jax.enable_x64(True):
            yield "jax"
    else:
        yield "torch"


def test_the_reference_is_the_derivative(reference: dict[str, Any]) -> None:
    """Central differences of tight solves, leaf by leaf."""
    layer, given = hs71(), params("torch")
    for name, value in given.items():
        step = 1e-5 * float(value.abs().max())
        for k in range(value.numel()):
            ends = []
            for sign in (step, -step):
                moved = value.clone().reshape(-1)
                moved[k] += sign
                ends.append(V @ layer.solve({**given, name: moved.reshape(value.shape)}).y)
            slope = (ends[0] - ends[1]) / (2.0 * step)
            assert np.ravel(reference[name])[k] == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("curvature", ["auto", "differences", "cg", "exact", "resolve"])
def test_every_curvature_gives_the_gradient(
    framework: str, curvature: str, reference: dict[str, Any]
) -> None:
    result = hs71(curvature=curvature).solve(params(framework))
    tolerance = 1e-6 if curvature == "resolve" else 1e-8
    for name, gradient in result.vjp(y=V).items():
        assert gradient == pytest.approx(reference[name], rel=tolerance, abs=tolerance)


def test_gradients_reach_every_leaf_by_backward(reference: dict[str, Any]) -> None:
    given = {k: v.requires_grad_(True) for k, v in params("torch").items()}
    (hs71()(given) @ torch.tensor(V)).backward()
    for name, leaf in given.items():
        assert leaf.grad.numpy() == pytest.approx(reference[name], rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("jitted", [False, True])
def test_gradients_in_jax(jitted: bool, reference: dict[str, Any]) -> None:
    layer = hs71()
    gradient = jax.grad(lambda p: (layer(p) * V).sum())
    found = (jax.jit(gradient) if jitted else gradient)(params("jax", "float32"))
    for name, leaf in found.items():
        assert leaf.dtype == "float32"
        assert np.asarray(leaf) == pytest.approx(reference[name], rel=1e-6, abs=1e-6)


def test_duals_are_outputs_and_have_gradients(framework: str) -> None:
    """Each output's gradient against differences, and forward against reverse mode."""
    layer, given = hs71(), params(framework)
    result = layer.solve(given)
    assert result.z_ineq == pytest.approx([0.55229366], abs=1e-7)
    assert result.z_eq == pytest.approx([0.16146857], abs=1e-7)
    assert result.z_lower == pytest.approx([1.08787123, 0.0, 0.0, 0.0], abs=1e-7)
    for name in ("z_ineq", "z_eq", "z_lower"):
        one = np.ones_like(getattr(result, name))
        gradient = result.vjp(**{name: one})
        for leaf in ("k", "area", "r"):
            step = 1e-5 * HS71[leaf]
            ends = []
            for sign in (step, -step):
                moved = layer.solve({**given, leaf: given[leaf] + sign})
                ends.append(getattr(moved, name).sum())
            slope = (ends[0] - ends[1]) / (2.0 * step)
            assert float(gradient[leaf]) == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, leaf)
            tangent = getattr(result.jvp({leaf: 1.0}), name).sum()
            assert float(gradient[leaf]) == pytest.approx(tangent, rel=1e-8, abs=1e-9)


def test_forward_mode_is_the_transpose(framework: str, reference: dict[str, Any]) -> None:
    result = hs71().solve(params(framework))
    for name, value in HS71.items():
        direction = np.random.default_rng(3).standard_normal(np.shape(value))
        tangent = result.jvp({name: direction}).y
        assert V @ tangent == pytest.approx(np.vdot(reference[name], direction), rel=1e-7, abs=1e-9)


KS = np.array([1.0, 1.1, 1.3])


def test_batches_are_what_their_elements_are(framework: str) -> None:
    layer = hs71()
    single = [layer.solve({**params(framework), "k": params(framework)["k"] * k}) for k in KS]
    several = torch.tensor(KS) if framework == "torch" else jax.numpy.array(KS)
    batch = layer.solve({**params(framework), "k": several})
    assert batch.y.shape == (3, 4)
    assert batch.status == [Status.OPTIMAL] * 3
    gradient = batch.vjp(y=np.broadcast_to(V, (3, 4)))
    assert gradient["k"].shape == (3,)
    assert gradient["r"].shape == ()
    for i, one in enumerate(single):
        assert np.array_equal(batch.y[i], one.y)
        assert gradient["k"][i] == one.vjp(y=V)["k"]
    total = sum(one.vjp(y=V)["r"] for one in single)
    assert gradient["r"] == pytest.approx(total, rel=1e-12)


def test_the_example_says_which_axes_are_a_batch() -> None:
    """Where the functions alone do not: a sum of squares takes an array of any shape."""
    layer = SmoothLayer(lambda p, y: ((y - p) ** 2).sum(), start=[0.0, 0.0], params=torch.zeros(2))
    targets = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    y = layer(targets)
    assert y.detach().numpy() == pytest.approx(targets.detach().numpy())
    y.sum().backward()
    assert targets.grad is not None
    assert targets.grad.numpy() == pytest.approx(np.ones((3, 2)))


def test_a_vector_objective_of_matrices_is_a_batch() -> None:
    rng = np.random.default_rng(0)
    L = rng.normal(size=(4, 3, 3))
    P, q = torch.tensor(L @ L.transpose(0, 2, 1) + np.eye(3)), torch.tensor(rng.normal(size=(4, 3)))
    layer = SmoothLayer(lambda p, y: 0.5 * p["P"] @ y @ y + p["q"] @ y, start=np.zeros(3))
    y = layer({"P": P, "q": q})
    assert y.numpy() == pytest.approx(-np.linalg.solve(P.numpy(), q.numpy()[..., None])[..., 0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_vmap_and_jacobians_in_torch() -> None:
    layer, given = hs71(), params("torch")
    ks = torch.tensor(KS)
    mapped = torch.func.vmap(lambda k: layer({**given, "k": k}))(ks)
    assert torch.equal(mapped, layer({**given, "k": ks}))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        found = jacobian(lambda r: layer({**given, "r": r}))(given["r"])
        assert found.numpy() == pytest.approx(layer.solve(given).jvp({"r": 1.0}).y, rel=1e-8)


def test_vmap_and_jacobians_in_jax() -> None:
    with jax.enable_x64(True):
        layer, given = hs71(), params("jax")
        ks = jax.numpy.array(KS)
        one = lambda k: layer({**given, "k": k})  # noqa: E731
        assert np.array_equal(jax.vmap(one)(ks), layer({**given, "k": ks}))
        assert np.array_equal(jax.jit(jax.vmap(one))(ks), layer({**given, "k": ks}))
        expected = layer.solve(given).jvp({"r": 1.0}).y
        for jacobian in (jax.jacrev, jax.jacfwd):
            found = jacobian(lambda r: layer({**given, "r": r}))(given["r"])
            assert np.asarray(found) == pytest.approx(expected, rel=1e-8)


def test_params_are_any_tree() -> None:
    """A module's parameters, nested tuples, and constants that are no arrays."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 3).double()
    for tree in (dict(module.named_parameters()), tuple(module.parameters()), module.parameters()):

        def cost(p: Any, y: Any) -> Any:
            weight, bias = p.values() if isinstance(p, dict) else p
            weight, bias = (weight, bias) if weight.ndim == 2 else (bias, weight)
            return ((y - weight.sum(dim=0) - bias) ** 2).sum()

        module.zero_grad()
        y = SmoothLayer(cost, start=np.zeros(3))(tree)
        assert y.tolist() == pytest.approx((module.weight.sum(dim=0) + module.bias).tolist())
        y.sum().backward()
        assert module.weight.grad is not None
        assert module.weight.grad.numpy() == pytest.approx(np.ones((3, 3)))
    nested = {"a": (torch.tensor(2.0), None), "n": 3, "word": "x"}
    found = ffoadapt.smooth(lambda p, y: (y - p["n"] * p["a"][0]) ** 2, nested, 0.0)
    assert float(found.y) == pytest.approx(6.0)


def test_jax_trees_of_its_own() -> None:
    from typing import NamedTuple

    class Weights(NamedTuple):
        a: Any
        b: Any

    given = Weights(jax.numpy.array(2.0), jax.numpy.array(1.0))
    layer = SmoothLayer(lambda p, y: (y - p.a * p.b) ** 2, start=0.0)
    found = jax.grad(lambda p: layer(p))(given)
    assert isinstance(found, Weights)
    assert (float(found.a), float(found.b)) == pytest.approx((1.0, 2.0))


def test_numpy_functions_return_their_gradients() -> None:
    a, t = np.array([2.0, 1.0]), np.array([1.0, 3.0])

    def cost(p: Any, y: Any) -> Any:
        r = y - p["t"]
        return 0.5 * p["a"] @ (r * r), ({"a": 0.5 * r * r, "t": -p["a"] * r}, p["a"] * r)

    def plane(p: Any, y: Any) -> Any:
        return y.sum() - 1.0, ({"a": np.zeros(2), "t": np.zeros(2)}, np.ones(2))

    layer = SmoothLayer(cost, equalities=plane, start=np.zeros(2))
    result = layer.solve({"a": a, "t": t})
    P = np.diag(a)
    expected = ffoadapt.qp(P, -a * t, A=np.ones((1, 2)), b=np.ones(1))
    assert result.y == pytest.approx(expected.x)
    assert result.z_eq == pytest.approx(expected.y_eq)
    gradient = result.vjp(y=[1.0, 0.0])
    # y = t - (1't - 1) a^-1 / 1'a^-1
    inverse = 1.0 / a
    assert gradient["t"] == pytest.approx(np.array([1.0, 0.0]) - inverse[0] / inverse.sum())


def test_float32_functions_meet_float64() -> None:
    """Data that a function holds in float32 do not stop it; the answer is in float32 again."""
    rng = np.random.default_rng(0)
    X, t = (torch.tensor(rng.normal(size=s), dtype=torch.float32) for s in ((20, 3), (20,)))
    w = torch.zeros(3, dtype=torch.float32, requires_grad=True)
    layer = SmoothLayer(
        lambda p, y: ((X @ y - t) ** 2).mean() + (p.exp() * y * y).sum(), start=np.zeros(3)
    )
    y = layer(w)
    assert y.dtype is torch.float32
    y.sum().backward()
    wide, H = torch.zeros(3, dtype=torch.float64), (X.T @ X / 20 + torch.eye(3)).double()
    exact = torch.linalg.solve(H, (X.T @ t / 20).double())
    assert y.detach().numpy() == pytest.approx(exact.numpy(), rel=1e-5)
    expected = -torch.linalg.solve(H, torch.ones(3).double()) * exact * wide.exp()
    assert w.grad is not None
    assert w.grad.numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert layer.solve(w).report().verdict == "differentiable"


def test_functions_that_compute_in_float32_are_told() -> None:
    layer = SmoothLayer(
        lambda p, y: torch.cosh(y.float() - p.float()).sum().double() + (y**4).sum(),
        start=np.ones(4),
    )
    report = layer.solve(torch.full((4,), 0.7, dtype=torch.float64)).report()
    assert report.verdict == "inaccurate_solution"
    assert report.error is not None


def test_where_a_call_went_is_said() -> None:
    layer, given = hs71(), params("torch")
    assert layer.last is None
    found = layer.solution(given)
    assert found.status is Status.OPTIMAL
    assert found.info["solver"] == "slsqp"
    report = found.report()
    assert report.verdict == "differentiable"
    assert report.active == 3
    assert report.gradient_calls is not None
    assert report.gradient_calls <= 3 + 2 * 4 + 22
    assert "gradient calls" in str(report)
    assert layer.last is not None
    assert layer.last.status is Status.OPTIMAL
    seen: list[Any] = []
    layer.on_report = seen.append
    leaf = given["k"].requires_grad_(True)
    layer({**given, "k": leaf}).sum().backward()
    assert [r.verdict for r in seen[0]] == ["differentiable"]
    assert layer.check_gradients(given).ok


def test_warm_starts_begin_at_the_last_solution() -> None:
    starts = []

    @ffoadapt.smooth_solver
    def noted(problem: Any, start: Any, options: Any) -> Any:
        starts.append(start.copy())
        return problem.start + 1.0 if problem.gradient(start)[0] < 0.0 else start

    layer = SmoothLayer(
        lambda p, y: ((y - p) ** 2).sum(), start=[0.0], solver=noted, warm_start=True
    )
    layer(torch.tensor([1.0]))
    layer(torch.tensor([1.0]))
    assert [s.tolist() for s in starts] == [[0.0], [1.0]]


def test_each_element_may_start_elsewhere() -> None:
    """Of two minima, each finds that on its side; of a y without axes too."""
    layer = SmoothLayer(
        lambda p, y: (y * y - p) ** 2, start=1.0, params=torch.tensor(1.0).double(), solver="slsqp"
    )
    y = layer(torch.tensor([4.0, 4.0]).double(), start=[1.0, -1.0])
    assert y.tolist() == pytest.approx([2.0, -2.0])


def test_a_solver_in_three_lines() -> None:
    """With or without duals, and its limits said."""

    @ffoadapt.smooth_solver(constraints=())
    def newton(problem: Any, start: Any, options: Any) -> Any:
        return start - problem.gradient(start) / 2.0

    layer = SmoothLayer(lambda p, y: ((y - p) ** 2).sum(), start=[0.0, 0.0], solver=newton)
    assert layer(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="takes no bounds"):
        ffoadapt.smooth(
            lambda p, y: ((y - p) ** 2).sum(),
            torch.ones(2),
            [0.0, 0.0],
            bounds=(0, 1),
            solver=newton,
        )
    ffoadapt.register_solver("newton-of-a-test", newton)
    assert "newton-of-a-test" in ffoadapt.solvers("smooth")
    assert "newton-of-a-test" not in ffoadapt.solvers()


def test_auto_falls_back() -> None:
    """The first solver of the ranking leaves the domain; another one solves it."""
    p = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = ffoadapt.smooth(
        lambda p, y: (p * y).sum() - y.log().sum(), p, [5.0, 5.0], bounds=(1e-3, None)
    )
    assert found.y.numpy() == pytest.approx([1.0, 0.5])


def test_threads_do_not_meet() -> None:
    layer, errors = hs71(), []
    expected = [layer.solve({**params("torch"), "k": torch.tensor(k)}).y for k in KS]

    def work(i: int) -> None:
        for _ in range(3):
            y = layer.solve({**params("torch"), "k": torch.tensor(KS[i])}).y
            if not np.array_equal(y, expected[i]):
                errors.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# ------------------------------------------------------------------------------------ verdicts


def far(p: Any, y: Any) -> Any:
    return ((y - p) ** 2).sum()


@pytest.mark.parametrize(
    ("cost", "bounds", "verdict"),
    [
        (lambda p, y: p * (y[0] ** 2 - y[1] ** 2), None, "inaccurate_solution"),
        (lambda p, y: (y[0] - p) ** 2 + 0.0 * y[1], None, "not_unique"),
        (lambda p, y: ((y - p + 1.0) ** 2).sum(), (0.0, None), "weakly_active"),
    ],
    ids=["saddle", "singular", "kink"],
)
@pytest.mark.parametrize("curvature", ["differences", "cg"])
def test_what_has_no_derivative_is_said(
    cost: Any, bounds: Any, verdict: str, curvature: str
) -> None:
    layer = SmoothLayer(cost, bounds=bounds, start=[0.0, 0.0], curvature=curvature)
    result = layer.solve(torch.tensor(1.0, dtype=torch.float64))
    assert np.isfinite(result.vjp(y=[1.0, 1.0])).all()
    assert result.report().verdict == verdict


# ------------------------------------------------------------------------------------ bad input

ONE = torch.tensor([1.0, 2.0], dtype=torch.float64)
ZERO = [0.0, 0.0]

WRONG: dict[str, tuple[Any, str]] = {
    "vector": (lambda: ffoadapt.smooth(lambda p, y: (y - p) ** 2, ONE, ZERO), r"shape \(2,\)"),
    "constant": (lambda: ffoadapt.smooth(lambda p, y: torch.tensor(1.0), ONE, ZERO), "depend on y"),
    "number": (lambda: ffoadapt.smooth(lambda p, y: 1.0, ONE, ZERO), "a float"),
    "nothing": (lambda: ffoadapt.smooth(lambda p, y: None, ONE, ZERO), "NoneType"),
    "integer": (lambda: ffoadapt.smooth(lambda p, y: far(p, y).long(), ONE, ZERO), "integer"),
    "detached": (lambda: ffoadapt.smooth(lambda p, y: far(p, y).detach(), ONE, ZERO), "graph"),
    "nan": (lambda: ffoadapt.smooth(lambda p, y: far(p, y) * np.nan, ONE, ZERO), "at the start"),
    "domain": (
        lambda: ffoadapt.smooth(lambda p, y: (p * y).sum() - y.log().sum(), ONE, [-1.0, 1.0]),
        "start inside of the domain",
    ),
    "no leaf": (lambda: ffoadapt.smooth(far, {"a": 3}, ZERO), "no floating array"),
    "integers": (lambda: ffoadapt.smooth(far, torch.tensor([1, 2]), ZERO), "no floating array"),
    "complex": (lambda: ffoadapt.smooth(far, ONE + 1j, ZERO), "complex"),
    "mixed": (lambda: ffoadapt.smooth(far, (ONE, jax.numpy.ones(2)), ZERO), "jax and torch"),
    "start missing": (lambda: SmoothLayer(far), "start is missing"),
    "start length": (lambda: ffoadapt.smooth(far, ONE, [0.0, 0.0, 0.0]), r"shape \(3,\)"),
    "start infinite": (lambda: ffoadapt.smooth(far, ONE, [0.0, np.inf]), "not finite"),
    "crossing": (lambda: ffoadapt.smooth(far, ONE, ZERO, bounds=(2.0, 1.0)), "cross"),
    "crossing in a batch": (
        lambda: SmoothLayer(far, bounds=lambda p: (p, 1.5), start=ZERO, params=ONE)(
            torch.tensor([[1.0, 1.0], [1.0, 2.0]])
        ),
        "batch element 1.*cross",
    ),
    "bounds of a shape": (
        lambda: ffoadapt.smooth(far, ONE, ZERO, bounds=([1.0, 2.0, 3.0], None)),
        r"shape \(2,\)",
    ),
    "no pair": (lambda: ffoadapt.smooth(far, ONE, ZERO, bounds=1.0), "pair"),
    "no function": (lambda: ffoadapt.smooth(3, ONE, ZERO), "objective is a int"),  # type: ignore
    "key": (lambda: ffoadapt.smooth(lambda p, y: p["b"], {"a": ONE}, ZERO), "KeyError"),
    "setting": (lambda: ffoadapt.smooth(far, ONE, ZERO, curve="cg"), "no setting 'curve'"),
    "curvature": (lambda: ffoadapt.smooth(far, ONE, ZERO, curvature="newton"), "curvature="),
    "option": (
        lambda: ffoadapt.smooth(far, ONE, ZERO, solver="slsqp", solver_options={"fto": 1}),
        "Did you mean 'ftol'",
    ),
    "solver of matrices": (
        lambda: ffoadapt.smooth(far, ONE, ZERO, solver="daqp"),
        "takes matrices",
    ),
    "solver of functions": (
        lambda: ffoadapt.qp(np.eye(2), np.ones(2), solver="slsqp"),
        "takes functions",
    ),
    "nan in params": (lambda: ffoadapt.smooth(far, ONE * np.nan, ZERO), "not finite"),
    "numpy without gradient": (
        lambda: ffoadapt.smooth(far, np.ones(2), ZERO),
        r"return \(value, gradient\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_told(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(ffoadapt.FFOAdaptError, match=words):
        call()


def arrays(framework: str) -> Any:
    """What makes an array of float numbers, and the namespace with its functions."""
    if framework == "torch":
        return lambda v: torch.tensor(v, dtype=torch.float64), torch
    if framework == "jax":
        return lambda v: jax.numpy.array(v, dtype="float32"), jax.numpy
    return lambda v: np.array(v, dtype=float), np


def by_hand(function: Any) -> Any:
    """The function of NumPy arrays with gradients of zeros, which errors come before."""

    def both(p: Any, y: Any) -> Any:
        with np.errstate(all="ignore"):
            value = function(p, y)
        return value, (np.zeros((*np.shape(value), *p.shape)), np.ones((*np.shape(value), y.size)))

    return both


IN_BATCHES: dict[str, tuple[Any, str]] = {
    "domain": (lambda xp: {"objective": lambda p, y: (p * y - xp.log(p - 2.5)).sum()}, "0.*start"),
    "domain of a constraint": (
        lambda xp: {"inequalities": lambda p, y: y.sum() - xp.log(4.5 - p[0])},
        "2.*no finite value of the constraints",
    ),
    "shape": (lambda xp: {"objective": lambda p, y: (y - p) ** 2}, r"shape \(2,\)"),
    "start of a shape": (lambda xp: {"start": [0.5, 0.0, 1.0]}, r"y of shape \(3,\)"),
    "key": (lambda xp: {"objective": lambda p, y: (p["k"] * y).sum()}, "objective failed on"),
    "bounds cross": (lambda xp: {"bounds": lambda p: (p, 3.5)}, "1.*cross: lower.1. = 4 "),
    "bounds of a shape": (lambda xp: {"bounds": lambda p: (xp.zeros_like(p[:1]), xp.ones(3))}, "3"),
    "bounds that fail": (lambda xp: {"bounds": lambda p: p["low"]}, "0: bounds failed on these"),
    "a solver's point": (
        lambda xp: {
            "inequalities": lambda p, y: p[0] + 4.0 - y.sum() * 0.0 - y[:1],
            "solver": ffoadapt.smooth_solver(lambda problem, start, options: start),
            "polish": False,
        },
        "3 of 3 programs.*element 2.*violates a constraint",
    ),
}


@pytest.mark.parametrize("kind", ["torch", "jax", "numpy"])
@pytest.mark.parametrize("name", IN_BATCHES)
def test_bad_input_in_a_batch_names_its_element(name: str, kind: str) -> None:
    array, xp = arrays(kind)
    made, words = IN_BATCHES[name]
    given = {"objective": lambda p, y: ((y - p) ** 2).sum(), "start": ZERO, **made(xp)}
    if kind == "numpy":
        for what in ("objective", "inequalities"):
            if what in given:
                given[what] = by_hand(given[what])
    layer = SmoothLayer(**given, params=array([1.0, 2.0]))
    with pytest.raises(ffoadapt.FFOAdaptError, match=words):
        layer(array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))


@pytest.mark.parametrize("kind", ["torch", "jax"])
@pytest.mark.parametrize("where", ["objective", "inequalities", "equalities"])
@pytest.mark.parametrize("what", ["constant", "stopped", "integer", "foreign"])
def test_a_function_that_does_not_depend_on_y_is_told(what: str, where: str, kind: str) -> None:
    """Also by a framework whose gradient of it is 0."""
    array, _ = arrays(kind)
    stop = (lambda v: v.detach()) if kind == "torch" else jax.lax.stop_gradient
    whole = (lambda v: v.long()) if kind == "torch" else (lambda v: v.astype(int))
    other = arrays("jax" if kind == "torch" else "torch")[0]
    wrong = {
        "constant": lambda p, y: p.sum(),
        "stopped": lambda p, y: stop(y).sum(),
        "integer": lambda p, y: whole(y).sum(),
        "foreign": lambda p, y: other(1.0),
    }[what]
    functions = {"objective": lambda p, y: ((y - p) ** 2).sum(), where: wrong}
    layer = SmoothLayer(**functions, start=ZERO, params=array([1.0, 2.0]))
    with pytest.raises(ffoadapt.ParameterError, match=where):
        layer(array([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("kind", ["torch", "jax"])
def test_an_error_in_backward_names_its_element(kind: str) -> None:
    """The root of 0 has no derivative; the others' gradients are theirs where NaN is wanted."""
    array, xp = arrays(kind)

    def gradient(given: Any, **settings: Any) -> Any:
        layer = SmoothLayer(
            lambda p, y: ((y - xp.sqrt(p)) ** 2).sum(), start=[1.0], params=array([1.0]), **settings
        )
        if kind == "jax":
            return np.asarray(jax.grad(lambda p: layer(p).sum())(given))
        layer(given.requires_grad_()).sum().backward()
        return given.grad.numpy()

    with pytest.raises(ffoadapt.DifferentiationError, match="batch element 1: the gradient in par"):
        gradient(array([[4.0], [0.0], [9.0]]))
    found = gradient(array([[4.0], [0.0], [9.0]]), on_failure="nan")
    assert found[[0, 2], 0] == pytest.approx([0.25, 1.0 / 6.0], rel=1e-6)
    assert not np.isfinite(found[1, 0])


def test_a_users_error_says_where() -> None:
    """It stays what it is, with a note."""

    def picky(p: Any, y: Any) -> Any:
        if p[0] > 4.0:
            raise ZeroDivisionError("mine")
        return far(p, y)

    layer = SmoothLayer(picky, start=ZERO, params=ONE)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        layer(torch.tensor([[1.0, 2.0], [5.0, 6.0]]))
    assert caught.value.__notes__ == ["in batch element 1"]


@pytest.mark.parametrize(
    ("start", "words"), [("here", "no array"), ([0.0, np.nan], "not finite"), ([0.0], "shape")]
)
def test_a_start_of_a_call_is_looked_at(start: Any, words: str) -> None:
    layer = SmoothLayer(far, start=ZERO, params=ONE)
    for call in (layer, layer.solve):
        with pytest.raises(ffoadapt.ParameterError, match=words):
            call(ONE, start=start)


def liar(problem: Any, start: Any, options: Any) -> Any:
    return start


def test_a_point_that_is_no_solution_is_an_error() -> None:
    solver = ffoadapt.smooth_solver(liar)
    with pytest.raises(ffoadapt.SolveError, match="violates a constraint by"):
        ffoadapt.smooth(
            far, ONE, ZERO, inequalities=lambda p, y: 1.0 - y**3, solver=solver, polish=False
        )
    for answer, words in (
        (lambda p, s, o: None, "no point"),
        (lambda p, s, o: s[:1], r"shape \(1,\)"),
        (lambda p, s, o: s * np.nan, "not finite"),
        (lambda p, s, o: s + 1j, "complex"),
    ):
        with pytest.raises(ffoadapt.SolveError, match=words):
            ffoadapt.smooth(far, ONE, ZERO, solver=ffoadapt.smooth_solver(answer))


def test_failed_elements_are_nan_and_the_others_what_they_are_alone() -> None:
    layer = SmoothLayer(far, start=ZERO, params=ONE, on_failure="nan")
    given = torch.tensor([[1.0, np.nan], [1.0, 2.0]], requires_grad=True)
    y = layer(given)
    assert torch.isnan(y[0]).all()
    assert y[1].tolist() == [1.0, 2.0]
    y[1].sum().backward()
    assert given.grad is not None
    assert given.grad[0].tolist() == [0.0, 0.0]
    assert layer.last is not None
    assert layer.last.status == [Status.ERROR, Status.OPTIMAL]


def test_empty_batches(framework: str) -> None:
    layer = SmoothLayer(far, start=ZERO, params=ONE)
    empty = torch.zeros(0, 2) if framework == "torch" else jax.numpy.zeros((0, 2))
    assert tuple(layer(empty).shape) == (0, 2) if framework == "torch" else True


def test_a_time_limit_holds_where_the_solver_has_none() -> None:
    def slow(p: Any, y: Any) -> Any:
        time.sleep(0.05)
        return ((y - p) ** 4).sum()

    with pytest.raises(ffoadapt.SolveError, match="time_limit"):
        ffoadapt.smooth(slow, ONE, [50.0, 50.0], solver="slsqp", solver_options={"time_limit": 0.2})


def test_an_error_of_a_users_function_is_that_error() -> None:
    calls = [0]

    def fails(p: Any, y: Any) -> Any:
        calls[0] += 1
        if calls[0] > 4:
            raise ZeroDivisionError("mine")
        return ((y - p) ** 4).sum()

    with pytest.raises(ZeroDivisionError, match="mine"):
        ffoadapt.smooth(fails, ONE, ZERO, solver="slsqp")


# ----------------------------------------------------------------------- what frameworks tell


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_one_evaluation_serves_any_weights(numbers: bool, narrow: bool, several: bool) -> None:
    """Of functions of numbers, of vectors, and in float32; at one point, or a row for each."""
    framework = ffoadapt.get_plugin("framework", "torch")

    def functions(y: Any, p: Any) -> Any:
        p = p.float() if narrow else p
        rows = [] if numbers else [torch.outer(y, p).double(), torch.ones(2, dtype=torch.float64)]
        return [(y * y).sum() * p.sum(), (y - 1.0).prod(), *rows]

    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(4, 3)), rng.normal(size=(4, 2)).astype(np.float32).astype(float)
    given = (y, p) if several else (y[0], p[0])
    mapped = [True, True] if several else None
    tensors = [framework.from_numpy(a) for a in given]
    values, pull = framework.recorded(functions, tensors, [True, True], mapped)
    size = 2 if numbers else 10
    assert values.shape == ((4, size) if several else (size,))
    for again in (True, True, False):
        w = rng.normal(size=values.shape) * rng.integers(0, 2, size=values.shape)
        w.flags.writeable = False
        found = pull(w, again)
        for k, (at, weights, total) in enumerate(
            zip(y, w if several else w[None], values if several else values[None], strict=False)
        ):
            q = p[k]
            parts = [(at @ at) * q.sum(), (at - 1.0).prod()]
            parts += [] if numbers else [*np.outer(at, q).ravel(), 1.0, 1.0]
            assert total == pytest.approx(parts, rel=1e-6)
            slope = 2.0 * weights[0] * q.sum() * at
            slope += weights[1] * np.array([np.delete(at - 1.0, j).prod() for j in range(3)])
            other = np.full(2, weights[0] * (at @ at))
            if not numbers:
                outer = weights[2:8].reshape(3, 2)
                slope, other = slope + outer @ q, other + outer.T @ at
            for gradient, expected in zip(found, (slope, other), strict=True):
                own = np.zeros(expected.shape) if gradient is None else gradient
                own = own[k] if several and gradient is not None else own
                assert own == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_function_that_cannot_be_batched_is_evaluated_one_by_one() -> None:
    """It looks at the numbers; the gradient is what it is without that."""

    def cost(p: Any, y: Any) -> Any:
        return ((y - p) ** 2).sum() + (float(y[0].detach()) > -100.0) * (y**4).sum()

    layer = SmoothLayer(cost, start=np.zeros(5), solver="slsqp")
    p = torch.linspace(0.5, 1.0, 5, dtype=torch.float64)
    found = layer.solve(p)
    # 2 (y - p) + 4 y^3 = 0
    assert found.vjp(y=np.ones(5)) == pytest.approx(2.0 / (2.0 + 12.0 * found.y**2), rel=1e-8)


def test_jax_tells_what_a_function_does_not_depend_on() -> None:
    framework = ffoadapt.get_plugin("framework", "jax")

    def function(a: Any, b: Any, c: Any, d: Any) -> Any:
        cut = jax.lax.stop_gradient(b).sum()
        loop = jax.lax.fori_loop(0, 3, lambda _, v: v * a.sum(), 1.0)
        return loop + cut + (c * 0.0).sum() + jax.numpy.floor(d).astype(int).sum()

    arrays = [jax.numpy.ones(2)] * 4
    assert framework.unused(function, arrays) == [False, True, False, True]


# ------------------------------------------------------------------------------ large, matrix-free


def test_many_variables_with_bounds() -> None:
    """Smoothed total variation: no matrix, few gradient calls, right against differences."""
    n, rng = 20_000, np.random.default_rng(0)
    noisy = torch.tensor(np.sin(np.cumsum(rng.normal(size=n)) * 0.02) + 0.1 * rng.normal(size=n))

    def cost(p: Any, y: Any) -> Any:
        d = y[1:] - y[:-1]
        return 0.5 * ((y - p["b"]) ** 2).sum() + p["w"] * torch.sqrt(d * d + 0.1).sum()

    layer = SmoothLayer(cost, bounds=lambda p: (-p["u"], p["u"]), start=np.zeros(n))
    given = {"b": noisy, "w": torch.tensor(0.3).double(), "u": torch.tensor(0.8).double()}
    result = layer.solve(given)
    v = rng.normal(size=n)
    gradient, report = result.vjp(y=v), result.report()
    assert report.gradient_calls is not None
    assert report.gradient_calls <= 100
    assert report.active > 1000
    for name in ("w", "u"):
        step, ends = 1e-6, []
        for sign in (step, -step):
            moved = layer.solve({**given, name: given[name] + sign}, start=result.y)
            ends.append(v @ moved.y)
        assert float(gradient[name]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)


def test_programs_of_operators() -> None:
    """The projection onto the simplex and its derivative, without a matrix; and any program against
    the oracle of matrices."""
    from scipy.sparse.linalg import LinearOperator, aslinearoperator

    n, rng = 2000, np.random.default_rng(0)
    P = LinearOperator((n, n), matvec=lambda x: x, rmatvec=lambda x: x, dtype=float)
    A = LinearOperator(
        (n + 1, n),
        matvec=lambda x: np.concatenate(([x.sum()], -x)),
        rmatvec=lambda z: z[0] - z[1:],
        dtype=float,
    )

    @ffoadapt.conic_solver
    def sort(P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        u = np.sort(-q)[::-1]
        sums = (np.cumsum(u) - b[0]) / np.arange(1, n + 1)
        shift = sums[np.flatnonzero(u > sums)[-1]]
        x = np.maximum(-q - shift, 0.0)
        return x, b - A @ x, np.concatenate(([shift], np.maximum(shift + q, 0.0)))

    q = torch.tensor(0.01 * rng.normal(size=n), requires_grad=True)
    b = torch.zeros(n + 1, dtype=torch.float64)
    b[0] = 1.0
    cones = [ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(n)]
    found = ffoadapt.operator_program(P, q, A, b.requires_grad_(True), cones, solver=sort)
    v = torch.tensor(rng.normal(size=n))
    (found.x * v).sum().backward()
    held = found.x.detach() > 0.0
    assert q.grad is not None
    expected = torch.where(held, v[held].mean() - v, torch.zeros(()).double())
    assert q.grad.numpy() == pytest.approx(expected.numpy(), abs=1e-8)
    assert b.grad is not None
    assert float(b.grad[0]) == pytest.approx(float(v[held].mean()), abs=1e-8)
    assert found.report().verdict == "differentiable"

    k, rows = 12, 18
    L, G = rng.normal(size=(k, k)), rng.normal(size=(rows, k))
    dense = L @ L.T + np.eye(k), rng.normal(size=k), G, 0.3 * rng.random(rows)
    cones = [ffoadapt.ZeroCone(2), ffoadapt.NonnegativeCone(rows - 2)]
    known = ffoadapt.solve(ffoadapt.ConeProgram(*dense, cones))

    @ffoadapt.conic_solver
    def told(*_: Any) -> Any:
        return known.x, known.s, known.z

    data = [torch.tensor(dense[1], requires_grad=True), torch.tensor(dense[3], requires_grad=True)]
    ops = [aslinearoperator(dense[0]), aslinearoperator(dense[2])]
    found = ffoadapt.operator_program(ops[0], data[0], ops[1], data[1], cones, solver=told)
    weights = [torch.tensor(rng.normal(size=s)) for s in (k, rows, rows)]
    sum((w * out).sum() for w, out in zip(weights, found, strict=True)).backward()
    expected = known.vjp(x=weights[0].numpy(), s=weights[1].numpy(), z=weights[2].numpy())
    assert data[0].grad.numpy() == pytest.approx(expected.q, rel=1e-7, abs=1e-8)
    assert data[1].grad.numpy() == pytest.approx(expected.b, rel=1e-7, abs=1e-8)
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="second_order"):
        cone = [ffoadapt.SecondOrderCone(rows)]
        ffoadapt.operator_program(ops[0], data[0], ops[1], data[1], cone, solver=told)
