"""The conformance kit of ffoadapt on this plugin, and what it keeps for warm starts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ffoadapt import ConeForm, NonnegativeCone, Session
from ffoadapt.testing import SolverSuite

pytest.importorskip("scs", reason="SCS is not installed: pip install scs")


class TestSCS(SolverSuite):
    solver = "scs"


def test_a_factorization_is_kept_while_the_matrices_stay() -> None:
    from ffoadapt_scs._solver import SCSSolver

    solver, session = SCSSolver(), Session()
    P, q, A = sparse.eye(2, format="csc"), -np.ones(2), sparse.csc_matrix(np.ones((1, 2)))
    kept = []
    for k, factor in enumerate((1.0, 1.0, 1.0, 2.0, 2.0)):
        b, cones = np.array([1.0 + 0.1 * k]), (NonnegativeCone(1),)
        found = solver.solve(ConeForm(P, q, factor * A, b, cones), solver.defaults, session)
        np.testing.assert_allclose(found.x, np.full(2, 0.5 * b[0] / factor), atol=1e-4)
        kept.append(session.get("kept", (None,))[0])
        session.warm_start = found
    assert kept[0] is None  # nobody has asked for warm starts yet
    assert kept[1] is kept[2]
    assert kept[3] is kept[4]
    assert kept[2] is not kept[3]
