"""Arrays in memory that is used again."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ffoadapt import _kernel
from ffoadapt._layers.function import SolveFunction
from ffoadapt._models.split import SplitModel
from ffoadapt._runtime.costs import LARGE_ARRAY as LARGE
from ffoadapt._runtime.memory import empty
from ffoadapt._solve.settings import Settings

kept = pytest.mark.skipif(
    _kernel.compiled is None, reason="the package was built without a compiler"
)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def resident() -> int:
    """Bytes of this process in memory."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc on this system")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@kept
def test_memory_comes_back_when_nobody_looks_into_it() -> None:
    first = empty(3, LARGE)
    place, part = address(first), first[1]
    del first
    part[:] = 2.0
    other = empty(3, LARGE)
    assert address(other) != place  # a view keeps it
    other[:] = 3.0
    assert (part == 2.0).all()
    del part, other
    gc.collect()
    assert place in {address(array) for array in (empty(3, LARGE), empty(3, LARGE))}


@kept
def test_no_more_is_kept_than_agreed() -> None:
    """Whatever is freed: sizes that nobody asks for again make room for others.

    In a process of its own: in one with a past, malloc keeps holes of the past as well.
    """
    resident()
    run = [sys.executable, "-c", "import test_memory; print(test_memory.growth_by_all_sizes())"]
    here = Path(__file__).parent
    found = subprocess.run(run, capture_output=True, text=True, check=True, cwd=here)
    assert float(found.stdout) < 200e6


def growth_by_all_sizes() -> int:
    before = resident()
    for size in range(1, 200):
        arrays = [empty(size, LARGE) for _ in range(3)]
        for array in arrays:
            array[:] = 1.0
    huge = empty(3000, LARGE)
    huge[:] = 1.0
    del huge, arrays, array
    return resident() - before


@kept
def test_threads_never_share_it() -> None:
    wrong = []

    def use(mark: float) -> None:
        rng = np.random.default_rng(int(mark))
        for _ in range(300):
            arrays = [empty(int(k), LARGE) for k in rng.integers(1, 4, 3)]
            for k, array in enumerate(arrays):
                array[:] = mark + k
            wrong.extend(array for k, array in enumerate(arrays) if (array != mark + k).any())

    threads = [threading.Thread(target=use, args=(10.0 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_gradients_of_calls_stay_what_they_were() -> None:
    """Gradients, factors and programs of a batch are in such memory."""
    rng, n, size = np.random.default_rng(0), 30, 40
    half = rng.standard_normal((size, n, n))
    P = half @ half.swapaxes(-1, -2) + np.eye(n)
    G, h = rng.standard_normal((size, n, n)), rng.random((size, n))
    function, states = SolveFunction(SplitModel(n, {}, n, 0), Settings.of("daqp", {})), []
    for k in range(3):
        data = P * (k + 1), np.ones((size, n)), G, h, np.zeros((0, n)), np.zeros(0)
        (x, *_), state = function.forward(data)
        found = function.vjp(state, [np.ones_like(x), None, None], [True] * 6)
        states.append((state, found, [None if g is None else g.copy() for g in found]))
    for state, found, copies in states:
        again = function.vjp(state, [np.ones((size, n)), None, None], [True] * 6)
        for one, other, third in zip(found, copies, again, strict=True):
            assert (one == other).all() and (one == third).all()
