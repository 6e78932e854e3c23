"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

from ffoadapt.testing import SolverSuite


class TestOSQP(SolverSuite):
    solver = "osqp"
    waive = {  # noqa: RUF012
        "quiet-unconstrained": "OSQP 1.1 prints 'Polishing not needed' whatever verbose says"
    }
