"""ffoadapt-moreau: the conformance suite, and what is particular to Moreau."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("moreau", reason="Moreau is not installed: pip install moreau")


class TestMoreau(SolverSuite):
    solver = "moreau"


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
