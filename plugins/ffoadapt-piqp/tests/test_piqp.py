"""ffoadapt-piqp: the conformance suite, and what is particular to PIQP."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt import BoxForm, Session
from ffoadapt.testing import SolverSuite

pytest.importorskip("piqp", reason="PIQP is not installed: pip install piqp")


class TestPIQP(SolverSuite):
    solver = "piqp"


def test_rows_without_bounds_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    G, h = np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([1.0, np.inf])
    assert ffoadapt.qp(np.eye(2), -np.ones(2), G, h, solver="piqp").z_ineq[1] == 0.0
    assert capfd.readouterr() == ("", "")


def test_a_workspace_is_kept_while_the_kinds_of_rows_stay() -> None:
    from ffoadapt_piqp._solver import PIQPSolver

    solver, session = PIQPSolver(), Session()
    P, q, A, l = np.eye(2), -np.ones(2), np.array([[1.0, 1.0], [1.0, -1.0]]), np.full(2, -np.inf)
    kept = []
    for u in ([1.0, np.inf], [0.9, np.inf], [0.8, np.inf], [0.7, 5.0], [0.6, 5.0]):
        found = solver.solve(BoxForm(P, q, A, l, np.array(u)), solver.defaults, session)
        np.testing.assert_allclose(found.x, u[0] / 2.0, atol=1e-8)
        kept.append(session.get("kept", (None,))[0])
        session.warm_start = found
    assert kept[0] is None  # nobody has asked for warm starts yet
    assert kept[1] is kept[2]
    assert kept[3] is kept[4]
    assert kept[2] is not kept[3]
