"""ffoadapt-daqp: the conformance suite, and what is particular to DAQP."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("daqp", reason="DAQP is not installed: pip install daqp")


class TestDAQP(SolverSuite):
    solver = "daqp"


def test_singular_hessian_is_solved_exactly() -> None:
    P, q = np.diag([1.0, 0.0]), np.array([-1.0, -1.0])
    result = ffoadapt.qp(P, q, np.ones((1, 2)), np.array([1.5]), solver="daqp")
    np.testing.assert_allclose(result.x, [0.0, 1.5], atol=1e-9)


def test_contradicting_equalities_are_infeasible() -> None:
    A, b = np.ones((2, 2)), np.array([1.0, 2.0])
    program = ffoadapt.ConeProgram.from_box(np.eye(2), np.zeros(2), A, b, b)
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        ffoadapt.solve(program, solver="daqp")
