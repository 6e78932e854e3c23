"""The algorithms of `ffoadapt.bilevel` against closed forms, in torch and in JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize

import ffoadapt
from ffoadapt.bilevel import BilevelProblem, Bome, Goldstein, minimize


@dataclass(frozen=True)
class Kit:
    """A framework's arrays, and the few functions that the problems below need."""

    name: str
    array: Callable[[Any], Any]
    xp: Any

    def clip(self, array: Any, low: float | None, high: float | None) -> Any:
        return self.xp.clip(array, low, high)


@pytest.fixture(params=["torch", "jax"])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "torch":
        import torch

        yield Kit("torch", lambda a: torch.tensor(np.array(a, dtype=np.float64)), torch)
        return
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        yield Kit("jax", lambda a: jnp.array(np.array(a, dtype=np.float64)), jnp)


# -- closed form A: f = |y - t|^2 / 2 + m |x|^2 / 2, g = |y - Mx|^2 / 2


@dataclass(frozen=True)
class FormA:
    """Functions and answers; ``biased`` is the limit of a penalty method."""

    upper: Any
    lower: Any
    x: Any
    y: Any
    exact: Any
    biased: Callable[[float], Any]
    largest: float


def matrix(rng: Any, n: int, k: int) -> Any:
    """Random, with singular values from 0.7 to 1.3."""
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (n, k))
    return left[:, :k] * np.linspace(0.7, 1.3, k) @ right


def form_a(kit: Kit, seed: int = 3, n: int = 4, k: int = 3, m: float = 0.3) -> FormA:
    rng = np.random.default_rng(seed)
    M, t = matrix(rng, n, k), rng.normal(size=n)
    Mk, tk = kit.array(M), kit.array(t)
    H = M.T @ M
    return FormA(
        lambda x, y: ((y - tk) ** 2).sum() / 2 + m / 2 * (x**2).sum(),
        lambda x, y: ((y - Mk @ x) ** 2).sum() / 2,
        kit.array(np.zeros(k)),
        kit.array(np.zeros(n)),
        np.linalg.solve(H + m * np.eye(k), M.T @ t),
        lambda lam: np.linalg.solve(H + m * (1 + lam) / lam * np.eye(k), M.T @ t),
        float(np.linalg.eigvalsh(H + m * np.eye(k))[-1]),
    )


def error(found: Any, exact: Any) -> float:
    return float(np.abs(np.asarray(found) - exact).max())


def solved(form: FormA, algorithm: str, steps: int, **options: Any) -> Any:
    return minimize(form.upper, form.lower, form.x, form.y, algorithm, steps, **options)


def test_hypergradient_is_exact_in_few_calls(kit: Kit) -> None:
    form = form_a(kit, seed=0, n=5, k=4, m=0.1)
    result = solved(form, "hypergradient", 400, step_size=1 / form.largest)
    assert error(result.x, form.exact) < 1e-8
    assert result.gradient_calls <= 3000
    assert result.history["adjoint_residual"][-1] < 1e-9
    assert result.history["lowest_curvature"][-1] == pytest.approx(1.0)  # H = I


@pytest.mark.parametrize(("algorithm", "steps"), [("f2sa", 120), ("penalty", 800)])
def test_penalty_methods_end_where_theory_says(kit: Kit, algorithm: str, steps: int) -> None:
    form, lam = form_a(kit), 10.0
    size = {"x": 1 / form.largest, "y": 0.9}
    result = solved(form, algorithm, steps, step_size=size, penalty=lam, lower_steps=8)
    assert error(result.x, form.biased(lam)) < 1e-10
    assert error(result.x, form.exact) > 1e-4  # the bias is there


@pytest.mark.parametrize(("algorithm", "steps"), [("f2sa", (150, 150)), ("penalty", (300, 900))])
def test_central_versions_have_a_bias_of_second_order(
    kit: Kit, algorithm: str, steps: tuple[int, int]
) -> None:
    if kit.name == "jax" and algorithm == "penalty":
        pytest.skip("the same numbers as torch's, which the history tests hold it to")
    form, found = form_a(kit), []
    momentum = {"x": 0.9 if algorithm == "penalty" else 0.0, "y": 0.0}
    for lam, count in zip((10.0, 100.0), steps, strict=True):
        size = {"x": 1 / form.largest, "y": 0.8}
        options = {"step_size": size, "penalty": lam, "momentum": momentum, "lower_steps": 6}
        result = solved(form, algorithm, count, central=True, **options)
        found.append(error(result.x, form.exact))
    assert 90 < found[0] / found[1] < 110


