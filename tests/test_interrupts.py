"""Ctrl-C interrupts, whatever solver is at work, and leaves nothing half done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Session, Solution, Solver, Status, _kernel
from ffoadapt._runtime import interrupts
from ffoadapt._runtime import threads as _threads
from ffoadapt._runtime.text import told

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own: background jobs ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Scripted(Solver):
    """minimize 1/2 x^2 - b x; for some b it does as it is told, once or for ever."""

    form = "split"
    matrices = ("dense",)
    releases_gil = True

    def __init__(self, **does: Any) -> None:
        self.does = does
        self.seen: list[float] = []
        self.sessions: list[dict[str, Any]] = []

    def solve(self, program: Any, options: Any, session: Session) -> Solution:
        b = float(-program.q[0])
        self.seen.append(b)
        self.sessions.append(dict(session))
        session["half done"] = True
        action = self.does.get(f"at_{b:g}")
        if action is not None and (answer := action()) is not None:
            return answer
        session["half done"] = False
        return Solution(-program.q, (np.zeros(0), np.zeros(0)))


def solve(b: Any, solver: Solver, **settings: Any) -> Any:
    settings = {"executor": "serial", "on_failure": "nan", **settings}
    return ffoadapt.qp(np.eye(1), -np.array(b, dtype=float)[:, None], solver=solver, **settings).x


def once(action: Any) -> Any:
    """The action at the first call alone."""
    left = [action]
    return lambda: left.pop()() if left else None


def interrupted() -> Solution:
    return Solution(status=Status.ERROR, info={"status": "interrupted"})


def kill() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# --- statuses


@pytest.mark.parametrize(
    "word", ["interrupted", "INTERRUPTED", "kInterrupt", "Interrupt", "user cancellation"]
)
def test_words(word: str) -> None:
    """Of OSQP and SCS, Gurobi, HiGHS and QPALM."""
    assert interrupts.said(Status.ERROR, {"status": word})
    assert not interrupts.said(Status.OPTIMAL, {"status": word})
    for other in ("not interrupted", "error", -3, None):
        assert not interrupts.said(Status.ERROR, {"status": other})
    assert not interrupts.said(Status.ERROR, {})


def test_an_interrupted_status_is_an_interrupt() -> None:
    """Python has not seen the signal, which the solver kept for itself."""
    solver = Scripted(at_2=once(interrupted))
    with pytest.raises(KeyboardInterrupt):
        solve([1, 2, 3], solver)
        time.sleep(1.0)
    assert 3.0 not in solver.seen
    assert solve([1, 2, 3], solver)[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_it_is_solved_again_where_the_users_handler_goes_on() -> None:
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    solver = Scripted(at_2=once(interrupted))
    assert solve([1, 2, 3], solver)[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert solver.seen == [1.0, 2.0, 2.0, 3.0]
    assert came == [signal.SIGINT]


def test_a_solver_that_is_always_interrupted_is_given_up() -> None:
    signal.signal(signal.SIGINT, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        solve([1], Scripted(at_1=interrupted))


def test_batches_at_once_too() -> None:
    class AtOnce(Scripted):
        def solve_batch(self, programs: Any, options: Any, session: Session) -> Any:
            size = len(programs.q)
            nothing = np.zeros((size, 1)), (np.zeros((size, 0)), np.zeros((size, 0)))
            return ffoadapt.experimental.Solutions(
                *nothing, [Status.ERROR] * size, [{"status": "interrupted"}] * size
            )

    with pytest.raises(KeyboardInterrupt):
        solve([1, 2], AtOnce())
        time.sleep(1.0)
    signal.signal(signal.SIGINT, lambda *_: None)
    assert solve([1, 2], AtOnce())[:, 0].tolist() == [1.0, 2.0]


# --- what is left behind


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupted_session_is_empty(warm_start: bool) -> None:
    solver = Scripted(at_2=once(kill))
    with pytest.raises(KeyboardInterrupt):
        solve([1, 2], solver, warm_start=warm_start)
    solve([5, 6], solver, warm_start=warm_start)
    assert solver.sessions[-2] == {}


def test_the_others_of_a_batch_end_early() -> None:
    """No thread goes on with the rest of its part, which would hold up the next call."""
    solver = Scripted(at_1=kill, **{f"at_{b}": lambda: time.sleep(0.05) for b in range(2, 201)})
    executor = ffoadapt.get_plugin("executor", "threads").__class__(2)
    with pytest.raises(KeyboardInterrupt):
        solve(range(1, 201), solver, executor=executor)
    time.sleep(0.3)
    count = len(solver.seen)
    time.sleep(0.3)
    assert len(solver.seen) == count < 20
    solver.does = {}
    x = solve(range(1, 9), solver, executor=executor)
    assert x[:, 0].tolist() == list(range(1, 9))


def test_waiting_for_other_threads_is_interrupted() -> None:
    solver = Scripted(at_2=lambda: time.sleep(5.0))
    executor = ffoadapt.get_plugin("executor", "threads").__class__(2)
    threading.Timer(0.2, kill).start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        solve([1, 2], solver, executor=executor)
    assert time.perf_counter() - start < 3.0


def test_a_large_program_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in C that looks at no signal: the main thread does not wait for its end."""
    from ffoadapt._solve import job

    monkeypatch.setattr(job, "LARGE_PROGRAM", 0)
    woken = threading.Event()
    solver = Scripted(at_2=lambda: woken.wait(30.0) and None)
    threading.Timer(0.2, kill).start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        solve([1, 2], solver)
    assert time.perf_counter() - start < 10.0
    woken.set()
    assert solve([1, 3], solver)[:, 0].tolist() == [1.0, 3.0]


