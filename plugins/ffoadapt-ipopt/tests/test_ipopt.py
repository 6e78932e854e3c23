"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

import pytest

from ffoadapt.testing import SolverSuite

pytest.importorskip("cyipopt", reason="IPOPT is not installed: pip install cyipopt")


class TestIPOPT(SolverSuite):
    solver = "ipopt"
