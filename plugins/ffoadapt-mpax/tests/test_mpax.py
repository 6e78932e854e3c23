"""ffoadapt-mpax: the conformance suite, and what is particular to MPAX."""

from typing import ClassVar

import pytest

from ffoadapt.testing import SolverSuite

pytest.importorskip("mpax", reason="MPAX is not installed: pip install mpax")

SLOW = ("qp_sparse", "equality_only", "simplex", "scrambled", "batch", "recovery", "tolerance")


class TestMPAX(SolverSuite):
    solver = "mpax"
    waive: ClassVar = {
        "unconstrained": "MPAX's step sizes are undefined without constraints",
        **dict.fromkeys(SLOW, "every shape takes XLA seconds to compile"),
    }
