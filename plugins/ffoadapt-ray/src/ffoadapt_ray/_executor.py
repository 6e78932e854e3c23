"""The solves of a batch on a Ray cluster: one actor a worker, one shard a call.

An actor keeps the jobs that it has seen, and a job keeps its solver's sessions, so that the next
call finds symbolic factorizations and workspaces where it left them. An actor that dies is replaced
and its shard is solved again; the other shards are not. A shard whose actors keep dying is halved
until the elements that end them are alone: these have failed, their neighbours are solved.
"""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from ffoadapt import Executor, Job, PluginError, Points, ProgramBatch, Status

__all__ = ["RayExecutor"]

_JOBS = 32
"""Jobs that an actor keeps; each holds at most a few sessions."""

_HOPELESS = 8
"""Elements of a shard that end their workers, and none that does not: then it is no element's
fault."""


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
        How many times a shard is solved again because its worker died, before it is halved. An
        element that ends its worker alone, twice, has `Status.ERROR`.

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
        parts = [batch.take(slice(*pair)) for pair in itertools.pairwise(ends)]
        calls: list[_Call] = []
        try:
            for k, part in enumerate(parts):
                calls.append(self._start(k, name, reference, part))
            return Points.join(
                [self._finish(k, call, name, reference) for k, call in enumerate(calls)]
            )
        except KeyboardInterrupt:
            self._abandon(calls)
            raise

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

    def _start(self, k: int, name: str, reference: Any, part: ProgramBatch) -> _Call:
        actor = self._actors[k]
        shard = pickle.dumps(part, protocol=5)
        return _Call(actor, actor.solve.remote(name, [reference], shard), part)

    def _finish(self, k: int, call: _Call, name: str, reference: Any) -> Points:
        """The points of a shard, halved as often as its workers make it necessary."""
        solved: list[Points] = []
        lost: list[Points] = []  # of single elements
        last: RayActorError | None = None
        parts: list[Points] = []
        waiting: list[tuple[ProgramBatch, int]] = [(call.part, self.retries + 1)]
        first: _Call | None = call
        while waiting:
            part, tries = waiting.pop()
            points = None
            for _ in range(tries):
                now = first or self._start(k, name, reference, part)
                first = None
                try:
                    points = self._answer(now)
                    break
                except RayActorError as error:
                    last = error
                    self._replace(k, now.actor)
            if points is not None:
                solved.append(points)
            elif part.size > 1:
                middle = part.size // 2
                for half in (slice(middle, part.size), slice(0, middle)):
                    waiting.append((part.take(half), min(tries, 1 + (half.stop - half.start == 1))))
                continue
            else:
                points = _lost(part, tries, last)
                lost.append(points)
                if len(lost) >= _HOPELESS and not solved:
                    raise PluginError(
                        f"the Ray workers of shard {k} die whatever they are given, {len(lost)} "
                        "elements each by itself; if their logs (ray logs) say out of memory, use "
                        "fewer workers, or RayExecutor(actor_options={'memory': ...})"
                    ) from last
            parts.append(points)
        return Points.join(parts)

    def _answer(self, call: _Call) -> Points:
        try:
            points: Points = pickle.loads(ray.get(call.answer))
            return points
        except RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error
            raise

    def _replace(self, k: int, actor: Any) -> None:
        with self._lock:
            if self._actors[k] is actor:  # no other thread has replaced it
                self._actors[k] = self._actor()

    def _abandon(self, calls: Sequence[_Call]) -> None:
        """The user has interrupted: nobody waits for what is not solved yet."""
        for k, call in enumerate(calls):
            if not ray.wait([call.answer], timeout=0)[0]:
                ray.kill(call.actor)
                self._replace(k, call.actor)


class _Call(NamedTuple):
    """The actor that was asked, its answer to come, and the programs."""

    actor: Any
    answer: Any
    part: ProgramBatch


def _lost(part: ProgramBatch, times: int, error: BaseException | None) -> Points:
    """The points of one element that ends its workers."""
    n, m = part.structure.n, part.structure.m
    message = f"its Ray worker died {times} times when it had nothing else to solve"
    info = {"message": message, "exception": error}
    x, s, z = (np.full((1, size), np.nan) for size in (n, m, m))
    return Points(x, s, z, [Status.ERROR], [info], exact=True)


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
