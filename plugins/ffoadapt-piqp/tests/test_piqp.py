"""ffoadapt-piqp: the conformance suite, and what is particular to PIQP."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("piqp", reason="PIQP is not installed: pip install piqp")


class TestPIQP(SolverSuite):
    solver = "piqp"


def test_rows_without_bounds_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    G, h = np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([1.0, np.inf])
    assert ffoadapt.qp(np.eye(2), -np.ones(2), G, h, solver="piqp").z_ineq[1] == 0.0
    assert capfd.readouterr() == ("", "")
