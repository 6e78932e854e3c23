"""ffoadapt-gurobi: the conformance suite, and what is particular to Gurobi."""

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("gurobipy", reason="Gurobi is not installed: pip install gurobipy")


class TestGurobi(SolverSuite):
    solver = "gurobi"


def test_beyond_the_licence_the_error_says_so() -> None:
    # More than 200 variables with a quadratic objective: too large for the licence in the wheel.
    P = sparse.identity(300, format="csc")
    program = ffoadapt.ConeProgram.from_split(P, -np.ones(300), P, np.ones(300))
    try:
        ffoadapt.solve(program, solver="gurobi")
    except ffoadapt.SolveError as error:
        assert "size-limited license" in str(error)
    else:
        pytest.skip("this machine has a full licence")
