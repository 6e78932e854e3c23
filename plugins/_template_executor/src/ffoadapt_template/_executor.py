"""The adapter: splits a batch, has the parts solved elsewhere, joins the points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ffoadapt import Executor, Job, Points, ProgramBatch

__all__ = ["TemplateExecutor"]

SHARD = 8
"""Elements that travel together."""


class TemplateExecutor(Executor):
    """A pool of threads stands where your cluster will be.

    ``job.solve`` may run in any thread or process; the job can be pickled.
    """

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        shards = [slice(k, k + SHARD) for k in range(0, max(batch.size, 1), SHARD)]
        with ThreadPoolExecutor() as pool:
            return Points.join(list(pool.map(lambda at: job.solve(batch.take(at)), shards)))
