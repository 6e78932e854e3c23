"""ffoadapt-moreau: the conformance suite, random programs, and what is particular to Moreau."""

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("moreau", reason="Moreau is not installed: pip install moreau")


class TestMoreau(SolverSuite):
    solver = "moreau"


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
    result = ffoadapt.solve(program, solver="moreau", polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)


def test_a_kept_solver_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    Ps, qs = np.eye(8) * rng.uniform(1, 2, (5, 1, 1)), rng.standard_normal((5, 8))
    G, h = rng.standard_normal((12, 8)), np.ones(12)
    together = ffoadapt.qp(Ps, qs, G, h, solver="moreau").x
    alone = [ffoadapt.qp(P, q, G, h, solver="moreau").x for P, q in zip(Ps, qs, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_singular_hessian() -> None:
    # Moreau's active-set mode calls this solved at x = (1, 1e6).
    P, q = np.diag([1.0, 0.0]), -np.ones(2)
    program = ffoadapt.ConeProgram.from_split(P, q, [[1.0, 0.0]], [1.0])
    with pytest.raises(ffoadapt.SolveError, match="dual_infeasible"):
        ffoadapt.solve(program, solver="moreau")