def test_the_penalty_grows_to_its_limit(kit: Kit) -> None:
    form = form_a(kit)
    result = solved(form, "f2sa", 5, penalty=1.0, penalty_growth=2.0, penalty_limit=6.0)
    assert result.history["penalty"] == [1.0, 3.0, 5.0, 6.0, 6.0]


@pytest.mark.parametrize("barrier", ["gradient", "value"])
def test_bome_is_what_the_paper_writes(kit: Kit, barrier: Any) -> None:
    """Three steps against the formulas in NumPy."""
    form = form_a(kit)
    eta, size, T = 0.3, {"x": 0.07, "y": 0.04}, 3
    result = solved(form, "bome", 3, eta=eta, step_size=size, lower_steps=T, barrier=barrier)
    rng = np.random.default_rng(3)
    M, t = matrix(rng, 4, 3), rng.normal(size=4)
    x, y, m = np.zeros(3), np.zeros(4), 0.3
    for _ in range(3):
        z = y.copy()
        for _ in range(T):
            z = z - size["y"] * (z - M @ x)
        f = np.concatenate([m * x, y - t])
        q = np.concatenate([-M.T @ (y - M @ x) + M.T @ (z - M @ x), y - M @ x])
        gap = (np.sum((y - M @ x) ** 2) - np.sum((z - M @ x) ** 2)) / 2
        phi = eta * (q @ q if barrier == "gradient" else gap)
        lam = max(0.0, (phi - f @ q) / (q @ q + 1e-8))
        step = f + lam * q
        x, y = x - size["x"] * step[:3], y - size["y"] * step[3:]
    assert error(result.x, x) < 1e-12
    assert error(result.y, y) < 1e-12
    assert result.gradient_calls == 3 * (T + 3)


# -- BOME's toys


def coreset(kit: Kit) -> tuple[Any, Any, Callable[[Any], float], Any, Any]:
    X = kit.array([[1, 3], [3, 1], [-2, 2], [-3, -2]])
    x0 = kit.array([3, -2])

    def chosen(v: Any) -> Any:
        weights = kit.xp.exp(v)
        return weights / weights.sum() @ X

    upper = lambda v, th: 0.1 * ((th - x0) ** 2).sum()  # noqa: E731
    lower = lambda v, th: ((th - chosen(v)) ** 2).sum()  # noqa: E731
    start = kit.array(np.zeros(4)), kit.array([0, 3])
    return upper, lower, lambda v: float(upper(v, chosen(v))), *start


def adam(kit: Kit, rate: float) -> Any:
    if kit.name == "torch":
        return lambda parameters: kit.xp.optim.Adam(parameters, lr=rate)
    return pytest.importorskip("optax").adam(rate)


def test_hypergradient_with_adam_on_the_coreset(kit: Kit) -> None:
    upper, lower, F, v, theta = coreset(kit)
    result = minimize(upper, lower, v, theta, "hypergradient", 500, optimizer=adam(kit, 0.1))
    assert F(result.x) <= 0.7215
    assert result.gradient_calls <= 11_000


def test_bome_on_the_coreset(kit: Kit) -> None:
    """The authors' code ends at F = 0.72653 after 5,000 steps with these settings."""
    if kit.name == "torch":
        pytest.skip("the same numbers as JAX's, which are faster here")
    upper, lower, F, v, theta = coreset(kit)
    result = minimize(upper, lower, v, theta, "bome", 5000, lower_steps=10, eta=0.5, step_size=0.05)
    assert F(result.x) == pytest.approx(0.7265, abs=5e-4)
    assert result.gradient_calls == 65_000


def test_bome_where_the_lower_minimizer_is_not_unique(kit: Kit) -> None:
    """Methods that take one lower solution for all end at (0, 0, 0); the answer is (1, 1, 1)."""
    result = minimize(
        lambda w, x: 0.5 * (w - x[1]) ** 2 + 0.5 * (x[0] - 1) ** 2,
        lambda w, x: x[0] ** 2 / 2 - w * x[0],
        kit.array(0.0),
        kit.array([0.0, 0.0]),
        "bome",
        1000,
        step_size=0.5,
        lower_steps=1,
    )
    assert error(result.x, 1.0) < 1e-5
    assert error(result.y, [1.0, 1.0]) < 1e-5


