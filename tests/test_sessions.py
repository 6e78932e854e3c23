"""What a solver may keep from one solve to the next, and when it is taken away from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Session, Solution, Solver, Status


class Rotating(Solver):
    """minimize 1/2 x^2 - b x; q = -b says by its last digit which way the solve ends."""

    form = "box"
    matrices = ("dense",)
    common_options = {"max_iterations": "most"}

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []

    def solve(self, program: Any, options: Any, session: Session) -> Solution:
        start = session.warm_start
        self.seen.append((session.get("last"), None if start is None else float(start.x[0])))
        x = -program.q
        session["last"] = float(x[0])
        if x[0] == FAILS:
            return Solution(status=Status.ITERATION_LIMIT)
        if x[0] == RAISES:
            raise RuntimeError("no")
        if x[0] == WRONG_SHAPE:
            return Solution(np.ones((2, 2)), np.zeros(program.u.size))
        return Solution(x * np.nan if x[0] == NAN else x, np.zeros(program.u.size))


FAILS, RAISES, WRONG_SHAPE, NAN = 5.0, 6.0, 7.0, 8.0


def sequence(b: list[float], **settings: Any) -> list[tuple[Any, Any]]:
    """What each solve found in its session: the x of the last solve, and the start. What fails is
    not tried another way: iterations are limited."""
    solver = Rotating()
    q = -np.array(b)[:, None]
    settings |= {"on_failure": "nan", "executor": "serial"}
    ffoadapt.qp(np.eye(1), q, solver=solver, solver_options={"max_iterations": 9}, **settings)
    return solver.seen


def test_without_warm_starts_nobody_sees_a_solution() -> None:
    assert sequence([1.0, FAILS, 2.0]) == [(None, None), (1.0, None), (FAILS, None)]


def test_a_start_is_the_last_solution() -> None:
    assert sequence([1.0, 2.0, 3.0], warm_start=True) == [(None, None), (1.0, 1.0), (2.0, 2.0)]


@pytest.mark.parametrize("bad", [FAILS, RAISES, WRONG_SHAPE, NAN])
def test_a_failed_solve_empties_the_session(bad: float) -> None:
    """Or its point, or a workspace spoiled by it, would be where all later ones start."""
    found = sequence([1.0, bad, 2.0, 3.0], warm_start=True)
    assert found == [(None, None), (1.0, 1.0), (None, None), (2.0, 2.0)]


WARM = ["clarabel", "daqp", "osqp", "piqp", "proxqp", "scs"]


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("solver", WARM)
def test_a_sequence_with_failures_and_changing_rows(solver: str, sparse: bool) -> None:
    """All numbers change, bounds become infinite and finite again, and one program has none."""
    if solver not in ffoadapt.solvers():
        pytest.skip(f"{solver} is not installed")
    rng = np.random.default_rng(5)
    n, size = 12, 9
    L, G, A = (rng.standard_normal((k, n)) for k in (n, 10, 3))
    G[1] = -G[0]  # so that h[0] + h[1] < 0 has no solution
    factors = 1.0 + 0.05 * rng.standard_normal((size, n))
    P = (L @ L.T / n + np.eye(n)) * factors[:, :, None] * factors[:, None, :]
    q, h, b = (rng.standard_normal((size, k)) for k in (n, 10, 3))
    h = np.abs(h) + 0.1
    h[2:4, 5] = h[3:7, 6] = np.inf
    h[4, 0] = -h[4, 1] - 1.0
    G, A = (M * (1.0 + 0.05 * rng.standard_normal((size, 1, 1))) for M in (G, A))
    settings: dict[str, Any] = {"on_failure": "nan", "executor": "serial"}
    settings["solver_options"] = {"tolerance": 1e-9}
    if sparse:
        takes = ffoadapt.get_plugin("solver", solver).matrices
        if "sparse" not in takes:
            pytest.skip("it takes dense matrices alone")
        from scipy.sparse import csc_matrix

        P, G, A = (csc_matrix(M[0]) for M in (P, G, A))
    warm = ffoadapt.qp(P, q, G, h, A, b, solver=solver, warm_start=True, **settings)
    cold = ffoadapt.qp(P, q, G, h, A, b, solver=solver, **settings)
    solved = ~np.isnan(cold.x).any(axis=-1)
    assert solved.tolist() == [k != 4 for k in range(size)]
    for name in ("x", "z_ineq", "y_eq"):
        np.testing.assert_allclose(getattr(warm, name), getattr(cold, name), atol=1e-6)


@pytest.mark.parametrize("solver", WARM)
def test_a_warm_start_goes_from_thread_to_thread(solver: str) -> None:
    """A time limit solves in a thread of its own, and the session goes there and back."""
    if solver not in ffoadapt.solvers():
        pytest.skip(f"{solver} is not installed")
    try:
        layer = ffoadapt.ConeProgram.from_split(np.eye(2), -np.ones(2), np.ones((1, 2)), np.ones(1))
        options = {"time_limit": 60.0}
        ffoadapt.solve(layer, solver=solver, solver_options=options)
    except ffoadapt.OptionError:
        pytest.skip("it has no time limit")
    q = -np.linspace(1.0, 2.0, 5)[:, None] * np.ones(2)
    settings: dict[str, Any] = {"solver": solver, "executor": "serial", "warm_start": True}
    x = ffoadapt.qp(np.eye(2), q, np.ones((1, 2)), np.ones(1), solver_options=options, **settings).x
    np.testing.assert_allclose(x, 0.5, atol=1e-6)
