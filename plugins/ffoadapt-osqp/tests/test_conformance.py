"""The conformance kit of ffoadapt on this plugin, and what it keeps for warm starts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ffoadapt import BoxForm, Session
from ffoadapt.testing import SolverSuite

pytest.importorskip("osqp", reason="OSQP is not installed: pip install osqp")


class TestOSQP(SolverSuite):
    solver = "osqp"


def test_a_workspace_is_updated_for_warm_starts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import osqp

    from ffoadapt_osqp._solver import OSQPSolver

    seen: list[str] = []
    setup, update = osqp.OSQP.setup, osqp.OSQP.update

    def record_setup(self: object, *args: object, **kwargs: object) -> None:
        seen.append("setup")
        setup(self, *args, **kwargs)

    def record_update(self: object, **kwargs: object) -> None:
        seen.append("matrices" if "Ax" in kwargs else "vectors")
        update(self, **kwargs)

    monkeypatch.setattr(osqp.OSQP, "setup", record_setup)
    monkeypatch.setattr(osqp.OSQP, "update", record_update)
    solver, session = OSQPSolver(), Session()
    P, q, A = sparse.eye(2, format="csc"), -np.ones(2), sparse.csc_matrix(np.ones((1, 2)))
    l, u = np.full(1, -np.inf), np.ones(1)
    for warm, factor in ((False, 1.0), (False, 1.0), (True, 1.0), (True, 2.0), (True, 2.0)):
        if not warm:
            session.warm_start = None
        found = solver.solve(BoxForm(P, q, factor * A, l, u), solver.defaults, session)
        np.testing.assert_allclose(found.x, 0.5 / factor, atol=1e-4)
        session.warm_start = found
    assert seen == ["setup", "setup", "vectors", "matrices", "vectors"]
