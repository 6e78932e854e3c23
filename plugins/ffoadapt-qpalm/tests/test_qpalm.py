"""ffoadapt-qpalm: the conformance suite, and what is particular to QPALM."""

import numpy as np
import pytest
from scipy import sparse

from ffoadapt import BoxForm, Session, Status
from ffoadapt.testing import SolverSuite

pytest.importorskip("qpalm", reason="QPALM is not installed: pip install qpalm")

from ffoadapt_qpalm._solver import QPALMSolver


class TestQPALM(SolverSuite):
    solver = "qpalm"


def test_a_nearby_program_is_solved_with_warm_starts() -> None:
    """QPALM itself, started at the last solution, stalls here just above its tolerance."""
    rng = np.random.default_rng(0)
    n, m, p = 1000, 700, 200
    A = sparse.random(m, n, 0.007, random_state=rng, format="csc", data_rvs=rng.standard_normal)
    x, equal = rng.standard_normal(n), np.arange(m) < p
    y = np.where(equal, rng.standard_normal(m), rng.random(m) < 0.5)
    solver, session = QPALMSolver(), Session()
    for change in (0.0, 0.01):
        q = -(x + A.T @ y) * (1.0 + change * rng.standard_normal(n))
        u = (A @ x) * (1.0 + change * rng.standard_normal(m)) + (y == 0.0)
        box = BoxForm(sparse.eye(n, format="csc"), q, A, np.where(equal, u, -np.inf), u)
        session.warm_start = solver.solve(box, solver.defaults, session)
        assert session.warm_start.status is Status.OPTIMAL
