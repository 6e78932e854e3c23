"""A solver that does not come back is left behind, and never taken for one that solved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Session, Solution, Solver, Status
from ffoadapt._solve import watchdog

HANG = 7.0
"""The right-hand side at which `Sleeper` does not come back."""


class Sleeper(Solver):
    """minimize 1/2 x^2 - b x, but asleep for the b of `HANG`; keeps count in its session."""

    form = "split"
    matrices = ("dense",)
    common_options = {"time_limit": "seconds"}

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.threads: list[threading.Thread] = []
        self.counts: list[int] = []
        self.awake: list[bool] = []

    def solve(self, program: Any, options: Any, session: Session) -> Solution:
        self.threads.append(threading.current_thread())
        session["calls"] = session.get("calls", 0) + 1
        self.counts.append(session["calls"])
        self.awake.append(False)
        call = len(self.awake) - 1
        if -program.q[0] == HANG:
            self.wake.wait(60.0)
        self.awake[call] = True
        return Solution(-program.q, (np.zeros(0), np.zeros(0)))


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleeper]:
    monkeypatch.setattr(watchdog, "GRACE", 0.2)
    solver = Sleeper()
    yield solver
    solver.wake.set()


def solve(b: list[float], solver: Solver, **settings: Any) -> Any:
    """A batch of one-dimensional programs."""
    torch = pytest.importorskip("torch")
    q = -torch.tensor(b, dtype=torch.float64)[:, None]
    return ffoadapt.qp(torch.eye(1, dtype=torch.float64), q, solver=solver, **settings)


def test_patience() -> None:
    assert [watchdog.patience(t) for t in (1, 5.0, 60, 0)] == [6.0, 10.0, 120.0, 5.0]
    assert watchdog.patience(None) is watchdog.patience(np.inf) is watchdog.patience("x") is None


def test_left_behind(sleeper: Sleeper) -> None:
    pytest.importorskip("torch")  # takes long where other processes are busy
    start = time.perf_counter()
    options = {"time_limit": 0.1}
    found = solve([1.0, HANG, 3.0], sleeper, solver_options=options, on_failure="nan")
    assert time.perf_counter() - start < 10.0
    assert found.x[[0, 2], 0].tolist() == [1.0, 3.0]
    assert found.x[1].isnan().all()
    # The thread keeps its session: the next solve starts with an empty one.
    assert sleeper.counts == [1, 2, 1]
    assert all(thread.daemon for thread in sleeper.threads)
    assert sleeper.awake == [True, False, True]


def test_its_status(sleeper: Sleeper) -> None:
    program = ffoadapt.ConeProgram(np.eye(1), [-HANG], np.zeros((0, 1)), np.zeros(0), [])
    with pytest.raises(ffoadapt.SolveError, match="was left behind") as caught:
        ffoadapt.solve(program, sleeper, solver_options={"time_limit": 0.1})
    assert caught.value.statuses == {0: Status.TIME_LIMIT}


def test_sessions_go_on(sleeper: Sleeper) -> None:
    solve([1.0, 2.0, 3.0], sleeper, solver_options={"time_limit": 5.0})
    assert sleeper.counts == [1, 2, 3]


def test_no_thread_without_a_limit(sleeper: Sleeper) -> None:
    solve([1.0], sleeper, executor="serial")
    assert sleeper.threads == [threading.current_thread()]


def test_exceptions_arrive(sleeper: Sleeper) -> None:
    def fail(*args: Any) -> Solution:
        raise ArithmeticError("no")

    sleeper.solve = fail  # type: ignore[method-assign]
    with pytest.raises(ffoadapt.SolveError, match="ArithmeticError: no"):
        solve([1.0], sleeper, solver_options={"time_limit": 5.0})


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_keyboard_interrupt(sleeper: Sleeper) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        solve([HANG], sleeper, solver_options={"time_limit": 30.0})
    assert time.perf_counter() - start < 10.0
    signal.signal(signal.SIGINT, before)
    assert solve([1.0], sleeper, solver_options={"time_limit": 30.0}).x.item() == 1.0