def test_bome_on_the_minimax_toy_with_projections(kit: Kit) -> None:
    box = lambda a: kit.clip(a, -10, 10)  # noqa: E731
    result = minimize(
        lambda x, w: x * w,
        lambda x, w: -x * w,
        kit.array(4.0),
        kit.array(4.0),
        steps=200,
        project={"x": box, "y": box},
    )
    assert abs(float(result.x)) < 0.1 and abs(float(result.y)) < 0.1


def test_penalty_finds_local_minima_from_everywhere(kit: Kit) -> None:
    """V-PBGD's toy, 200 starts in one call: f(x, -x) has three local minima on [0, 3]."""
    exp, log, cos = kit.xp.exp, kit.xp.log, kit.xp.cos
    rng = np.random.default_rng(1)
    result = minimize(
        lambda x, y: (cos(4 * y + 2) / (1 + exp(2 - 4 * x)) + log((4 * x - 2) ** 2 + 1) / 2).sum(),
        lambda x, y: ((x + y) ** 2).sum(),
        kit.array(rng.uniform(0, 3, 200)),
        kit.array(rng.uniform(-10, 10, 200)),
        "penalty",
        1000,
        penalty=100.0,
        step_size=0.1,
        lower_steps=1,
        project={"x": lambda x: kit.clip(x, 0, 3)},
    )
    minima = np.array([0.38236, 1.21515, 2.82964])  # of f(x, -x), by a grid of 300,001 points
    distances = np.abs(np.asarray(result.x)[:, None] - minima).min(axis=1)
    assert distances.max() < 0.02


# -- constraints on y


def capped(kit: Kit) -> tuple[Any, Any]:
    """y <= 1: f = (x - 3)^2 + (y - 2)^2, g = (y - x)^2 / 2; the answer is (3, 1)."""
    return (
        lambda x, y: ((x - 3) ** 2).sum() + ((y - 2) ** 2).sum(),
        lambda x, y: ((y - x) ** 2).sum() / 2,
    )


@pytest.mark.parametrize("algorithm", ["bome", "f2sa", "penalty"])
def test_projected_steps_under_a_constraint(kit: Kit, algorithm: str) -> None:
    upper, lower = capped(kit)
    start = kit.array([0.3])
    options = {"lower_steps": 3} if algorithm == "bome" else {"penalty": 2.0, "lower_steps": 3}
    cap = {"y": lambda y: kit.clip(y, None, 1.0)}
    result = minimize(
        upper, lower, start, start, algorithm, 150, step_size=0.1, project=cap, **options
    )
    assert error(result.x, [3.0]) < 1e-6
    assert error(result.y, [1.0]) < 1e-6


@pytest.mark.parametrize("algorithm", ["hypergradient", "goldstein"])
def test_a_quadratic_program_is_the_lower_level(kit: Kit, algorithm: str) -> None:
    upper, _ = capped(kit)
    P, G, h = kit.array([[1.0]]), kit.array([[1.0]]), kit.array([1.0])
    options: Any = {"optimizer": adam(kit, 0.1)}
    if algorithm == "goldstein":
        options = {"delta": 1e-7, "epsilon": 1e-3}
    result = minimize(
        upper,
        lambda x: ffoadapt.qp(P, -x, G, h).x,
        kit.array([0.3]),
        algorithm=algorithm,
        steps=1500 if algorithm == "goldstein" else 400,
        **options,
    )
    assert error(result.x, [3.0]) < 1e-6
    assert error(result.y, [1.0]) < 1e-6
    assert result.value == pytest.approx(1.0)


