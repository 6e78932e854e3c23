"""ffoadapt-ipm: the conformance suite, and what is particular to it."""

from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import BoxForm, Session, Status
from ffoadapt.experimental import algebra_of
from ffoadapt.testing import SolverSuite
from ffoadapt_ipm._method import solve
from ffoadapt_ipm._solver import InteriorPointSolver


class TestInteriorPoint(SolverSuite):
    solver = "ipm"


def programs(seed: int, size: int = 12) -> list[Any]:
    """Programs l <= Ax <= u of one size: strictly convex, linear, with equalities and free rows."""
    rng = np.random.default_rng(seed)
    n, m = 5, 7
    root, A = rng.normal(size=(size, n, n)), rng.normal(size=(size, m, n))
    P = root @ root.swapaxes(-1, -2)
    P[1::4] = 0.0
    x = rng.normal(size=(size, n))
    r = (A @ x[..., None])[..., 0]
    l, u = r - rng.uniform(0.1, 1.0, r.shape), r + rng.uniform(0.1, 1.0, r.shape)
    l[:, 1], u[:, 2] = -np.inf, np.inf
    l[:, 3] = u[:, 3] = r[:, 3]
    l[::3, 4], u[::3, 4] = -np.inf, np.inf
    A = np.concatenate((A, np.broadcast_to(np.eye(n), (size, n, n))), axis=1)
    l, u = np.concatenate((l, x - 2.0), axis=1), np.concatenate((u, x + 2.0), axis=1)
    return [P, rng.normal(size=(size, n)), A, l, u]


def test_points_satisfy_the_optimality_conditions() -> None:
    P, q, A, l, u = programs(0, 200)
    found = InteriorPointSolver().solve_batch(
        BoxForm(P, q, A, l, u), InteriorPointSolver.defaults, Session()
    )
    assert set(found.status) == {Status.OPTIMAL}
    x, y = found.x[..., None], np.asarray(found.dual)
    r = (A @ x)[..., 0]
    assert abs((P @ x)[..., 0] + q + (A.swapaxes(-1, -2) @ y[..., None])[..., 0]).max() < 1e-7
    assert max((r - u).max(), (l - r).max()) < 1e-7
    gap = np.where(y > 0.0, np.where(np.isinf(u), np.inf, u - r), np.where(y < 0, r - l, 0.0)) * y
    assert abs(gap).max() < 1e-6


def test_an_element_stands_still_once_it_is_done() -> None:
    """A batch gives each element the bits that it has alone, whatever its neighbours take."""
    solver, data = InteriorPointSolver(), programs(1)
    together = solver.solve_batch(BoxForm(*data), solver.defaults, Session())
    steps = {one["iterations"] for one in together.info}
    assert len(steps) > 1, "all take the same number of steps: the test shows nothing"
    for k in range(len(data[0])):
        alone = solver.solve(BoxForm(*(v[k] for v in data)), solver.defaults, Session())
        np.testing.assert_array_equal(alone.x, together.x[k])
        np.testing.assert_array_equal(alone.dual, together.dual[k])


@pytest.mark.parametrize(
    ("P", "q", "A", "l", "u", "status"),
    [
        (np.eye(2), [0, 0], [[1, 1], [1, 1]], [2, -np.inf], [np.inf, 1], Status.PRIMAL_INFEASIBLE),
        (np.eye(2), [0, 0], [[1, 1], [1, 1]], [2, 1], [2, 1], Status.PRIMAL_INFEASIBLE),
        (np.zeros((2, 2)), [-1, 0], [[0, 1]], [0], [1], Status.DUAL_INFEASIBLE),
        (np.diag([1.0, 0.0]), [0, -1], [[1, -1]], [-np.inf], [1], Status.DUAL_INFEASIBLE),
    ],
    ids=["rows apart", "equalities apart", "linear", "quadratic"],
)
def test_what_has_no_solution_is_told(
    P: Any, q: Any, A: Any, l: Any, u: Any, status: Status
) -> None:
    data = [np.asarray(v, dtype=float) for v in (P, q, A, l, u)]
    found = InteriorPointSolver().solve(BoxForm(*data), InteriorPointSolver.defaults, Session())
    assert found.status is status


def in_torch(data: list[Any]) -> Any:
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(v) for v in data]
    found = solve(algebra_of(tensors[0]), *tensors, 1e-9, 60)
    return [v.numpy() for v in found]


def in_jax(data: list[Any]) -> Any:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        one = jax.vmap(lambda *v: solve(algebra_of(v[0]), *v, 1e-9, 60))
        found = jax.jit(one)(*data)
        alone = jax.jit(lambda *v: solve(algebra_of(v[0]), *v, 1e-9, 60))(*(v[0] for v in data))
    np.testing.assert_allclose(alone.x, found.x[0], atol=1e-9)
    return [np.asarray(v) for v in found]


@pytest.mark.parametrize("framework", [in_torch, in_jax])
def test_every_framework_finds_the_same_points(framework: Any) -> None:
    data = programs(2)
    solver = InteriorPointSolver()
    expected = solver.solve_batch(BoxForm(*data), solver.defaults, Session())
    x, y, solved, _ = framework(data)
    assert solved.all()
    np.testing.assert_allclose(x, expected.x, atol=1e-7)
    np.testing.assert_allclose(y, expected.dual, atol=1e-6)


def test_a_jitted_call_stays_in_jax() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    P, q, A, l, u = programs(3)

    def loss(solver: str, *data: Any) -> Any:
        x = ffoadapt.box_qp(*data, solver=solver).x
        return jnp.sum(jnp.cos(jnp.arange(x.size) + 0.1) * x.ravel())

    with jax.enable_x64(True):
        given = [jnp.asarray(v[::4]) for v in (P, q, A, l, u)]  # the strictly convex ones
        each = [
            jax.jit(jax.grad(lambda *v, s=s: loss(s, *v), argnums=(0, 1, 2, 3, 4)))
            for s in ("ipm", "clarabel")
        ]
        assert "callback" not in each[0].lower(*given).as_text()
        assert "callback" in each[1].lower(*given).as_text()
        ours, theirs = (f(*given) for f in each)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
