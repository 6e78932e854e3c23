"""The executors that are built in: one thread, or one per core."""

from __future__ import annotations

from .._plugins.executor import Executor, Job
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._runtime import interrupts, threads

__all__ = ["SerialExecutor", "ThreadsExecutor"]


class SerialExecutor(Executor):
    """All solves in the calling thread."""

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        return job.solve(batch)


class ThreadsExecutor(Executor):
    """One thread per core; useful where the solver releases the GIL."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or threads.cores()

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        if self.workers < 2 or batch.size < 2:
            return job.solve(batch)
        try:
            parts = threads.run(lambda p: job.solve(batch.take(p)), batch.size, self.workers)
        finally:
            interrupts.restore()
        return Points.join(parts)