class Affine:
    """y minimizes objective(x, y) s.t. y <= bound(x); a `LowerProgram` that SLSQP solves."""

    inequalities = equalities = bounds = None

    def __init__(self, objective: Any, slope: float, where: str, to: Callable[[Any], Any]) -> None:
        self.objective, self.slope, self.where, self.to = objective, slope, where, to
        if where == "inequalities":
            self.inequalities = lambda x, y: [(y - 50.0).reshape(1, 1), y - slope * x]
        elif where == "bounds":
            self.bounds = lambda x: (None, slope * x)
        else:  # y + y^3 = slope x
            self.equalities = lambda x, y: y + y**3 - slope * x

    def with_objective(self, objective: Any) -> Affine:
        return Affine(objective, self.slope, self.where, self.to)

    def __call__(self, x: Any) -> Any:
        return self.to(self.solve(x).y)

    def solve(self, x: Any) -> Any:
        value = lambda y: float(self.objective(x, self.to(y)))  # noqa: E731
        limit, equal = self.slope * float(x[0]), self.where == "equalities"
        shape = (lambda y: limit - y - y**3) if equal else (lambda y: limit - y)
        found = scipy_minimize(
            value,
            np.zeros(1),
            method="SLSQP",
            constraints=[{"type": "eq" if equal else "ineq", "fun": shape}],
            options={"ftol": 1e-16, "maxiter": 300},
        )
        y, h = float(found.x[0]), 1e-5
        if equal:  # onto the constraint, which SLSQP meets to its tolerance
            for _ in range(5):
                y -= (y + y**3 - limit) / (1 + 3 * y * y)
        elif limit - y < 1e-6:
            y = limit
        slope = (value(np.array([y + h])) - value(np.array([y - h]))) / (2 * h)
        dual = np.array([-slope / (1 + 3 * y * y) if equal else max(0.0, -slope)])
        names = {"inequalities": "z_ineq", "equalities": "z_eq", "bounds": "z_upper"}
        duals = dict.fromkeys(["z_ineq", "z_eq", "z_lower", "z_upper"])
        duals[names[self.where]] = np.append(0.0, dual) if self.where == "inequalities" else dual
        return type("Point", (), {"y": np.array([y]), **duals})()


@pytest.mark.parametrize("where", ["inequalities", "bounds"])
@pytest.mark.parametrize(("algorithm", "weight"), [("penalty", 10.0), ("f2sa", 100.0)])
@pytest.mark.parametrize("central", [False, True])
def test_duals_alone_where_x_moves_the_constraint(
    kit: Kit, where: str, algorithm: str, weight: float, central: bool
) -> None:
    """y <= x / 3: the answer is x = 3.3, y = 1.1, for any penalty."""
    upper, lower = capped(kit)
    result = minimize(
        upper,
        Affine(lower, 1 / 3, where, kit.array),
        kit.array([1.0]),
        algorithm=algorithm,
        steps=14,
        step_size=0.4,
        penalty=weight,
        central=central,
    )
    assert error(result.x, [3.3]) < 1e-8
    assert error(result.y, [1.1]) < 1e-8


def test_duals_of_equalities(kit: Kit) -> None:
    """y + y^3 = x / 2 leaves y no choice; f(x, y(x)) by a scalar minimization."""
    upper, lower = capped(kit)
    result = minimize(
        upper,
        Affine(lower, 0.5, "equalities", kit.array),
        kit.array([1.0]),
        algorithm="penalty",
        steps=20,
        step_size=0.4,
    )

    def F(x: float) -> float:
        y = np.roots([1, 0, 1, -x / 2])
        return float((x - 3) ** 2 + (y[np.abs(y.imag).argmin()].real - 2) ** 2)

    grid = scipy_minimize(lambda x: F(x[0]), [3.0], method="Nelder-Mead", options={"xatol": 1e-10})
    assert error(result.x, grid.x) < 1e-6


# -- Goldstein


def absolute(kit: Kit) -> tuple[Any, Any]:
    return lambda x, y: abs(y).sum(), lambda x: 1.0 * x


