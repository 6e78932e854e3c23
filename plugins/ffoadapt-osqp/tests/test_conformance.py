"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

from ffoadapt.testing import SolverSuite


class TestOSQP(SolverSuite):
    solver = "osqp"