def test_so_is_one_after_another_that_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffoadapt._solve import job

    monkeypatch.setattr(job, "LONG_SOLVE", 0.05)
    threads: list[threading.Thread] = []

    def noted(seconds: float) -> Any:
        return lambda: threads.append(threading.current_thread()) or time.sleep(seconds)

    solve([1, 2, 3], Scripted(at_1=noted(0.1), at_2=noted(0.0), at_3=noted(0.0)))
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, False, True]


WAITED_FOR = """
import random, signal
from ffoadapt import Session
from ffoadapt._solve import watchdog
class Seven:
    def solve(self, program, options, session): return 7
signal.signal(signal.SIGALRM, signal.default_int_handler)
draw, interrupted = random.Random(0), 0
for _ in range(5000):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 4e-4))
        while True:
            assert watchdog.solve(Seven(), None, {}, Session(), None) == 7
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted)
"""


def test_an_interrupt_at_any_time_of_a_solve_that_is_waited_for() -> None:
    """It is raised as what it is, and no thread is left that fails to begin."""
    command = [sys.executable, "-c", WAITED_FOR]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("5000", "")


def test_check_speaks_to_threads_of_the_pool_alone() -> None:
    _threads.check()  # nothing was given up


# --- solvers with a handler of their own

SCRIPT = """
import faulthandler, os, signal, sys, threading, time
import numpy as np, ffoadapt
signal.signal(signal.SIGINT, signal.default_int_handler)
solver, executor = sys.argv[1:]
faulthandler.enable()  # as under pytest: signals may then come on a small stack of their own
faulthandler.dump_traceback_later(90, exit=True)
rng = np.random.default_rng(1)
n, size = 30, 150
L = rng.normal(size=(size, n, n))
data = (L @ L.transpose(0, 2, 1) + np.eye(n), rng.normal(size=(size, n)),
        rng.normal(size=(size, 20, n)), np.ones((size, 20)))
how = dict(solver=solver, executor=executor, polish=False, on_failure="nan")
def call(): return ffoadapt.qp(*data, **how).x
first = call()
for k in range(6):
    try:
        end = time.monotonic() + 20.0
        threading.Timer(0.01 + 0.007 * k, os.kill, (os.getpid(), signal.SIGINT)).start()
        while time.monotonic() < end:
            assert np.array_equal(call(), first), "an interrupted element"
        sys.exit(f"signal {k} was lost")
    except KeyboardInterrupt:
        pass
assert np.array_equal(call(), first), "other bits after an interrupt"
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5.0)
    print("the signal was lost")
except KeyboardInterrupt:
    print("right")
"""


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("solver", ["osqp", "scs", "gurobi", "clarabel", "qpalm"])
def test_with_every_kind_of_solver(solver: str, executor: str) -> None:
    if solver not in ffoadapt.solvers():
        pytest.skip(f"{solver} is not installed")
    if _kernel.compiled is None:
        pytest.skip("a signal between a solver's last look and its end is lost without the kernel")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, solver, executor]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().splitlines()[-1:] == ["right"], done.stdout + done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="known for ELF alone")
def test_the_handlers_of_a_solver_are_called_with_pythons() -> None:
    """Its library's calls of sigaction are replaced, and only those of the paths given."""
    if _kernel.compiled is None or "osqp" not in ffoadapt.solvers():
        pytest.skip("needs the kernel and osqp")
    ffoadapt.get_plugin("solver", "osqp")
    folder = os.path.dirname(sys.modules["osqp"].__file__ or "")  # noqa: PTH120
    assert _kernel.kernel.share_interrupts((folder + "/",)) == 1
    assert _kernel.kernel.share_interrupts((folder + "/nothing",)) == 0
    assert _kernel.kernel.share_interrupts(()) == 0
    with pytest.raises(TypeError):
        _kernel.kernel.share_interrupts((1,))


def test_without_the_kernel_pythons_handler_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    mine = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
    libc.signal(int(signal.SIGINT), mine)
    interrupts.restore()
    with pytest.raises(KeyboardInterrupt):
        kill()
        time.sleep(5.0)


def swallow(answer: Any = None) -> Any:
    """Be interrupted, and answer as if nothing had been."""
    try:
        kill()
        time.sleep(5.0)
    except KeyboardInterrupt:
        if isinstance(answer, Exception):
            raise answer from None
    return answer


