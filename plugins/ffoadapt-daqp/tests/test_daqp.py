"""ffoadapt-daqp: the conformance suite, random programs, and what is particular to DAQP."""

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("daqp", reason="DAQP is not installed: pip install daqp")


class TestDAQP(SolverSuite):
    solver = "daqp"


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
    result = ffoadapt.solve(program, solver="daqp", polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)


def test_singular_hessian_is_solved_exactly() -> None:
    P, q = np.diag([1.0, 0.0]), np.array([-1.0, -1.0])
    result = ffoadapt.qp(P, q, np.ones((1, 2)), np.array([1.5]), solver="daqp")
    np.testing.assert_allclose(result.x, [0.0, 1.5], atol=1e-9)


def test_contradicting_equalities_are_infeasible() -> None:
    A, b = np.ones((2, 2)), np.array([1.0, 2.0])
    program = ffoadapt.ConeProgram.from_box(np.eye(2), np.zeros(2), A, b, b)
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        ffoadapt.solve(program, solver="daqp")
