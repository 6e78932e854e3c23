"""The threads of this process for the elements of a batch: one a core, shared by all layers."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["cores", "run", "split"]

T = TypeVar("T")

_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


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
    thread, the others meanwhile in threads of the pool."""
    workers = workers or cores()
    parts = split(size, workers)
    if len(parts) < 2 or threading.current_thread().name.startswith(_NAME):
        return [function(part) for part in parts]  # a thread of the pool must not wait for it
    pool = _pool(workers - 1)
    others = [pool.submit(function, part) for part in parts[1:]]
    try:
        first = function(parts[0])
    except BaseException:
        for other in others:
            other.cancel()
        raise
    return [first, *(other.result() for other in others)]


_NAME = "ffoadapt-worker"


def _pool(workers: int) -> ThreadPoolExecutor:
    key = (os.getpid(), workers)  # threads do not survive a fork
    with _lock:
        found = _pools.get(key)
        if found is None:
            found = _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix=_NAME)
        return found
