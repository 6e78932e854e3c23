"""What defeats a solver is solved by the same solver in proximal steps, or proved impossible.

The solvers here are made to give up, so that nothing depends on which vendors' solvers do; the
numbers of the programs come from their construction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import ConeProgram, NonnegativeCone, SecondOrderCone, Status, ZeroCone
from ffoadapt._program.batch import ProgramBatch
from ffoadapt._solve.regularized import WEIGHTS, regularized

rng = np.random.default_rng

LIMIT = Status.ITERATION_LIMIT


class Picky:
    """Solves strictly convex programs with independent equalities and an interior; of any other it
    says that it came to its limit. ``asked`` counts its calls."""

    def __init__(self) -> None:
        self.asked = 0

    def solver(self) -> ffoadapt.Solver:
        cones = {"zero", "nonnegative", "second_order"}
        return ffoadapt.conic_solver(cones=cones)(self.solve)

    def solve(self, P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        self.asked += 1
        P, A = (v.toarray() if sparse.issparse(v) else v for v in (P, A))
        at = np.cumsum([0, *(cone.dim for cone in cones)])
        parts = [
            A[i:j] for i, j, c in zip(at, at[1:], cones, strict=False) if isinstance(c, ZeroCone)
        ]
        equal = np.vstack([*parts, np.zeros((0, q.size))])
        independent = np.linalg.matrix_rank(equal, tol=1e-4) == len(equal)
        if np.linalg.eigvalsh(P)[0] < 1e-9 or not independent:
            return 0 * q, 0 * b, 0 * b, LIMIT
        found = ffoadapt.solve(ConeProgram(P, q, A, b, cones), "clarabel")
        return found.x, found.s, found.z, found.status


def built(seed: int, n: int, cones: list[Any], rank: int, repeat: float | None) -> Any:
    """A program with P of this rank, its last row a copy of the first up to ``repeat``, and its
    solution, which is the only one: as many rows hold as it takes."""
    r = rng(seed)
    m = sum(cone.dim for cone in cones)
    L, A, x = r.normal(size=(n, rank)), r.normal(size=(m, n)), r.normal(size=n)
    if repeat is not None:
        A[1] = A[0] + repeat * r.normal(size=n)
    s, z, at = np.zeros(m), r.normal(size=m), 0
    for cone in cones:
        rows = slice(at, at + cone.dim)
        if isinstance(cone, NonnegativeCone):
            holds = np.arange(cone.dim) < n
            s[rows], z[rows] = np.where(holds, 0.0, 1.0), np.where(holds, 0.5 + z[rows] ** 2, 0.0)
        elif isinstance(cone, SecondOrderCone):
            v = r.normal(size=cone.dim - 1)
            length = np.linalg.norm(v)
            s[rows], z[rows] = np.r_[length, v], 0.7 * np.r_[length, -v]
        at += cone.dim
    P = L @ L.T
    return (P, -(P @ x + A.T @ z), A, A @ x + s, cones), x


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix])
@pytest.mark.parametrize("repeat", [None, 1e-5, 1e-7])
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("rank", [0, 2])
def test_programs_without_an_easy_solution(
    rank: int, curved: bool, repeat: float | None, wrap: Any
) -> None:
    for seed in range(3):
        cones: list[Any] = [ZeroCone(3), NonnegativeCone(8)]
        cones += [SecondOrderCone(3)] if curved else []
        (P, q, A, b, cones), x = built(seed, 6, cones, rank, repeat)
        picky = Picky()
        result = ffoadapt.solve(
            ConeProgram(wrap(P), q, wrap(A), b, cones), picky.solver(), on_failure="nan"
        )
        assert picky.asked > 2
        assert result.status is Status.OPTIMAL, result.info
        assert 0.5 * result.x @ P @ result.x + q @ result.x == pytest.approx(
            0.5 * x @ P @ x + q @ x, abs=1e-6
        )
        assert np.abs(A @ result.x + result.s - b).max() < 1e-7


def test_constraints_that_hold_at_one_point() -> None:
    """x >= 1, 2x <= 2, y = x: a vertex far away in its own units, and no interior."""
    G, h = np.array([[-1.0, 0.0], [2.0, 0.0]]), np.array([-1.0, 2.0])
    program = ConeProgram.from_split(
        np.zeros((2, 2)), [0.3, -2.0], G, 1e3 * h, [[1.0, -1.0]], [0.0]
    )
    result = ffoadapt.solve(program, Picky().solver(), on_failure="nan")
    assert result.status is Status.OPTIMAL
    assert np.abs(result.x - 1e3).max() < 1e-6


def test_a_step_is_the_regularized_program() -> None:
    """Dense and sparse: P + wI and 1 for r; A and -root(w) for r."""
    r = rng(5)
    P = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    A = np.where(r.uniform(size=(2, 3)) < 0.6, r.normal(size=(2, 3)), 0.0)
    for wrap in (np.asarray, sparse.csc_matrix):
        program = ConeProgram(wrap(P), np.ones(3), wrap(A), np.ones(2), [NonnegativeCone(2)])
        batch: ProgramBatch = program.model.program([v[None] for v in program.values], 1)
        found = regularized(batch, 0.25).as_dense()
        whole = np.zeros((5, 5))
        whole[:3, :3] = P + 0.25 * np.eye(3)
        whole[3:, 3:] = np.eye(2)
        assert np.array_equal(found.P[0], whole)
        assert np.array_equal(found.A[0], np.hstack([A, -0.5 * np.eye(2)]))


# --- what the solver cannot know ------------------------------------------------------------------

no_answer = ffoadapt.box_solver(lambda P, q, A, l, u, options: (0 * q, np.zeros(len(l)), LIMIT))


def test_who_gives_up_on_what_has_no_solution() -> None:
    """The proof comes from the data, whoever gave up."""
    contradicts = ConeProgram.from_split(np.eye(2), [1.0, 0.0], [[1.0, 1.0], [-2.0, -2.0]], [1, -3])
    falls = ConeProgram.from_split(np.diag([0.0, 2.0]), [-1.0, 0.0], [[-1.0, 1.0]], [4.0])
    for program, status in (
        (contradicts, Status.PRIMAL_INFEASIBLE),
        (falls, Status.DUAL_INFEASIBLE),
    ):
        result = ffoadapt.solve(program, no_answer, on_failure="nan")
        assert result.status is status
        assert result.info["proof"] == "certificate"


def test_who_gives_up_on_what_has_one_has_given_up() -> None:
    program = ConeProgram.from_split(np.eye(2), [1.0, 0.0], [[1.0, 1.0]], [2.0])
    assert ffoadapt.solve(program, no_answer, on_failure="nan").status is LIMIT


def test_work_that_is_bounded_stays_so() -> None:
    """With max_iterations, nothing further is tried of what came to that limit but better units."""
    calls = []

    class Counting(ffoadapt.Solver):
        form = "box"
        common_options = {"max_iterations": "most"}

        def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
            calls.append(options.get("most"))
            return ffoadapt.Solution(status=LIMIT)

    program = ConeProgram.from_split(np.zeros((1, 1)), [1.0], [[1.0]], [2.0])
    options = {"max_iterations": 7}
    result = ffoadapt.solve(program, Counting(), solver_options=options, on_failure="nan")
    assert result.status is LIMIT
    assert 0 < len(calls) < 4 < len(WEIGHTS)
    assert set(calls) == {7}
