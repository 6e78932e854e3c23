"""Programs in least-distance form: solved as well, and not made where they would not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import BoxForm, Session, Status
from ffoadapt.experimental import LeastDistance
from ffoadapt.testing import SolverSuite

pytest.importorskip("daqp", reason="DAQP is not installed: pip install daqp")

from ffoadapt_daqp import _form
from ffoadapt_daqp._solver import DAQPSolver

SOLVER = DAQPSolver()

compiled = pytest.mark.skipif(
    not LeastDistance.available(), reason="ffoadapt was built without a compiler"
)


def taken(box: BoxForm) -> bool:
    return isinstance(_form.of(box), _form.Form)


def program(n: int, m: int, p: int, seed: int = 0, diagonal: bool = False) -> tuple[Any, ...]:
    """A `BoxForm` and its x and y: p equalities, then rows of all kinds, their order mixed."""
    rng = np.random.default_rng([seed, n, m, p])
    M = rng.standard_normal((n, n))
    P = np.diag(rng.uniform(0.5, 2.0, n)) if diagonal else M @ M.T / n + 0.1 * np.eye(n)
    A, x = rng.standard_normal((m, n)), rng.standard_normal(n)
    kind = rng.permutation(np.concatenate((np.zeros(p, int), 1 + np.arange(m - p) % 6)))
    y = np.select([kind == 0, kind == 1, kind == 2], [rng.standard_normal(m), 1.0, -1.0], 0.0)
    y[np.flatnonzero(y * (kind > 0))[(n - p) // 2 :]] = 0.0  # fewer hold than there is room for
    Ax, gap = A @ x, rng.uniform(0.5, 1.5, (2, m))
    u = np.where((kind == 0) | (y > 0.0), Ax, Ax + gap[0])
    l = np.where((kind == 0) | (y < 0.0), Ax, Ax - gap[1])
    u[kind == 3] = u[kind == 5] = np.inf
    l[kind == 4] = l[kind == 5] = -np.inf
    return BoxForm(P, -P @ x - A.T @ y, A, l, u), x, y


def solve(box: BoxForm, start: ffoadapt.Solution | None = None) -> ffoadapt.Solution:
    session = Session()
    session.warm_start = start
    return SOLVER.solve(box, SOLVER.defaults, session)


class TestForm(SolverSuite):
    """The conformance suite, whose programs are small, all in the form that they allow."""

    solver = "daqp"

    @pytest.fixture(autouse=True)
    def all_sizes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_form, "SMALL", -np.inf)


@compiled
@pytest.mark.parametrize("n", [60, 170])
@pytest.mark.parametrize(("m", "p"), [(0, 0), (90, 0), (250, 30), (140, 20)])
def test_known_solutions(n: int, m: int, p: int) -> None:
    box, x, y = program(n, m, p)
    assert taken(box)
    found = solve(box)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.x, x, atol=1e-10)
    np.testing.assert_allclose(found.dual, y, atol=1e-10)


def test_known_solution_with_a_diagonal_matrix() -> None:
    box, x, y = program(150, 200, 30, diagonal=True)
    assert taken(box)
    found = solve(box)
    np.testing.assert_allclose(found.x, x, atol=1e-10)
    np.testing.assert_allclose(found.dual, y, atol=1e-10)


def _unchanged(**changes: Any) -> BoxForm:
    box, _, _ = program(120, 150, 20)
    for name, value in changes.items():
        setattr(box, name, value)
    return box


def _dependent(row: int) -> BoxForm:
    """The first equality again, in a row that is one or is none."""
    box = _unchanged()
    first = np.flatnonzero(box.l == box.u)[0]
    box.A[row] = 2.0 * box.A[first]
    box.l[row], box.u[row] = 2.0 * box.l[first], 2.0 * box.u[first]
    return box


def _singular(least: float) -> BoxForm:
    box = _unchanged()
    V, d = np.linalg.qr(box.P)[0], np.linspace(least, 1.0, 120)
    box.P = (V * d) @ V.T
    return box


@pytest.mark.parametrize(
    "box",
    [
        program(120, 60, 0, diagonal=True)[0],
        program(20, 30, 5)[0],
        program(120, 400, 130)[0],
        _dependent(row=int(np.flatnonzero(_unchanged().l == _unchanged().u)[-1])),
        _singular(1e-9),
    ],
    ids=["diagonal without equalities", "small", "too many equalities", "dependent", "singular"],
)
def test_left_to_daqp(box: BoxForm) -> None:
    assert not taken(box)
    found = solve(box)
    assert found.status is Status.OPTIMAL
    Ax = box.A @ found.x
    assert np.abs(box.P @ found.x + box.q + box.A.T @ found.dual).max() < 1e-7
    assert max((Ax - box.u).max(), (box.l - Ax).max()) < 1e-7


def test_an_inequality_that_the_equalities_decide() -> None:
    box = _dependent(row=int(np.flatnonzero(_unchanged().l < _unchanged().u)[0]))
    row = int(np.flatnonzero(_unchanged().l < _unchanged().u)[0])
    box.l[row], box.u[row] = box.l[row] - 1.0, box.u[row] + 1.0
    assert not taken(box)
    assert solve(box).status is Status.OPTIMAL
    box.l[row], box.u[row] = box.l[row] + 2.0, np.inf
    assert solve(box).status is Status.PRIMAL_INFEASIBLE


@pytest.mark.parametrize("diagonal", [np.zeros(120), np.r_[np.ones(119), 0.0]])
def test_linear_parts_are_left_to_daqp(diagonal: Any) -> None:
    assert not taken(_unchanged(P=np.diag(diagonal)))


def test_an_indefinite_matrix_is_left_to_daqp() -> None:
    box = _unchanged()
    assert not taken(_unchanged(P=box.P - 0.5 * np.eye(120)))


def test_contradictions_are_infeasible() -> None:
    box = _dependent(row=int(np.flatnonzero(_unchanged().l == _unchanged().u)[-1]))
    box.u[box.l == box.u] += 1.0
    box.l = np.where(_unchanged().l == _unchanged().u, box.u, box.l)
    assert solve(box).status is Status.PRIMAL_INFEASIBLE
    box = _unchanged()
    rows = np.flatnonzero(box.l < box.u)[:2]
    box.A[rows[1]] = box.A[rows[0]]
    box.l[rows], box.u[rows] = [1.0, -np.inf], [np.inf, 0.0]
    assert taken(box)
    found = solve(box)
    assert found.status is Status.PRIMAL_INFEASIBLE
    assert found.x is None  # what DAQP left in its arrays may be anything


@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_are_not_modified(order: Any) -> None:
    box, x, _ = program(170, 200, 30)
    box.P, box.A = np.array(box.P, order=order), np.array(box.A, order=order)
    arrays = (box.P, box.q, box.A, box.l, box.u)
    before = [v.copy() for v in arrays]
    for array in arrays:
        array.flags.writeable = False
    np.testing.assert_allclose(solve(box).x, x, atol=1e-10)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_a_start_saves_iterations() -> None:
    box, x, y = program(120, 200, 30)
    cold = solve(box)
    warm = solve(box, cold)
    np.testing.assert_allclose(warm.x, x, atol=1e-10)
    np.testing.assert_allclose(warm.dual, y, atol=1e-10)
    assert warm.info["iterations"] < cold.info["iterations"] / 2


@pytest.mark.parametrize("n", [20, 120])
def test_a_start_at_bounds_that_are_infinite_by_now(n: int) -> None:
    box = program(n, 2 * n, n // 5)[0]
    cold = solve(box)
    box.u[(cold.dual > 0.0) & (box.l < box.u)] = np.inf
    box.l[(cold.dual < 0.0) & (box.l < box.u)] = -np.inf
    np.testing.assert_allclose(solve(box, cold).x, solve(box).x, atol=1e-9)


def test_an_element_is_solved_as_alone() -> None:
    """To the bit, whatever the executor and the other elements."""
    boxes = [program(170, 200, 30, seed)[0] for seed in range(4)]
    data = [np.stack([getattr(box, name) for box in boxes]) for name in ("P", "q", "A", "l", "u")]
    settings = {"solver": "daqp", "polish": False}
    for executor in ("serial", "threads"):
        together = ffoadapt.box_qp(*data, executor=executor, **settings).x
        for i, box in enumerate(boxes):
            alone = ffoadapt.box_qp(box.P, box.q, box.A, box.l, box.u, **settings).x
            assert np.array_equal(together[i], alone)
