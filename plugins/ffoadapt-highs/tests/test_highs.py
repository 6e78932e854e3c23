"""ffoadapt-highs: the conformance suite, random programs, and what is particular to HiGHS."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("highspy", reason="HiGHS is not installed: pip install highspy")


class TestHiGHS(SolverSuite):
    solver = "highs"
    waive: ClassVar = {
        f"gradient_{name}-simplex": "HiGHS does not solve quadratic programs with bounds near 1e-4"
        for name in ("G", "h")
    }


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
    result = ffoadapt.solve(program, solver="highs", polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)


def test_regularization_leaves_no_trace() -> None:
    # HiGHS adds 1e-7 to the diagonal of P: x and the dual would be off by as much.
    P, q, A = np.diag([1.0, 0.0]), np.array([-1.0, -1.0]), np.array([[0.0, 1.0]])
    result = ffoadapt.box_qp(P, q, A, np.array([-1e3]), np.array([1e3]), solver="highs")
    np.testing.assert_allclose(result.x, [1.0, 1e3], rtol=1e-10)
    np.testing.assert_allclose(result.y, [1.0], rtol=1e-10)


def test_unbounded_quadratic_does_not_pass_as_optimal() -> None:
    # x[1] falls for ever; HiGHS, which solves the regularized program, says optimal at 1e7.
    program = ffoadapt.ConeProgram.from_split(np.diag([1.0, 0.0]), -np.ones(2), [[1.0, 0.0]], [1.0])
    with pytest.raises(ffoadapt.SolveError):
        ffoadapt.solve(program, solver="highs")


def test_an_option_out_of_range_is_an_error() -> None:
    program = ffoadapt.ConeProgram.from_split(None, np.ones(1), [[-1.0]], [1.0])
    with pytest.raises(ffoadapt.SolveError, match="does not accept primal_feasibility_tolerance"):
        ffoadapt.solve(program, solver="highs", solver_options={"tolerance": 1e-15})
