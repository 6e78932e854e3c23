"""solver="auto": the fastest measured solver, and the next one where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import POLYHEDRAL, ConeProgram, Solution, SolverSpec, Status
from ffoadapt._plugins.registry import registry
from ffoadapt._program.structure import Structure
from ffoadapt._solve.choice import column_of, predicted

FAST = {("dense", 10): 1e-9, ("dense", 1000): 1e-9, ("sparse", 10): 1e-9}


class Failing(ffoadapt.Solver):
    """Claims to be the fastest, and solves every program but those with q[0] > 0."""

    form = "split"
    matrices = ("dense",)
    outcome: Status | Exception = Status.ITERATION_LIMIT

    def solve(self, program: Any, options: Mapping[str, Any], session: Any) -> Solution:
        if program.q[0] > 0:
            if isinstance(self.outcome, Exception):
                raise self.outcome
            if self.outcome.solved:  # a wrong point that says solved
                return Solution(program.q, (np.zeros(len(program.h)), np.zeros(len(program.b))))
            return Solution(status=self.outcome)
        return Solution(-program.q, (np.zeros(len(program.h)), np.zeros(len(program.b))))


@pytest.fixture
def failing() -> Iterator[Failing]:
    solver = Failing()
    spec = SolverSpec(
        "failing", solver, cones=POLYHEDRAL, matrices=frozenset({"dense"}), speed=FAST
    )
    registry.add(spec)
    yield solver
    del registry._entries["solver"]["failing"]
    registry._usable.clear()


def unconstrained(q: Any) -> ConeProgram:
    return ConeProgram.from_split(np.eye(2), q, np.eye(2), [9.0, 9.0])


def test_chooses_the_fastest_and_says_why(failing: Failing) -> None:
    choice = ffoadapt.choose_solver(unconstrained([-1.0, 2.0]))
    assert choice.name == "failing"
    assert "2 variables" in choice.reason and "measured" in choice.reason


def test_never_chooses_a_solver_without_the_cones(failing: Failing) -> None:
    program = ConeProgram(
        np.eye(2), np.ones(2), -np.eye(2), np.zeros(2), [ffoadapt.SecondOrderCone(2)]
    )
    assert ffoadapt.choose_solver(program).name != "failing"


@pytest.mark.parametrize(
    "outcome", [Status.ITERATION_LIMIT, Status.TIME_LIMIT, Status.OPTIMAL, ValueError("broken")]
)
def test_falls_back_and_notes_it(failing: Failing, outcome: Status | Exception) -> None:
    failing.outcome = outcome
    result = ffoadapt.solve(unconstrained([1.0, 2.0]), polish=False)
    assert np.allclose(result.x, [-1.0, -2.0])
    assert result.info["solver"] != "failing"
    assert result.info["fallback_from"]
    assert np.allclose(result.vjp(x=[1.0, 0.0]).q, [-1.0, 0.0])


def test_only_failed_elements_of_a_batch_fall_back(failing: Failing) -> None:
    cp = pytest.importorskip("cvxpy")
    x, q = cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x) + q @ x), [x <= 9])
    layer = ffoadapt.Layer(problem, [q], [x])
    values = np.array([[-1.0, 0.5], [2.0, 3.0]])
    result = layer.solve(values)
    assert np.allclose(result.variables[0], -values)
    assert "fallback_from" not in result.info[0]


def test_a_named_solver_does_not_fall_back(failing: Failing) -> None:
    with pytest.raises(ffoadapt.SolveError, match="iteration_limit"):
        ffoadapt.solve(unconstrained([1.0, 2.0]), "failing")


def test_infeasible_is_of_the_program_and_does_not_fall_back() -> None:
    program = ConeProgram.from_split(np.eye(1), [0.0], [[1.0], [-1.0]], [-1.0, -1.0])
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        ffoadapt.solve(program)


def test_a_solver_that_was_too_slow_to_measure_further_is_not_taken_for_more() -> None:
    """Between 10 and 50 the fixed cost hides how the time grows."""
    slow = {("dense", 10): 2e-3, ("dense", 50): 1e-2}
    fast = {("dense", 10): 3e-4, ("dense", 1000): 3e-1}
    assert predicted(slow, "dense", 40) < 1e-2
    assert predicted(slow, "dense", 1000) > predicted(fast, "dense", 1000)
    assert predicted({("dense", 10): 1e-3}, "dense", 100) == pytest.approx(1.0)
    assert predicted({("sparse", 10): 1e-3}, "sparse", 1000) == pytest.approx(1.0)
    assert predicted({("dense", 10): 1e-3}, "dense", 3) == 1e-3


@pytest.mark.parametrize(
    ("column", "cones"),
    [
        ("dense", [ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(2)]),
        ("second_order", [ffoadapt.NonnegativeCone(2), ffoadapt.SecondOrderCone(3)]),
        ("exponential", [ffoadapt.SecondOrderCone(3), ffoadapt.PowerCone(0.3)]),
        ("psd", [ffoadapt.ExponentialCone(), ffoadapt.PSDCone(2), ffoadapt.SecondOrderCone(3)]),
    ],
)
def test_the_slowest_kind_of_cone_decides(column: str, cones: list[ffoadapt.Cone]) -> None:
    structure = Structure(2, sum(cone.dim for cone in cones), tuple(cones))
    assert column_of(structure) == column
