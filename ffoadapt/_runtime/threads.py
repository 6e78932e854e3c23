"""The threads of this process for the elements of a batch: one a core, shared by all layers.

No executor of the standard library: where the user interrupts, its locks, which are Python's, can
be left taken, and a later call waits for ever. Everything that the main thread does here with
others is a single operation in C.
"""

from __future__ import annotations

import _thread
import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["check", "cores", "run", "split"]

T = TypeVar("T")

_lock = threading.Lock()
_local = threading.local()
"""Of a thread of a pool, the call that it works for."""


class _Call:
    """One call of `run`: the function, and what came of its parts, each with the part's number."""

    def __init__(self, function: Callable[[slice], Any]) -> None:
        self.function = function
        self.given_up = False
        self.done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()


_Task = tuple[_Call, int, slice]
_Tasks = SimpleQueue[_Task | None]
_pools: dict[tuple[int, int], _Tasks] = {}
"""Where the threads of a pool get their tasks, by process and number of threads."""


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split(size: int, parts: int) -> list[slice]:
    """Contiguous slices that cover range(size) evenly."""
    parts = max(1, min(parts, size))
    ends = [size * k // parts for k in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def run(function: Callable[[slice], T], size: int, workers: int | None = None) -> list[T]:
    """``function`` of slices that cover range(size), the results in order: the first in this
    thread, the others meanwhile in threads of the pool.

    Where one raises, or the user interrupts, the others are not waited for: those not begun never
    are, and those that call `check` end there. After an interrupt, which may come in the middle of
    long work, the next call has threads of its own.
    """
    workers = workers or cores()
    parts = split(size, workers)
    if len(parts) < 2 or getattr(_local, "call", None) is not None:
        return [function(part) for part in parts]  # a thread of the pool must not wait for it
    call = _Call(function)
    try:
        with _lock:
            tasks = _pool(workers - 1)
            for k, part in enumerate(parts[1:], 1):
                tasks.put((call, k, part))
        results: list[Any] = [function(parts[0])] * len(parts)
        for _ in parts[1:]:
            k, results[k], error = call.done.get()
            if error is not None:
                raise error
        return results
    except BaseException as error:
        call.given_up = True
        if isinstance(error, KeyboardInterrupt):
            _retire(workers - 1)
        raise


def check() -> None:
    """Raise KeyboardInterrupt in a thread whose call was given up; long work asks now and then."""
    call = getattr(_local, "call", None)
    if call is not None and call.given_up:
        raise KeyboardInterrupt


def _pool(workers: int) -> _Tasks:
    key = (os.getpid(), workers)  # threads do not survive a fork
    pool = _pools.get(key)
    if pool is None:
        pool = SimpleQueue()
        for _ in range(workers):
            _thread.start_new_thread(_serve, (pool,))
        _pools[key] = pool
    return pool


def _retire(workers: int) -> None:
    """The threads of a pool end when they have done what they were asked for."""
    with _lock:
        tasks = _pools.pop((os.getpid(), workers), None)
        if tasks is not None:
            for _ in range(workers):
                tasks.put(None)


def _serve(tasks: _Tasks) -> None:
    while (task := tasks.get()) is not None:
        call, k, part = task
        if not call.given_up:
            _local.call = call
            try:
                call.done.put((k, call.function(part), None))
            except BaseException as error:
                call.done.put((k, None, error))
            _local.call = None
        del task, call, part  # nothing is kept alive until the next one comes
