"""What rounding in the type of the data explains is no contradiction; what it does not, is one."""

from __future__ import annotations

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Status

rng = np.random.default_rng


def rounded(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype(np.float32) for a in arrays]


def transport(seed: int, n: int = 5, m: int = 4) -> tuple[np.ndarray, ...]:
    """The rows of a transport program, and marginals that sum to the same."""
    r = rng(seed)
    a, b = r.dirichlet(np.ones(n)), r.dirichlet(np.ones(m))
    rows = np.vstack([np.kron(np.eye(n), np.ones((1, m))), np.kron(np.ones((1, n)), np.eye(m))])
    return rows, a, b, r.uniform(size=n * m)


@pytest.mark.parametrize("solver", ["auto", "daqp", "clarabel", "osqp", "piqp", "highs", "scs"])
@pytest.mark.parametrize("curvature", [0.0, 0.05])
def test_marginals_in_float32(solver: str, curvature: float) -> None:
    for seed in range(5):
        rows, a, b, C = transport(seed)
        a, b, C = rounded(1e3 * a, 1e3 * b, C)
        k = C.size
        program = (np.float32(curvature) * np.eye(k, dtype=np.float32), C)
        bounds = (-np.eye(k, dtype=np.float32), np.zeros(k, dtype=np.float32))
        marginals = np.concatenate([a, b])
        sol = ffoadapt.qp(*program, *bounds, rows.astype(np.float32), marginals, solver=solver)
        assert np.abs(rows @ sol.x - marginals).max() < 1e-6 * 1e3


def test_the_same_gap_is_a_contradiction_in_float64() -> None:
    A, b = np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([1.0, 2.0 + 1e-6])
    coarse = ffoadapt.qp(*rounded(np.eye(2), np.ones(2)), None, None, *rounded(A, b))
    assert coarse.x == pytest.approx([0.5, 0.5], abs=1e-6)
    far = b + np.array([0, 1e-3])
    fine = ffoadapt.qp(np.eye(2), np.ones(2), None, None, A, far, on_failure="nan")
    assert np.isnan(fine.x).all()
    gap = rounded(far)[0]
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        ffoadapt.qp(*rounded(np.eye(2), np.ones(2)), None, None, rounded(A)[0], gap)


def test_what_is_left_violated_is_said() -> None:
    A, b = rounded(np.array([[1.0, 1.0], [3.0, 3.0]]), np.array([0.1, 0.3]))
    b[1] = np.nextafter(b[1], np.float32(1))
    program = ffoadapt.ConeProgram.from_split(*rounded(np.eye(2), -np.ones(2)), A=A, b=b)
    result = ffoadapt.solve(program, "daqp")
    left = np.abs(A.astype(float) @ result.x - b).max()
    assert result.status is Status.OPTIMAL and 0 < left < 1e-7
    assert result.info["violation"] == pytest.approx(left / 0.3, rel=3.0)
    assert result.report().kkt_residual >= 0.1 * left


@pytest.mark.parametrize(
    ("gap", "dtype", "fine"),
    [
        (1e-13, np.float64, True),
        (1e-9, np.float64, False),
        (2e-7, np.float32, True),
        (1e-4, np.float32, False),
    ],
)
def test_bounds_that_cross(gap: float, dtype: type, fine: bool) -> None:
    l, u = np.array([2.0 * (1 + gap), -1.0], dtype), np.array([2.0, 1.0], dtype)
    data = np.eye(2, dtype=dtype), np.array([1.0, -3.0], dtype), np.eye(2, dtype=dtype)
    if not fine:
        with pytest.raises(ffoadapt.SolveError, match="row 0 has lower bound 2"):
            ffoadapt.box_qp(*data, l, u)
        return
    sol = ffoadapt.box_qp(*data, l, u)
    assert sol.x == pytest.approx([2.0, 1.0], rel=2 * gap)
    assert sol.y == pytest.approx([-3.0, 2.0], rel=1e-6)


