"""ffoadapt-proxqp: the conformance suite, and what is particular to ProxQP."""

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt._plugins.registry import registry
from ffoadapt.testing import SolverSuite

pytest.importorskip("proxsuite", reason="ProxQP is not installed: pip install proxsuite")


class TestProxQP(SolverSuite):
    solver = "proxqp"


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_feasible_linear_programs_are_not_called_infeasible(kind: str) -> None:
    # With the tolerances of ProxQP itself, the sparse ones all end as infeasible.
    rng = np.random.default_rng(1)
    for _ in range(20):
        q, x0 = rng.standard_normal(6), rng.standard_normal(6)
        G = np.vstack([np.eye(6), -np.eye(6), rng.standard_normal((6, 6))])
        h = np.concatenate([np.full(12, 20.0), G[12:] @ x0 + 1.0])
        A = rng.standard_normal((1, 6))
        P = np.zeros((6, 6))
        data = [P, q, G, h, A, A @ x0]
        if kind == "sparse":
            data = [sparse.csc_matrix(v) if v.ndim == 2 else v for v in data]
        result = ffoadapt.solve(ffoadapt.ConeProgram.from_split(*data), solver="proxqp")
        assert result.status.solved


def test_large_costs_come_in_other_units() -> None:
    """With these ProxQP takes 10,000 iterations of a millisecond for a single variable."""
    G, h = np.array([[0.5], [-0.8], [0.7]]), np.array([0.7, 0.1, 0.7])
    program = ffoadapt.ConeProgram.from_split([[0.6]], [-2e15], G, h)
    seen: list[float] = []

    class Watched(type(registry.get("solver", "proxqp"))):  # type: ignore[misc]
        def solve(self, program, options, session):  # type: ignore[no-untyped-def]
            found = super().solve(program, options, session)
            seen.append(float(np.abs(program.q).max()))
            return found

    result = ffoadapt.solve(program, Watched())
    assert result.x == pytest.approx([1.0])
    assert seen and max(seen) < 1e4
