"""Batches through DAQP's C interface: what its Python function says, to the bit."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import BoxForm, Session, Status
from ffoadapt.experimental import Solutions, call_each

pytest.importorskip("daqp", reason="DAQP is not installed: pip install daqp")

import daqp

from ffoadapt_daqp import _form, _quadprog
from ffoadapt_daqp._solver import DAQPSolver

SOLVER = DAQPSolver()

direct = pytest.mark.skipif(
    _quadprog.function() is None,
    reason=f"DAQP is not one of {_quadprog.VERSIONS}, or hides its C function here",
)


def programs(n: int, m: int, seed: int, size: int = 12) -> BoxForm:
    """Programs of all kinds: strictly convex, convex, linear, infeasible, unbounded."""
    rng = np.random.default_rng([seed, n, m])
    M = rng.standard_normal((size, n, n))
    P = M @ M.swapaxes(1, 2)
    P[1] = 0.0  # linear
    P[2] = np.diag(np.arange(n) % 2)  # convex
    P[3, :, 0] = P[3, 0] = 0.0
    A, inside = rng.standard_normal((size, m, n)), rng.standard_normal((size, n, 1))
    center = (A @ inside)[..., 0]
    l, u = center - rng.uniform(0.0, 1.0, (size, m)), center + rng.uniform(0.0, 1.0, (size, m))
    l[4, : n // 2] = u[4, : n // 2] = center[4, : n // 2]
    l[5, ::2], u[5, 1::2] = -np.inf, np.inf
    if m > 1:
        A[6, 1], l[6, 1], u[6, 1] = A[6, 0], u[6, 0] + 1.0, np.inf  # infeasible
    l[7], u[7], P[7] = -np.inf, np.inf, 0.0  # unbounded
    return BoxForm(P, rng.standard_normal((size, n)), A, l, u)


def alone(box: BoxForm, options: Any) -> list[ffoadapt.Solution]:
    data = zip(box.P, box.q, box.A, box.l, box.u, strict=True)
    return [SOLVER.solve(BoxForm(*one), options, Session()) for one in data]


def same(batch: Solutions | None, single: list[ffoadapt.Solution]) -> None:
    assert batch is not None
    assert batch.status == [one.status for one in single]
    assert batch.info == [dict(one.info) for one in single]
    for i, one in enumerate(single):
        if one.status.solved:
            assert np.array_equal(batch.x[i], one.x)
            assert np.array_equal(batch.dual[i], one.dual)


@direct
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (8, 12), (20, 30), (60, 80)])
def test_the_same_bits(n: int, m: int, seed: int) -> None:
    box = programs(n, m, seed)
    single = alone(box, SOLVER.defaults)
    assert sum(one.status is Status.OPTIMAL for one in single) >= 5
    assert any(not one.status.solved for one in single)
    same(SOLVER.solve_batch(box, SOLVER.defaults, Session()), single)


@direct
def test_shared_and_strided_arrays() -> None:
    box = programs(8, 12, 0, size=1 + 7)
    P, A = (np.broadcast_to(v[0], (8, *v.shape[1:])) for v in (box.P, box.A))
    q = np.repeat(box.q, 2, axis=-1)[:, ::2]
    l = np.asfortranarray(box.l)
    shared = BoxForm(P, q, A, l, box.u)
    same(SOLVER.solve_batch(shared, SOLVER.defaults, Session()), alone(shared, SOLVER.defaults))


@direct
@pytest.mark.parametrize("at_once", [0, 1, 4, 5])
def test_parts(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch is solved in parts, the last of which may be smaller."""
    n, m = 8, 12
    box = programs(n, m, 2)
    box.A = np.broadcast_to(box.A[0], box.A.shape)
    expected = alone(box, SOLVER.defaults)
    monkeypatch.setattr(_quadprog, "CALL", 0)
    monkeypatch.setattr(_quadprog, "PART", (at_once - 0.5) * n * n * (n + m))
    calls: list[int] = []
    monkeypatch.setattr(
        _quadprog, "call_each", lambda f, r, *rest: (calls.append(len(r)), call_each(f, r, *rest))
    )
    same(SOLVER.solve_batch(box, SOLVER.defaults, Session()), expected)
    step = max(1, at_once)
    assert calls == [min(step, 12 - k) for k in range(0, 12, step)]


