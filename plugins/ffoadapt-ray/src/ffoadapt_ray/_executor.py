"""The solves of a batch on a Ray cluster: one actor a worker, one shard a call.

An actor keeps the jobs that it has seen, and a job keeps its solver's sessions, so that the next
call finds symbolic factorizations and workspaces where it left them. An actor that dies is replaced
and its shard is solved again; the other shards are not.
"""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from ffoadapt import Executor, Job, PluginError, Points, ProgramBatch

__all__ = ["RayExecutor"]

_JOBS = 32
"""Jobs that an actor keeps; each holds at most a few sessions."""


class _Worker:
    """An actor: a process of its own, which solves one shard at a time in one thread."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[str, Job] = OrderedDict()

    def solve(self, name: str, job: list[Any], shard: bytes) -> bytes:
        """The points of a pickled shard. ``job`` holds a reference, fetched where it is new.

        Both travel as bytes: arrays out of Ray's object store are read-only, and some solvers take
        only writable ones.
        """
        if name not in self.jobs:
            self.jobs[name] = cloudpickle.loads(ray.get(job[0]))
            if len(self.jobs) > _JOBS:
                self.jobs.popitem(last=False)
        self.jobs.move_to_end(name)
        points = self.jobs[name].solve(pickle.loads(shard))
        return _pickled(points)


class RayExecutor(Executor):
    """Shards a batch over actors of a Ray cluster.

    Parameters
    ----------
    workers
        How many actors; None for as many as the cluster has CPUs free at the first call. Ray waits
        for the resources of a number that is given (a cluster that scales grows to it).
    actor_options
        For Ray, of each actor: ``num_cpus`` (1 by default), ``resources``, ``runtime_env``, ...
    retries
        How many times a shard is solved again because its worker died.

    Notes
    -----
    Connects to the cluster of ``RAY_ADDRESS``, or starts one on this machine, unless ``ray.init``
    was called before. The workers need ffoadapt and the solver's plugin installed. An instance
    serves any number of threads; a copy of it, also a pickled one, has actors of its own.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        actor_options: Mapping[str, Any] | None = None,
        retries: int = 3,
    ) -> None:
        self.workers, self.retries = workers, retries
        self.actor_options = {"num_cpus": 1, **(actor_options or {})}
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._where: Any = None
        self._actors: list[Any] = []
        self._options: dict[str, Any] = {}
        self._jobs: weakref.WeakKeyDictionary[Job, tuple[str, Any]] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def run(self, job: Job, batch: ProgramBatch) -> Points:
        if batch.size < 2:
            return job.solve(batch)
        count, name, reference = self._ready(job)
        ends = [batch.size * k // count for k in range(min(count, batch.size) + 1)]
        if count > batch.size:
            ends = list(range(batch.size + 1))
        shards = [
            pickle.dumps(batch.take(slice(*pair)), protocol=5) for pair in itertools.pairwise(ends)
        ]
        calls = [self._start(k, name, reference, shard) for k, shard in enumerate(shards)]
        return Points.join(
            [
                self._finish(k, call, name, reference, shard)
                for k, (call, shard) in enumerate(zip(calls, shards, strict=True))
            ]
        )

    def _ready(self, job: Job) -> tuple[int, str, Any]:
        """How many actors there are, and the job's name and reference for them."""
        if not ray.is_initialized():
            ray.init()
        where = os.getpid(), ray.get_runtime_context().get_job_id()
        with self._lock:
            if self._where != where:  # after a fork, or another ray.init
                self._actors, self._where = [], where
                self._jobs.clear()
            if not self._actors:
                count = self.workers or int(ray.available_resources().get("CPU", 0))
                self._options = dict(self.actor_options)
                if count == 0:  # others have all CPUs: one worker beside them, not a wait for ever
                    count, self._options["num_cpus"] = 1, 0
                self._actors = [self._actor() for _ in range(count)]
            if job not in self._jobs:
                self._jobs[job] = uuid.uuid4().hex, ray.put(cloudpickle.dumps(job))
            return len(self._actors), *self._jobs[job]

    def _actor(self) -> Any:
        return ray.remote(_Worker).options(**self._options).remote()

    def _start(self, k: int, name: str, reference: Any, shard: bytes) -> tuple[Any, Any]:
        """The actor that was asked, and its answer to come."""
        actor = self._actors[k]
        return actor, actor.solve.remote(name, [reference], shard)

    def _finish(
        self, k: int, call: tuple[Any, Any], name: str, reference: Any, shard: bytes
    ) -> Points:
        for _ in range(self.retries + 1):
            actor, answer = call
            try:
                points: Points = pickle.loads(ray.get(answer))
                return points
            except RayTaskError as error:
                if isinstance(error.cause, Exception):
                    raise error.cause from error
                raise
            except RayActorError as error:
                lost = error
            with self._lock:
                if self._actors[k] is actor:  # no other thread has replaced it
                    self._actors[k] = self._actor()
            call = self._start(k, name, reference, shard)
        raise PluginError(
            f"the Ray worker of shard {k} died {self.retries + 1} times; if its logs (ray logs) "
            "say out of memory, use fewer workers, or RayExecutor(actor_options={'memory': ...})"
        ) from lost


def _pickled(points: Points) -> bytes:
    """The points; without what a solver left in ``info`` that cannot travel."""
    try:
        return pickle.dumps(points, protocol=5)
    except Exception:
        points.info = [
            {key: value for key, value in info.items() if isinstance(value, str | int | float)}
            for info in points.info
        ]
        return pickle.dumps(points, protocol=5)