@pytest.mark.parametrize("n", [4, 12, 60])
def test_covariances_of_few_samples(n: int) -> None:
    for seed in range(4):
        returns = (0.02 * rng(seed).normal(size=(max(2, n // 3), n))).astype(np.float32)
        S = np.cov(returns.T).astype(np.float32)
        S = (returns - returns.mean(0)).T @ (returns - returns.mean(0)) / np.float32(len(returns))
        assert S.dtype == np.float32
        mu = rng(seed).normal(size=n).astype(np.float32) * np.float32(0.01)
        ones = np.ones((1, n), np.float32)
        G, h = -np.eye(n, dtype=np.float32), np.zeros(n, np.float32)
        w = ffoadapt.qp(S, -mu, G, h, ones, np.ones(1, np.float32)).x
        tight = ffoadapt.qp(
            (S + S.T) / 2.0 + 1e-9 * np.eye(n),
            -mu.astype(float),
            -np.eye(n),
            np.zeros(n),
            np.ones((1, n)),
            np.ones(1),
            solver="clarabel",
        ).x

        def value(w: np.ndarray, S: np.ndarray = S, mu: np.ndarray = mu) -> float:
            return 0.5 * w @ S.astype(float) @ w - mu.astype(float) @ w

        assert w.sum() == pytest.approx(1.0, abs=1e-6) and w.min() > -1e-6
        assert value(w) <= value(tight) + 1e-6


@pytest.mark.parametrize("solver", ["auto", "osqp", "clarabel"])
@pytest.mark.parametrize(
    "P",
    [
        np.diag([1e6, -0.1]),
        np.diag([1e12, 1.0, -1e3]),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        np.array([[1e9, 0.0, 0.0], [0.0, 1.0, 1.0001], [0.0, 1.0001, 1.0]]),
        np.array([[0.0, 1e-3], [1e-3, 1.0]]),
    ],
)
def test_an_indefinite_block_is_one_in_any_units(solver: str, P: np.ndarray) -> None:
    n = len(P)
    bounds = np.vstack([np.eye(n), -np.eye(n)]), np.ones(2 * n)
    with pytest.raises(ffoadapt.ProblemError, match="least eigenvalue is -"):
        ffoadapt.qp(P, np.ones(n), *bounds, solver=solver)
    from scipy.sparse import csc_matrix

    with pytest.raises(ffoadapt.ProblemError, match="not positive semidefinite"):
        ffoadapt.qp(csc_matrix(P), np.ones(n), *bounds, solver=solver)


@pytest.mark.parametrize("seed", range(6))
def test_a_semidefinite_matrix_is_one_in_any_units(seed: int) -> None:
    r = rng(seed)
    L, D = r.normal(size=(6, 3)), 10.0 ** r.uniform(-6, 6, 6)
    P = D[:, None] * (L @ L.T) * D
    x = ffoadapt.qp(P, P @ (np.ones(6) / D), -np.eye(6), 10.0 / D).x
    assert np.isfinite(x).all()


# --- elements that state no program -------------------------------------------------------------


def batch_with(**bad: np.ndarray) -> dict[str, np.ndarray]:
    r = rng(0)
    L = r.normal(size=(3, 4, 4))
    data = {
        "P": L @ L.transpose(0, 2, 1) + np.eye(4),
        "q": r.normal(size=(3, 4)),
        "G": r.normal(size=(3, 5, 4)),
        "h": r.uniform(0.5, 1.0, (3, 5)),
    }
    return {name: np.concatenate([v, bad.get(name, v[:1])[:1]]) for name, v in data.items()}


INDEFINITE = np.diag([1.0, -1.0, 1.0, 1.0])[None]


@pytest.mark.parametrize(
    "bad",
    [
        {"q": np.full((1, 4), np.nan)},
        {"q": np.array([[0.0, np.inf, 0.0, 0.0]])},
        {"P": np.full((1, 4, 4), np.nan)},
        {"P": INDEFINITE},
        {"P": np.triu(np.ones((1, 4, 4)))},
        {"G": np.full((1, 5, 4), np.nan)},
        {"h": np.full((1, 5), np.nan)},
        {"h": np.full((1, 5), -np.inf)},
    ],
)
@pytest.mark.parametrize("solver", ["auto", "clarabel", "osqp"])
def test_bad_elements_are_contained(bad: dict[str, np.ndarray], solver: str) -> None:
    data = batch_with(**bad)
    sol = ffoadapt.qp(**data, solver=solver, on_failure="nan")
    assert np.isnan(sol.x[3]).all() and np.isnan(sol.z_ineq[3]).all()
    for i in range(3):
        alone = ffoadapt.qp(**{name: v[i] for name, v in data.items()}, solver=solver)
        assert np.array_equal(sol.x[i], alone.x)
        assert np.array_equal(sol.z_ineq[i], alone.z_ineq)
    with pytest.raises((ffoadapt.ProblemError, ffoadapt.SolveError), match="batch element 3"):
        ffoadapt.qp(**data, solver=solver)


def test_nothing_flows_through_bad_elements() -> None:
    torch = pytest.importorskip("torch")
    data = {k: torch.tensor(v) for k, v in batch_with(q=np.full((1, 4), np.nan)).items()}
    data["P"][2] = torch.tensor(INDEFINITE[0])
    given = {k: v.clone().requires_grad_() for k, v in data.items()}
    sol = ffoadapt.qp(**given, on_failure="nan")
    sol.x[:2].sum().backward()
    for name, value in given.items():
        alone = {k: v[:2].clone().requires_grad_() for k, v in data.items()}
        ffoadapt.qp(**alone).x.sum().backward()
        assert torch.equal(value.grad[:2], alone[name].grad)
        assert not value.grad[2:].any()


def test_crossing_bounds_and_shared_values() -> None:
    eye, q = np.eye(2), np.zeros((3, 2))
    l, u = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), np.ones(2)
    sol = ffoadapt.box_qp(eye, q, eye, l, u, on_failure="nan")
    assert np.isnan(sol.x[1]).all() and np.isfinite(sol.x[[0, 2]]).all()
    nothing = ffoadapt.box_qp(np.full((2, 2), np.nan), q, eye, l, u, on_failure="nan")
    assert np.isnan(nothing.x).all()


def said_again(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A program that says its equalities again, in other units and as inequalities, rounded to
    float32, and the same in float64 that says all once."""
    r = rng(seed)
    x, rows = r.normal(size=3), r.normal(size=(3, 3))
    rows[0, 1], rows[1] = 0.0, [0.0, 1.0, 0.0]
    E = np.concatenate([unit * rows[:1] for unit in (1.0, 1.5, 2.0)] + [rows[1:2]])
    G = np.concatenate([0.7 * rows[:1], 1.3 * rows[1:2], rows[2:]])
    root, q = 0.1 * r.normal(size=(2, 3)), r.normal(size=3)
    data = [root.T @ root, q, G, G @ x, E, E @ x]
    once = [*data[:2], G[2:], G[2:] @ x, E[[0, 3]], E[[0, 3]] @ x]
    return rounded(*data), once


@pytest.mark.parametrize("seed", range(300, 330))
def test_inequalities_that_say_equalities_again(seed: int) -> None:
    """Rounding leaves them one point, or none: they are met as closely as the data are known."""
    (P, q, G, h, E, b), once = said_again(seed)
    found = ffoadapt.qp(P, q, G, h, E, b, on_failure="nan")
    assert found.status is Status.OPTIMAL
    x = np.asarray(found.x, dtype=np.float64)
    for A, side, equal in ((E, b, True), (G, h, False)):
        size = np.abs(A) @ np.abs(x) + np.abs(side)
        off = A @ x - side
        assert ((np.abs(off) if equal else off) <= 1e-6 * size).all()
    best = ffoadapt.qp(*once).x
    values = [0.5 * v @ once[0] @ v + once[1] @ v for v in (x, best)]
    sizes = [np.abs(once[1]) @ np.abs(v) + v @ once[0] @ v for v in (x, best)]
    assert abs(values[0] - values[1]) <= 1e-4 * max(sizes)
