"""ffoadapt-qpalm: the conformance suite, and what is particular to QPALM."""

import pytest

from ffoadapt.testing import SolverSuite

pytest.importorskip("qpalm", reason="QPALM is not installed: pip install qpalm")


class TestQPALM(SolverSuite):
    solver = "qpalm"