def test_goldstein_certifies_the_kink_of_the_absolute_value(kit: Kit) -> None:
    upper, lower = absolute(kit)
    result = minimize(
        upper, lower, kit.array(np.pi / 3), algorithm=Goldstein(delta=1e-3, epsilon=0.05), steps=500
    )
    assert result.status == "converged"
    assert result.gradient_calls == len(result.history["value"]) <= 500
    certificate = result.certificate
    assert certificate.holds and certificate.radius == 1e-3 and certificate.norm <= 0.05
    assert abs(float(result.x)) <= 1e-3  # 0 lies within the radius of a certified point
    assert error(result.x, certificate.center[0]) < 1e-15
    again = certificate.check()
    assert again.holds and again.norm == pytest.approx(certificate.norm, abs=1e-12)
    assert certificate.check(np.sign).holds
    assert not certificate.check(lambda x: np.ones(1)).holds  # of another function
    # Plain descent walks to and fro: |gradient| = 1 wherever it is.
    plain = minimize(
        upper, lower, kit.array(np.pi / 3), algorithm="hypergradient", steps=500, step_size=0.05
    )
    assert abs(float(plain.x)) > 1e-3


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_goldstein_on_a_maximum_of_affine_pieces(kit: Kit, seed: int) -> None:
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(30, 10)), rng.normal(size=30)
    c = np.append(np.zeros(10), 1.0)
    best = linprog(c, np.c_[A, -np.ones(30)], -b, bounds=[(None, None)] * 11).fun
    Ak, bk = kit.array(A), kit.array(b)
    result = minimize(
        lambda x, y: (Ak @ y + bk).max(),
        lambda x: 1.0 * x,
        kit.array(rng.normal(size=10)),
        algorithm="goldstein",
        steps=5000,
        delta=0.01,
        epsilon=0.02,  # F is convex: above its minimum by epsilon times the distance to it, or less
    )
    assert result.status == "converged"
    assert result.value - best <= 0.01
    assert result.certificate.check(lambda x: A[np.argmax(A @ x + b)]).holds


def test_the_shortest_combination_of_gradients() -> None:
    from ffoadapt.bilevel._goldstein import minimum_norm

    rng = np.random.default_rng(4)
    for scale in (1e-6, 1.0, 1e6):
        G = scale * (rng.normal(size=(7, 4)) + 1.0)
        weights, norm = minimum_norm(G)
        assert weights.min() >= 0.0 and weights.sum() == pytest.approx(1.0)
        v = weights @ G
        assert norm == pytest.approx(np.linalg.norm(v))
        assert (G @ v).min() >= v @ v - 1e-9 * scale**2  # no point of the hull is nearer to 0
    assert minimum_norm(np.array([[1.0], [-1.0]]))[1] == pytest.approx(0.0, abs=1e-12)
    assert minimum_norm(np.zeros((3, 2)))[1] == 0.0


# -- the hypergradient of a plain function


def test_hypergradient_against_finite_differences_of_tight_solves(kit: Kit) -> None:
    """A logistic regression with a penalty for each of six features."""
    rng = np.random.default_rng(2)
    A, b = rng.normal(size=(40, 6)), np.sign(rng.normal(size=40))
    V, c = rng.normal(size=(20, 6)), np.sign(rng.normal(size=20))
    Ak, bk, Vk, ck = map(kit.array, (A, b, V, c))
    exp, log = kit.xp.exp, kit.xp.log
    upper = lambda x, y: log(1 + exp(-ck * (Vk @ y))).mean()  # noqa: E731
    lower = lambda x, y: log(1 + exp(-bk * (Ak @ y))).mean() + (exp(x) * y * y).sum() / 2  # noqa: E731
    problem = BilevelProblem(upper, lower, kit.array(np.zeros(6)), kit.array(np.zeros(6)))
    algorithm = ffoadapt.bilevel.Hypergradient(step_size=1.0)
    x = rng.normal(size=6) - 2
    state = algorithm.init(problem, kit.array(x), kit.array(np.zeros(6)))
    after, _ = algorithm.step(problem, state)
    found = x - np.asarray(after.x)

    def F(x: Any) -> float:
        def g(y: Any) -> float:
            return np.log1p(np.exp(-b * (A @ y))).mean() + np.sum(np.exp(x) * y * y) / 2

        def slope(y: Any) -> Any:
            return -(A.T @ (b / (1 + np.exp(b * (A @ y))))) / 40 + np.exp(x) * y

        y = scipy_minimize(g, np.zeros(6), jac=slope, tol=1e-12).x
        for _ in range(3):  # Newton
            s = 1 / (1 + np.exp(b * (A @ y)))
            H = A.T @ ((s * (1 - s))[:, None] * A) / 40 + np.diag(np.exp(x))
            y = y - np.linalg.solve(H, slope(y))
        return np.log1p(np.exp(-c * (V @ y))).mean()

    step = 1e-5
    exact = [(F(x + step * e) - F(x - step * e)) / (2 * step) for e in np.eye(6)]
    assert error(found, np.array(exact)) < 1e-8