class Swallows(Scripted):
    """Is interrupted with the second of a batch that it takes at once."""

    def solve_batch(self, programs: Any, options: Any, session: Session) -> Any:
        self.does["at_2"]()
        size = len(programs.q)
        return ffoadapt.experimental.Solutions(
            -programs.q,
            (np.zeros((size, 0)), np.zeros((size, 0))),
            [Status.OPTIMAL] * size,
            [{}] * size,
        )


@pytest.mark.parametrize("kind", [Scripted, Swallows])
@pytest.mark.parametrize("answer", [None, interrupted(), TypeError("incompatible arguments")])
def test_an_interrupt_that_compiled_code_swallowed(kind: type[Scripted], answer: Any) -> None:
    """As where it calls Python to look at an argument, or at the end of an object: what is raised
    there becomes an error, or nothing."""
    if _kernel.compiled is None or not sys.platform.startswith("linux"):
        pytest.skip("when the last signal came is not known here")
    interrupts.restore()
    solver = kind(at_2=once(lambda: swallow(answer)))
    with pytest.raises(KeyboardInterrupt) as caught:
        solve([1, 2, 3], solver)
    cause = answer if isinstance(answer, Exception) else None
    assert caught.value.__cause__ is cause
    assert 3.0 not in solver.seen
    assert solve([1, 2, 3], solver)[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(solve([1, 2], Scripted(at_2=raises))[:, 0]).tolist() == [False, True]


def test_a_handler_of_the_user_decides_what_an_interrupt_does() -> None:
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    assert solve([1, 2, 3], Scripted(at_2=once(kill)))[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert came == [signal.SIGINT]


def test_handlers_that_the_user_changes_are_kept_in_view() -> None:
    """asyncio, for one, puts its own in place and Python's back."""
    if _kernel.compiled is None or not sys.platform.startswith("linux"):
        pytest.skip("when the last signal came is not known here")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    time.sleep(2 * interrupts.WATCHED)
    with pytest.raises(KeyboardInterrupt):
        solve([1, 2], Scripted(at_2=once(swallow)))


SOLVER_IN_C = """
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static volatile sig_atomic_t count;
static void handler(int number)
{
    volatile char large[200000]; /* as what prints may want */
    for (unsigned k = 0; k < sizeof large; k += 64)
        large[k] = (char)k;
    count++;
    signal(number, SIG_DFL); /* the next one ends the process */
}
int solve(int calls)
{
    for (int k = 0; k < calls; k++) {
        void (*before)(int) = signal(SIGINT, handler);
        signal(SIGINT, before);
    }
    return count;
}
int interrupted_solve(void)
{
    void (*before)(int) = signal(SIGINT, handler);
    kill(getpid(), SIGINT);
    signal(SIGINT, before);
    return count;
}
"""

CALLER = """
import ctypes, faulthandler, os, signal, sys, threading, time
from ffoadapt import _kernel
faulthandler.enable()
faulthandler.dump_traceback_later(60, exit=True)
came = []
signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
library = ctypes.CDLL(sys.argv[1])
assert _kernel.kernel.share_interrupts((sys.argv[1],)) == 1
for k in range(1, 4):
    assert library.interrupted_solve() == k and len(came) == k, (k, len(came))
ended = False
def send():
    while not ended:
        os.kill(os.getpid(), signal.SIGINT)
sender = threading.Thread(target=send)
sender.start()
end = time.monotonic() + 3.0
while time.monotonic() < end:
    seen = library.solve(1000)
ended = True
sender.join()
assert seen > 3 and len(came) > 3
print("right")
"""


def test_a_handler_that_needs_much_stack_and_changes_handlers_itself(tmp_path: Any) -> None:
    """Gurobi's prints, and calls signal(): not on the small stack that Python may have for signals,
    and not while another call of it waits in the same thread."""
    compiler = shutil.which("cc")
    if _kernel.compiled is None or not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs the kernel, ELF and a compiler")
    source, library = tmp_path / "solver.c", tmp_path / "solver.so"
    source.write_text(SOLVER_IN_C)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    command = [sys.executable, "-c", CALLER, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "right", done.stdout + done.stderr


# --- exceptions without words


class Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises() -> Any:
    raise Mute


def test_an_exception_whose_str_raises_is_a_failure() -> None:
    assert told(Mute()) == "Mute: (without words: its str() raised RuntimeError)"
    assert told(ValueError("seen")) == "ValueError: seen"
    assert np.isnan(solve([1, 2, 3], Scripted(at_2=raises))[:, 0]).tolist() == [False, True, False]
    with pytest.raises(ffoadapt.SolveError, match=r"Mute: \(without words") as caught:
        solve([1, 2], Scripted(at_2=raises), on_failure="raise")
    assert isinstance(caught.value.__cause__, Mute)


def test_a_plugin_that_raises_so_hurts_no_other() -> None:
    from ffoadapt import SolverSpec
    from ffoadapt._plugins.registry import Registry

    class Broken(Scripted):
        def __init__(self) -> None:
            raise Mute

    registry = Registry()
    registry.add(SolverSpec("broken", load=Broken))
    with pytest.raises(ffoadapt.PluginError, match="could not be made: Mute"):
        registry.get("solver", "broken")
    assert registry.get("executor", "serial") is not None
