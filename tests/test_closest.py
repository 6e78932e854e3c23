"""``infeasible="closest"``: the closest feasible program, and the gradient through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import Status

torch = pytest.importorskip("torch")


def t(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_contradicting_equations_are_least_squares() -> None:
    rng = np.random.default_rng(3)
    A, b, v = t(rng.normal(size=(7, 4))), t(rng.normal(size=7)), torch.tensor(rng.normal(size=4))
    solution = ffoadapt.qp(torch.eye(4), torch.ones(4), A=A, b=b, infeasible="closest")
    right = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    np.testing.assert_allclose(solution.x.detach(), right.detach(), atol=1e-8)
    assert solution.status is Status.OPTIMAL
    residual = float(torch.linalg.vector_norm(A @ right - b).detach())
    assert abs(solution.info["closest"] - residual) < 1e-7
    found, expected = (torch.autograd.grad(x @ v, (A, b)) for x in (solution.x, right))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_bounds_that_cross_meet_in_the_middle() -> None:
    lower, upper = t([1.0, 0.0, -1.0]), t([0.5, 2.0, 4.0])
    q = torch.tensor([1.0, -9.0, 0.0])
    found = ffoadapt.box_qp(torch.eye(3), q, None, lower, upper, infeasible="closest")
    np.testing.assert_allclose(found.x.detach(), [0.75, 2.0, 0.0], atol=1e-8)
    found.x[0].backward()
    np.testing.assert_allclose(lower.grad, [0.5, 0.0, 0.0], atol=1e-8)
    np.testing.assert_allclose(upper.grad, [0.5, 0.0, 0.0], atol=1e-8)


def batch() -> dict[str, Any]:
    """Five programs of x in a box and on two equations: in one the box is empty, in another the
    equations do not reach it."""
    rng = np.random.default_rng(1)
    n, M = 4, rng.normal(size=(4, 4))
    A = rng.normal(size=(2, n))
    b = 0.2 * rng.normal(size=(5, n)) @ A.T
    b[3] *= 40.0
    h = np.full((5, 2 * n), 1.0)
    h[1, 0], h[1, n] = -0.6, 0.2
    data = {"P": M @ M.T + np.eye(n), "q": rng.normal(size=(5, n)), "h": h, "b": b, "A": A}
    return data | {"G": np.vstack((np.eye(n), -np.eye(n)))}


def solved(data: dict[str, Any]) -> Any:
    given = (data[name] for name in ("P", "q", "G", "h", "A", "b"))
    return ffoadapt.qp(*given, solver="clarabel", infeasible="closest", polish=True)


def test_finite_differences_by_each_datum() -> None:
    data, rng = batch(), np.random.default_rng(8)
    tensors = {name: t(value) for name, value in data.items()}
    found = solved(tensors)
    assert set(found.status) == {Status.OPTIMAL}
    assert [i for i, info in enumerate(found.info) if "closest" in info] == [1, 3]
    v = torch.tensor(rng.normal(size=(5, 4)))
    (found.x * v).sum().backward()
    step = 1e-5
    # By G there is none: parallel bounds that contradict each other do so less once they are not
    # parallel, by as little as that is, and then at one vertex alone.
    for name in ("q", "h", "b", "A"):
        way = rng.normal(size=data[name].shape)
        ahead, behind = (
            float(
                (solved({**map_values(data), name: torch.tensor(data[name] + d * way)}).x * v).sum()
            )
            for d in (step, -step)
        )
        exact = float((tensors[name].grad * torch.tensor(way)).sum())
        assert abs((ahead - behind) / (2 * step) - exact) < 1e-4 * max(1.0, abs(exact)), name


def map_values(data: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.tensor(value) for name, value in data.items()}


@pytest.mark.parametrize("element", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_forward_mode_agrees(element: int, kind: str) -> None:
    data, rng = batch(), np.random.default_rng(4)
    data |= {name: data[name][element] for name in ("q", "h", "b")}
    if kind == "sparse":
        data |= {name: sparse.csc_matrix(data[name]) for name in "PGA"}
    program = ffoadapt.ConeProgram.from_split(**data)
    result = ffoadapt.solve(program, "clarabel", infeasible="closest", polish=True)
    db, dA, v = rng.normal(size=2), rng.normal(size=(2, 4)), rng.normal(size=4)
    moved, back = result.jvp(b=db, A=dA).x, result.vjp(x=v)
    by_A = back.A.toarray() if kind == "sparse" else back.A
    assert abs(moved @ v - back.b @ db - np.vdot(by_A, dA)) < 1e-7
    assert np.abs(moved).max() > 1e-3


def test_the_same_in_jax_under_jit() -> None:
    jax = pytest.importorskip("jax")
    data = batch()

    def loss(b: Any) -> Any:
        given = {name: jax.numpy.asarray(value) for name, value in data.items()}
        return (solved({**given, "b": b}).x ** 2).sum()

    b = jax.numpy.asarray(data["b"])
    found, plain = jax.jit(jax.grad(loss))(b), jax.grad(loss)(b)
    given = map_values(data)
    given["b"].requires_grad_()
    solved(given).x.square().sum().backward()
    np.testing.assert_allclose(found, given["b"].grad, atol=1e-4)
    np.testing.assert_allclose(plain, given["b"].grad, atol=1e-4)


def test_a_norm_that_is_out_of_reach() -> None:
    """|x| <= r and x_0 >= a > r: r is raised and a lowered by (a - r) / 2 each."""
    cp = pytest.importorskip("cvxpy")
    x, r, a = cp.Variable(2), cp.Parameter(), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - 1)), [cp.norm(x) <= r, x[0] >= a])
    layer = ffoadapt.Layer(problem, [r, a], [x], solver="clarabel", infeasible="closest")
    result = layer.solve(1.0, 2.0)
    assert result.status is Status.OPTIMAL and 0.0 < result.info["closest"] < 1.0
    assert 1.0 < result.variables[0][0] < 2.0
    np.testing.assert_allclose(result.variables[0][1], 0.0, atol=1e-3)


@pytest.mark.parametrize("infeasible", [None, "raise", "nan"])
@pytest.mark.parametrize("on_failure", ["raise", "nan"])
def test_what_raises(infeasible: Any, on_failure: str) -> None:
    lower, upper = torch.tensor([[1.0], [0.0]]), torch.ones(2, 1) * 0.5
    settings = {"on_failure": on_failure} | (
        {} if infeasible is None else {"infeasible": infeasible}
    )

    def call() -> Any:
        return ffoadapt.box_qp(torch.eye(1), torch.ones(1), None, lower, upper, **settings)

    if (infeasible or on_failure) == "raise":
        with pytest.raises(ffoadapt.SolveError) as failed:
            call()
        assert failed.value.statuses == {0: Status.PRIMAL_INFEASIBLE}
    else:
        assert torch.isnan(call().x).flatten().tolist() == [True, False]


def test_an_unbounded_program_is_none_of_this() -> None:
    for infeasible in ("nan", "closest"):
        with pytest.raises(ffoadapt.SolveError, match="unbounded"):
            ffoadapt.qp(None, np.ones(1), np.ones((1, 1)), np.ones(1), infeasible=infeasible)
    with pytest.raises(ffoadapt.OptionError, match="infeasible='near'"):
        ffoadapt.qp(np.eye(1), np.ones(1), infeasible="near")
