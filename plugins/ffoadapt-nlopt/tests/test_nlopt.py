"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

import pytest

from ffoadapt.testing import SolverSuite

pytest.importorskip("nlopt", reason="NLopt is not installed: pip install nlopt")


class TestNLopt(SolverSuite):
    solver = "nlopt"
