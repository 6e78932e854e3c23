"""The setting ``gradient=``: exact, or by solving again with a finite step."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

import ffoadapt
from ffoadapt import Resolve


def quadratic(seed: int, n: int = 5, k: int = 4, p: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    M, x = rng.normal(size=(n, n)), rng.normal(size=n)
    G, A = rng.normal(size=(k, n)), rng.normal(size=(p, n))
    h = G @ x + np.where(np.arange(k) < 2, -0.3, 1.0)
    return {"P": M @ M.T + np.eye(n), "q": rng.normal(size=n), "G": G, "h": h, "A": A, "b": A @ x}


def both(gradient: Any, data: dict[str, Any], **cotangents: Any) -> Any:
    program = ffoadapt.ConeProgram.from_split(**data)
    return ffoadapt.solve(program, "clarabel", gradient=gradient).vjp(**cotangents)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("central", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_short_step_gives_the_derivative(seed: int, central: bool, kind: str) -> None:
    data = quadratic(seed)
    if kind == "sparse":
        data |= {name: sparse.csc_matrix(data[name]) for name in "PGA"}
    rng = np.random.default_rng(seed + 10)
    v = {"x": rng.normal(size=5), "z_ineq": rng.normal(size=4), "y_eq": rng.normal(size=2)}
    exact, again = both("exact", data, **v), both(Resolve(1e-6, central=central), data, **v)
    for name in data:
        found, expected = (getattr(g, name) for g in (again, exact))
        found, expected = (g.toarray() if sparse.issparse(g) else g for g in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


def test_tangents_of_a_short_step() -> None:
    data, rng = quadratic(7), np.random.default_rng(7)
    program = ffoadapt.ConeProgram.from_split(**data)
    dq, db, dG = rng.normal(size=5), rng.normal(size=2), rng.normal(size=(4, 5))
    exact, again = (
        ffoadapt.solve(program, "clarabel", gradient=how).jvp(q=dq, b=db, G=dG)
        for how in ("exact", Resolve(1e-6))
    )
    for name in ("x", "s", "z", "y_eq"):
        np.testing.assert_allclose(getattr(again, name), getattr(exact, name), atol=1e-5)


@pytest.mark.parametrize("step", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("central", [True, False])
def test_a_linear_program_on_a_box(step: float, central: bool) -> None:
    """min c'x on [-1, 1]^n has x = -sign(c): the differences are known in closed form."""
    c, v = np.array([0.5, -2.0, 0.1, 1.0]), np.array([1.0, -3.0, 4.0, -2.0])
    t = step * 2.0 / 4.0  # the largest entry of c over that of v

    def x(c: Any) -> Any:
        return -np.sign(c)

    ahead = x(c - t * v) if central else x(c)
    expected = -(ahead - x(c + t * v)) / (2 * t if central else t)
    how = Resolve(step, central=central)
    for scale in (1.0, 1e-3, 1e4):  # of the costs: the step is relative to them
        program = ffoadapt.ConeProgram.from_box(None, scale * c, None, -np.ones(4), np.ones(4))
        found = ffoadapt.solve(program, "clarabel", gradient=how).vjp(x=v).q
        np.testing.assert_allclose(scale * found, expected, atol=1e-6)


