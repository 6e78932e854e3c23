"""ffoadapt-ipm: the conformance suite, and what is particular to it."""

from ffoadapt.testing import SolverSuite


class TestInteriorPoint(SolverSuite):
    solver = "ipm"