def test_a_factor_on_the_lower_function_changes_nothing(kit: Kit) -> None:
    form = form_a(kit)
    plain = solved(form, "hypergradient", 60, step_size=1 / form.largest)
    small = minimize(
        form.upper,
        lambda x, y: 1e-8 * form.lower(x, y),
        form.x,
        form.y,
        "hypergradient",
        60,
        step_size=1 / form.largest,
    )
    assert error(small.x, np.asarray(plain.x)) < 1e-8


def test_hypergradient_of_float32_is_computed_in_float64(kit: Kit) -> None:
    """y(x) = x + c; near the minimum float32 differences of f would be noise."""
    c = kit.array([0.3, -0.2])
    c, start = (a.float() if kit.name == "torch" else a.astype("float32") for a in (c, 0 * c))
    result = minimize(
        lambda x, y: ((y - 1) ** 2).sum(),
        lambda x, y: ((y - x - c) ** 4 + (y - x - c) ** 2).sum(),
        start,
        start,
        "hypergradient",
        60,
        step_size=0.3,
    )
    assert "float32" in str(result.x.dtype) and "float32" in str(result.y.dtype)
    assert error(result.x, [0.7, 1.2]) < 2e-7


# -- one algorithm, two frameworks


def regression(kit: Kit) -> tuple[Any, Any, Any, Any]:
    """On batches (A, b), with a penalty for each feature."""
    log, exp = kit.xp.log, kit.xp.exp
    return (
        lambda x, y, A, b: log(1 + exp(-b * (A @ y["w"]))).mean(),
        lambda x, y, A, b: ((A @ y["w"] - b) ** 2).mean() / 2 + (exp(x[0]) * y["w"] ** 2).sum(),
        [kit.array(np.zeros(5))],
        {"w": kit.array(np.ones(5) / 3)},
    )


SOLVING = {"hypergradient", "goldstein"}


def test_histories_of_torch_and_jax_agree() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    import jax.numpy as jnp

    rng = np.random.default_rng(5)
    data = [(rng.normal(size=(8, 5)), rng.normal(size=8)) for _ in range(7)]
    runs: dict[str, dict[str, Any]] = {"torch": {}, "jax": {}}
    every = {
        "bome": {"momentum": 0.5},
        "f2sa": {"penalty_growth": 0.1},
        "penalty": {"central": True},
        "hypergradient": {"step_size": 0.1},
        "goldstein": {"start_radius": 0.1},
    }
    with jax.enable_x64(True):
        kits = {
            "torch": Kit("torch", lambda a: torch.tensor(np.array(a)), torch),
            "jax": Kit("jax", lambda a: jnp.array(np.array(a)), jnp),
        }
        for name, kit in kits.items():
            batches = [tuple(map(kit.array, pair)) for pair in data]
            for algorithm, options in every.items():
                runs[name][algorithm] = minimize(
                    *regression(kit), algorithm, 40, batches=batches, **options
                )
    for algorithm in every:
        first, second = (runs[name][algorithm].history for name in ("torch", "jax"))
        assert set(first) == set(second)
        # How many steps the solves of a lower level take is a matter of rounding.
        loose = {"adjoint_residual", "lower_error", "lowest_curvature", "gradient_calls"}
        columns = set(first) - {"seconds"} - (loose if algorithm in SOLVING else set())
        for column in columns:
            np.testing.assert_allclose(first[column], second[column], rtol=1e-8, atol=1e-8)
        assert first["value"][0] != first["value"][-1]


def test_steps_of_one_s_own_are_those_of_minimize(kit: Kit) -> None:
    form = form_a(kit)
    problem = BilevelProblem(form.upper, form.lower, form.x, form.y)
    algorithm = Bome(step_size=0.1)
    state = algorithm.init(problem, form.x, form.y)
    values = []
    for _ in range(5):
        before = state
        state, record = algorithm.step(problem, before)
        again, _ = algorithm.step(problem, before)  # a state is not used up
        assert np.array_equal(np.asarray(again.x), np.asarray(state.x))
        values.append(record["value"])
    result = solved(form, "bome", 5, step_size=0.1)
    assert result.history["value"] == values
    assert np.array_equal(np.asarray(result.x), np.asarray(state.x))
    assert result.gradient_calls == state.gradient_calls == 5 * 13