@direct
def test_options_arrive() -> None:
    box = programs(8, 12, 1)
    options = {**SOLVER.defaults, "iter_limit": 2, "eps_prox": 1e-4, "cycle_tol": 7}
    batch = SOLVER.solve_batch(box, options, Session())
    same(batch, alone(box, options))
    assert batch is not None
    assert Status.ITERATION_LIMIT in batch.status


@direct
@pytest.mark.parametrize("value", [None, "1e-6"])
def test_options_that_are_no_numbers_are_refused_as_alone(value: Any) -> None:
    q = np.ones((3, 2))
    for given in (q, q[0]):
        with pytest.raises(ffoadapt.SolveError, match="real number"):
            ffoadapt.box_qp(
                np.eye(2),
                given,
                np.eye(2),
                -np.ones(2),
                np.ones(2),
                solver="daqp",
                solver_options={"primal_tol": value},
            )


@direct
def test_other_types_of_numbers_are_converted() -> None:
    box = programs(8, 12, 3)
    narrow = BoxForm(*(v.astype(np.float32) for v in (box.P, box.q, box.A, box.l, box.u)))
    wide = BoxForm(
        *(v.astype(np.float64) for v in (narrow.P, narrow.q, narrow.A, narrow.l, narrow.u))
    )
    found, expected = (SOLVER.solve_batch(b, SOLVER.defaults, Session()) for b in (narrow, wide))
    assert found is not None and expected is not None
    assert found.status == expected.status
    on = [status.solved for status in found.status]
    assert np.array_equal(found.x[on], expected.x[on])


@direct
def test_the_layout_of_the_settings_is_that_of_the_library() -> None:
    """DAQP's own defaults, written by DAQP into our structure, are those that it tells."""
    room = np.full(_quadprog.SETTINGS.itemsize + 64, 0xAB, dtype=np.uint8)
    ctypes.CDLL(daqp.__file__).daqp_default_settings(ctypes.c_void_p(room.ctypes.data))
    found = room[: _quadprog.SETTINGS.itemsize].view(_quadprog.SETTINGS)[0]
    assert {name: found[name] for name in found.dtype.names} == daqp.Model().settings
    assert (room[_quadprog.SETTINGS.itemsize :] == 0xAB).all()


def test_the_pinned_version_is_known() -> None:
    """Who raises the version looks whether types.h and api.h are what they were."""
    assert _quadprog.function() is not None


def test_without_the_function_batches_are_solved_one_by_one(monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    q, G, h = rng.standard_normal((6, 4)), rng.standard_normal((5, 4)), rng.uniform(1, 2, (6, 5))
    expected = ffoadapt.qp(np.eye(4), q, G, h, solver="daqp").x
    monkeypatch.setattr(_quadprog, "function", lambda: None)
    assert np.array_equal(ffoadapt.qp(np.eye(4), q, G, h, solver="daqp").x, expected)


@direct
@pytest.mark.parametrize("small", [0.0, np.inf])
def test_an_element_is_solved_as_alone(small: float, monkeypatch: Any) -> None:
    """To the bit, whatever the executor, the form and the other elements."""
    monkeypatch.setattr(_form, "SMALL", small)
    rng = np.random.default_rng(3)
    M = rng.standard_normal((7, 12, 12))
    P, q = M @ M.swapaxes(1, 2) + 0.1 * np.eye(12), rng.standard_normal((7, 12))
    G, h = rng.standard_normal((7, 20, 12)), rng.uniform(0.0, 1.0, (7, 20))
    A, b = rng.standard_normal((7, 3, 12)), rng.standard_normal((7, 3))
    settings: Any = {"solver": "daqp", "polish": False}
    for executor in ("serial", "threads"):
        together = ffoadapt.qp(P, q, G, h, A, b, executor=executor, **settings)
        for i in range(7):
            alone = ffoadapt.qp(P[i], q[i], G[i], h[i], A[i], b[i], **settings)
            for ours, theirs in zip(together, alone, strict=True):
                assert np.array_equal(ours[i], theirs)
