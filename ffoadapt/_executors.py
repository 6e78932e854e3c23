"""The executors that are built in: one thread, or one per core."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

from ._interfaces import Executor, Job
from ._program import ProgramBatch
from ._solution import Points

__all__ = ["SerialExecutor", "ThreadsExecutor", "split"]


class SerialExecutor(Executor):
    """All solves in the calling thread."""

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        return job.solve(batch)


class ThreadsExecutor(Executor):
    """One thread per core; useful where the solver releases the GIL."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        if self.workers < 2 or batch.size < 2:
            return job.solve(batch)
        parts = split(batch.size, self.workers)
        return Points.join(list(self._threads().map(lambda p: job.solve(batch.take(p)), parts)))

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():  # threads do not survive a fork
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="ffoadapt")
            self._pid = os.getpid()
        return self._pool


def split(size: int, parts: int) -> list[slice]:
    """Contiguous slices that cover range(size) evenly."""
    parts = min(parts, size)
    ends = [size * k // parts for k in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
