"""The threads of this process for the elements of a batch: one a core, shared by all layers."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["check", "cores", "run", "split"]

T = TypeVar("T")

_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_local = threading.local()
"""Of a thread of the pool, the call that it works for."""


class _Call:
    """One call of `run`."""

    given_up = False


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
    are, and those that call `check` end there.
    """
    workers = workers or cores()
    parts = split(size, workers)
    if len(parts) < 2 or threading.current_thread().name.startswith(_NAME):
        return [function(part) for part in parts]  # a thread of the pool must not wait for it
    pool, call = _pool(workers - 1), _Call()

    def work(part: slice) -> T:
        _local.call = call
        try:
            check()
            return function(part)
        finally:
            _local.call = None

    others: list[Future[T]] = []
    try:
        for part in parts[1:]:
            others.append(pool.submit(work, part))
        first = function(parts[0])
        return [first, *(other.result() for other in others)]
    except BaseException:
        call.given_up = True
        for other in others:
            other.cancel()
        raise


def check() -> None:
    """Raise KeyboardInterrupt in a thread whose call was given up; long work asks now and then."""
    call = getattr(_local, "call", None)
    if call is not None and call.given_up:
        raise KeyboardInterrupt


_NAME = "ffoadapt-worker"


def _pool(workers: int) -> ThreadPoolExecutor:
    key = (os.getpid(), workers)  # threads do not survive a fork
    with _lock:
        found = _pools.get(key)
        if found is None:
            found = _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix=_NAME)
        return found