def test_the_gradient_is_the_difference_of_those_of_the_lagrangian() -> None:
    """By each datum of a linear program, with the moved programs solved by another solver."""
    rng = np.random.default_rng(3)
    n, k, step = 4, 9, 0.8
    G, x0 = rng.normal(size=(k, n)), rng.normal(size=n)
    h, q = G @ x0 + rng.uniform(0.5, 1.5, k), -G.T @ rng.uniform(0.1, 1.0, k)
    v = rng.normal(size=n)
    t = step * np.abs(q).max() / np.abs(v).max()

    def solved(c: Any) -> Any:
        found = linprog(c, A_ub=G, b_ub=h, bounds=(None, None), method="highs")
        return found.x, -found.ineqlin.marginals

    (x1, z1), (x2, z2) = solved(q - t * v), solved(q + t * v)
    assert np.abs(x1 - x2).max() > 0.1
    found = ffoadapt.solve(
        ffoadapt.ConeProgram.from_split(None, q, G, h), "clarabel", gradient=Resolve(step)
    ).vjp(x=v)
    np.testing.assert_allclose(found.q, -(x1 - x2) / (2 * t), atol=1e-6)
    np.testing.assert_allclose(found.h, (z1 - z2) / (2 * t), atol=1e-6)
    np.testing.assert_allclose(found.G, -(np.outer(z1, x1) - np.outer(z2, x2)) / (2 * t), atol=1e-6)
    np.testing.assert_allclose(
        found.P, -0.5 * (np.outer(x1, x1) - np.outer(x2, x2)) / (2 * t), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_proximal(kind: str) -> None:
    """min c'x + w/2 |x - x*|^2 on a box: clipped, in closed form."""
    c, v = np.array([0.5, -2.0, 0.1, 1.0]), np.array([1.0, -3.0, 4.0, -2.0])
    step, proximal = 2.0, 0.7
    t, weight, star = step * 2.0 / 4.0, proximal * 2.0 / 1.0, -np.sign(c)

    def x(moved: Any) -> Any:
        return np.clip(star - moved / weight, -1.0, 1.0)

    expected = -(x(c - t * v) - x(c + t * v)) / (2 * t)
    P = np.zeros((4, 4)) if kind == "dense" else sparse.csc_matrix((4, 4))
    program = ffoadapt.ConeProgram.from_box(P, c, None, -np.ones(4), np.ones(4))
    found = ffoadapt.solve(program, "clarabel", gradient=Resolve(step, proximal)).vjp(x=v)
    np.testing.assert_allclose(found.q, expected, atol=1e-6)


def test_elements_of_a_batch_are_on_their_own() -> None:
    rng = np.random.default_rng(0)
    q = rng.normal(size=(5, 3)) * np.array([[1e-2], [1.0], [1.0], [10.0], [1.0]])
    v = rng.normal(size=(5, 3))
    torch = pytest.importorskip("torch")

    def gradient(q: Any, v: Any) -> Any:
        given = torch.tensor(q, requires_grad=True)
        zero, one = torch.zeros(3, 3), torch.ones(3)
        x = ffoadapt.box_qp(zero, given, None, -one, one, gradient="resolve").x
        (x * torch.tensor(v)).sum().backward()
        return given.grad.numpy()

    together = gradient(q, v)
    for i in range(5):
        np.testing.assert_allclose(together[i], gradient(q[i], v[i]), rtol=1e-9, atol=1e-12)
    assert np.abs(together).max() > 0.0


def assignment(n: int) -> tuple[Any, Any]:
    rows = [np.kron(np.eye(n), np.ones((1, n))), np.kron(np.ones((1, n)), np.eye(n))]
    return np.vstack(rows), np.ones(2 * n)


def regret(true: Any, loss: float) -> float:
    """By how much the mean cost of the decisions is above that of the best ones."""
    return loss - float(np.mean([one[linear_sum_assignment(one)].sum() for one in true]))


@pytest.mark.parametrize("how", ["resolve", Resolve(central=False), Resolve(2.0)])
def test_assignment_learns_in_torch(how: Any) -> None:
    torch = pytest.importorskip("torch")
    n, rng = 4, np.random.default_rng(5)
    A, b = map(torch.tensor, assignment(n))
    true = rng.uniform(size=(8, n, n))
    costs = torch.tensor(rng.uniform(size=(8, n * n)), requires_grad=True)
    optimizer = torch.optim.Adam([costs], 0.05)
    zero, eye, none = torch.zeros(n * n, n * n), -torch.eye(n * n), torch.zeros(n * n)
    losses = []
    for _ in range(80):
        x = ffoadapt.qp(zero, costs, eye, none, A, b, gradient=how).x
        loss = (x * torch.tensor(true.reshape(8, -1))).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert regret(true, losses[-1]) < 0.3 * regret(true, losses[0])


def test_assignment_learns_in_jax() -> None:
    jax = pytest.importorskip("jax")
    n, rng = 4, np.random.default_rng(5)
    A, b = map(jax.numpy.asarray, assignment(n))
    true = rng.uniform(size=(8, n, n))
    eye, none = -jax.numpy.eye(n * n), jax.numpy.zeros(n * n)

    def loss(costs: Any) -> Any:
        x = ffoadapt.qp(None, costs, eye, none, A, b, gradient="resolve").x
        return (x * true.reshape(8, -1)).sum(-1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    costs = jax.numpy.asarray(rng.uniform(size=(8, n * n)))
    losses = []
    for _ in range(80):
        value, gradient = step(costs)
        costs = costs - gradient
        losses.append(float(value))
    assert regret(true, losses[-1]) < 0.3 * regret(true, losses[0])


def test_the_same_under_transformations() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    rng = np.random.default_rng(2)
    c, v = rng.normal(size=(3, 4)), rng.normal(size=4)

    def x(c: Any, xp: Any = torch) -> Any:
        return ffoadapt.box_qp(None, c, None, -xp.ones(4), xp.ones(4), gradient="resolve").x

    def in_torch(c: Any) -> Any:
        return (x(c) * torch.as_tensor(v)).sum()

    def in_jax(c: Any) -> Any:
        return (x(c, jax.numpy) * v).sum()

    given = torch.tensor(c, requires_grad=True)
    in_torch(given).backward()
    right = given.grad.numpy()
    assert np.abs(right).max() > 0.0
    plain = torch.tensor(c)
    mapped = torch.func.vmap(torch.func.grad(in_torch))(plain)
    jacobian = torch.func.jacrev(x)(plain[0])
    each = [torch.func.grad(lambda c, k=k: x(c)[k])(plain[0]) for k in range(4)]
    np.testing.assert_allclose(mapped.numpy(), right, atol=1e-9)
    np.testing.assert_allclose(jacobian.numpy(), torch.stack(each).numpy(), atol=1e-9)
    found = jax.jit(jax.vmap(jax.grad(in_jax)))(c.astype(np.float32))
    np.testing.assert_allclose(np.asarray(found), right, rtol=1e-4, atol=1e-5)


def zero_gradients(**settings: Any) -> list[str]:
    """What is said of a linear program that is solved and differentiated three times."""
    torch = pytest.importorskip("torch")
    zero, one = torch.zeros(4, 4), torch.ones(4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k in range(3):
            c = torch.tensor(np.arange(4.0) - 1.5 + k / 7, requires_grad=True)
            x = ffoadapt.box_qp(zero, c, None, -one, one, **settings).x
            (x * torch.arange(4.0)).sum().backward()
    return [str(w.message) for w in said if w.category is ffoadapt.ZeroGradientWarning]


def test_a_zero_gradient_that_nobody_asked_for_is_said_once() -> None:
    # Options of their own: functions are kept by settings, and an earlier test may have had these.
    said = zero_gradients(solver_options={"tolerance": 1.234e-9})
    assert len(said) == 1
    assert "by q is zero" in said[0]
    assert "gradient='resolve'" in said[0]


@pytest.mark.parametrize(
    "settings", [{"gradient": "exact"}, {"gradient": "resolve"}, {"smoothing": 0.1}]
)
def test_a_choice_is_not_warned_of(settings: dict[str, Any]) -> None:
    assert not zero_gradients(**settings)


@pytest.mark.parametrize("what", ["bounds", "quadratic", "moving"])
def test_other_gradients_are_not_warned_of(what: str) -> None:
    """By the bounds of a linear program; of a quadratic one; of x between its bounds."""
    torch = pytest.importorskip("torch")
    options = {"tolerance": 1.3e-9}
    P = torch.eye(2, dtype=torch.float64) * (what != "bounds")
    q = torch.tensor([9.0, -9.0 if what == "quadratic" else 0.5], dtype=torch.float64)
    u = torch.ones(2, dtype=torch.float64)
    wanted = (u if what == "bounds" else q).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = ffoadapt.box_qp(P, q, None, -u.detach(), u, solver_options=options).x
        x.sum().backward()
    assert wanted.grad is not None


def test_a_layer_names_the_parameter_in_the_costs() -> None:
    cp, torch = pytest.importorskip("cvxpy"), pytest.importorskip("torch")
    x, costs, bound = cp.Variable(3), cp.Parameter(3, name="costs"), cp.Parameter(name="bound")
    problem = cp.Problem(cp.Minimize(costs @ x), [x >= 0, cp.sum(x) >= bound])
    layer = ffoadapt.Layer(problem, [costs, bound], [x])
    given = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    limit = torch.tensor(1.0, requires_grad=True)
    with pytest.warns(ffoadapt.ZeroGradientWarning, match="by costs is zero"):
        layer(given, limit)[0].sum().backward()
    assert limit.grad is not None
    assert abs(float(limit.grad) - 1.0) < 1e-5


def test_a_moved_program_without_a_solution() -> None:
    """Where costs move so far that the program is unbounded, the step is shortened; where that
    does not help, it is said, or contained."""
    q = np.array([1.0, 1.0])
    program = ffoadapt.ConeProgram.from_split(None, q, -np.eye(2), np.zeros(2))
    far = ffoadapt.solve(program, "clarabel", gradient=Resolve(step=5.0))
    np.testing.assert_allclose(far.vjp(x=np.array([1.0, -1.0])).q, 0.0, atol=1e-6)
    farther = Resolve(step=1e6)
    with pytest.raises(ffoadapt.DifferentiationError, match="smaller"):
        ffoadapt.solve(program, "clarabel", gradient=farther).vjp(x=np.array([1.0, -1.0]))
    contained = ffoadapt.solve(program, "clarabel", gradient=farther, on_failure="nan")
    assert not contained.vjp(x=np.array([1.0, -1.0])).q.any()


@pytest.mark.parametrize("how", ["no", 1, True, np.ones(2), None])
def test_what_is_no_way(how: Any) -> None:
    if how is None:
        ffoadapt.qp(np.eye(2), np.ones(2), gradient=how)
        return
    with pytest.raises(ffoadapt.OptionError, match="Resolve"):
        ffoadapt.qp(np.eye(2), np.ones(2), gradient=how)


@pytest.mark.parametrize(
    "given",
    [
        *({"step": value} for value in (0.0, -1.0, "a", np.nan, True)),
        *({"proximal": value} for value in (-1.0, np.inf)),
        {"central": 2},
    ],
)
def test_what_is_no_step(given: dict[str, Any]) -> None:
    with pytest.raises(ffoadapt.OptionError, match=next(iter(given))):
        Resolve(**given)


def test_smoothing_is_for_the_exact_gradient() -> None:
    with pytest.raises(ffoadapt.OptionError, match="proximal"):
        ffoadapt.qp(np.eye(2), np.ones(2), gradient="resolve", smoothing=0.1)


def test_it_is_plain_data() -> None:
    how = Resolve(2, 0, central=np.True_)
    assert how == Resolve(2.0) == pickle.loads(pickle.dumps(how))
    assert hash(how) == hash(Resolve(2.0))


def test_cvxpylayers_modes() -> None:
    cp, torch = pytest.importorskip("cvxpy"), pytest.importorskip("torch")
    from ffoadapt_torch import CvxpyLayer

    x, c = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(c @ x), [cp.abs(x) <= 1])
    costs = np.array([0.5, -2.0, 0.1])

    def gradient(solver_args: Any = None, **settings: Any) -> Any:
        given = torch.tensor(costs, requires_grad=True)
        (value,) = CvxpyLayer(problem, [c], [x], **settings)(given, solver_args=solver_args)
        (value @ torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)).backward()
        return given.grad.numpy()

    strengths = {"tau": 0.7, "rho": 0.2}
    for mode, central in (("lpgd", True), ("lpgd_left", False), ("lpgd_right", False)):
        found = gradient({"mode": mode, "derivative_kwargs": strengths})
        np.testing.assert_allclose(found, gradient(gradient=Resolve(0.7, 0.2, central)), atol=1e-9)
        assert np.abs(found).max() > 0.0
    for wrong in (
        {"mode": "lpgd", "derivative_kwargs": {"sigma": 1.0}},
        {"mode": "lsqr", "derivative_kwargs": strengths},
        {"mode": "other"},
    ):
        with pytest.raises(ffoadapt.OptionError):
            gradient(wrong)


def test_the_exact_gradient_stays_in_a_jitted_program() -> None:
    """To name it is no reason to call the host; to resolve is."""
    jax = pytest.importorskip("jax")
    pytest.importorskip("mpax")
    one = jax.numpy.ones(3)

    def lowered(gradient: str) -> str:
        def x(q: Any) -> Any:
            P = jax.numpy.eye(3)
            return ffoadapt.box_qp(P, q, None, -one, one, solver="mpax", gradient=gradient).x.sum()

        return str(jax.jit(jax.grad(x)).lower(one).as_text())

    assert "callback" not in lowered("exact")
    assert "callback" in lowered("resolve")


def test_in_a_compiled_graph() -> None:
    torch = pytest.importorskip("torch")
    cp = pytest.importorskip("cvxpy")
    from ffoadapt_torch import CvxpyLayer

    x, c = cp.Variable(3), cp.Parameter(3)
    layer = CvxpyLayer(
        cp.Problem(cp.Minimize(c @ x), [cp.abs(x) <= 1]), [c], [x], gradient="resolve"
    )
    weights = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)

    def loss(costs: Any) -> Any:
        return layer(costs)[0] @ weights

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = []
    for function in (loss, compiled):
        costs = torch.tensor([0.5, -2.0, 0.1], dtype=torch.float64, requires_grad=True)
        function(costs).backward()
        assert costs.grad is not None
        found.append(costs.grad.numpy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)
    assert np.abs(found[0]).max() > 0.0
