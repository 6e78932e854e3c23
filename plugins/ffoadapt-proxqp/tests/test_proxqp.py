"""ffoadapt-proxqp: the conformance suite, random programs, and what is particular to ProxQP."""

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("proxsuite", reason="ProxQP is not installed: pip install proxsuite")


class TestProxQP(SolverSuite):
    solver = "proxqp"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["dense", "sparse", "linear"])
def test_random_programs(kind: str, seed: int) -> None:
    # Made from its solution. Rows: equal; at u; at u, no l; at l; at l, no u; between; below u, no
    # l; free. A linear program has as many active rows as variables.
    role = np.array([*"eeeuuuUUUlllLLLbbbbbbooooooffffff"])
    equal, above, below = (np.isin(role, [*letters]) for letters in ("e", "uU", "lL"))
    rng, m, n = np.random.default_rng(seed), role.size, 15 if kind == "linear" else 30
    M, A, x = (rng.standard_normal(size) for size in [(n, n), (m, n), n])
    P = np.zeros((n, n)) if kind == "linear" else M @ M.T / n + 0.1 * np.eye(n)
    if kind == "sparse":
        A[rng.random((m, n)) < 0.6] = 0.0
    gap, y = rng.uniform(0.5, 1.5, (2, m)), rng.uniform(0.5, 1.5, m)
    y *= 1.0 * (equal | above) - below
    l = A @ x - np.where(equal | below, 0.0, gap[0])
    u = A @ x + np.where(equal | above, 0.0, gap[1])
    l[np.isin(role, [*"Uof"])], u[np.isin(role, [*"Lf"])] = -np.inf, np.inf
    given = [sparse.csc_matrix(v) if kind == "sparse" else v for v in (P, A)]
    program = ffoadapt.ConeProgram.from_box(given[0], -P @ x - A.T @ y, given[1], l, u)
    result = ffoadapt.solve(program, solver="proxqp", polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_feasible_linear_programs_are_not_called_infeasible(kind: str) -> None:
    # With the tolerances of ProxQP itself, the sparse ones all end as infeasible.
    rng = np.random.default_rng(1)
    for _ in range(20):
        q, x0 = rng.standard_normal(6), rng.standard_normal(6)
        G = np.vstack([np.eye(6), -np.eye(6), rng.standard_normal((6, 6))])
        h = np.concatenate([np.full(12, 20.0), G[12:] @ x0 + 1.0])
        A = rng.standard_normal((1, 6))
        P = np.zeros((6, 6))
        data = [P, q, G, h, A, A @ x0]
        if kind == "sparse":
            data = [sparse.csc_matrix(v) if v.ndim == 2 else v for v in data]
        result = ffoadapt.solve(ffoadapt.ConeProgram.from_split(*data), solver="proxqp")
        assert result.status.solved
