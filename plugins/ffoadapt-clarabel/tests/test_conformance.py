"""The conformance kit of ffoadapt on this plugin, and what it keeps for warm starts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ffoadapt import ConeForm, NonnegativeCone, Session
from ffoadapt.testing import SolverSuite

pytest.importorskip("clarabel", reason="Clarabel is not installed: pip install clarabel")


class TestClarabel(SolverSuite):
    solver = "clarabel"


def test_a_workspace_is_updated_for_warm_starts_alone() -> None:
    """And not where a bound is so large that Clarabel takes it for infinite and drops the row."""
    from ffoadapt_clarabel._solver import ClarabelSolver

    solver, session = ClarabelSolver(), Session()
    P = sparse.csc_matrix([[2.0, 1.0], [1.0, 2.0]])
    q, A = np.array([-3.0, -3.0]), sparse.eye(2, format="csc")
    kept = []
    for b in ([0.5, 3.0], [0.4, 3.0], [0.3, 1e25], [0.2, 3.0], [0.1, 3.0]):
        program = ConeForm(P, q, A, np.array(b), (NonnegativeCone(2),))
        found = solver.solve(program, solver.defaults, session)
        np.testing.assert_allclose(found.x, [b[0], (3.0 - b[0]) / 2.0], atol=1e-6)
        kept.append(session.get("kept"))
        session.warm_start = found
    assert kept[0] is None
    assert kept[1] is not None
    assert kept[1] is kept[4]
    session = Session()
    session.warm_start = found
    huge = ConeForm(P, q, A, np.array([0.3, 1e25]), (NonnegativeCone(2),))
    solver.solve(huge, solver.defaults, session)
    assert "kept" not in session
