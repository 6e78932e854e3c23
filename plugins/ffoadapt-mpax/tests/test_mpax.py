"""ffoadapt-mpax: the conformance suite, random programs, and what is particular to MPAX."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("mpax", reason="MPAX is not installed: pip install mpax")

SLOW = ("qp_sparse", "equality_only", "simplex", "scrambled", "batch", "recovery", "tolerance")


class TestMPAX(SolverSuite):
    solver = "mpax"
    waive: ClassVar = {
        "unconstrained": "MPAX's step sizes are undefined without constraints",
        **dict.fromkeys(SLOW, "every shape takes XLA seconds to compile"),
    }


@pytest.mark.parametrize("seed", range(2))
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
    result = ffoadapt.solve(program, solver="mpax", polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)
