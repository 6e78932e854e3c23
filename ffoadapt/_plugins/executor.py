"""What an executor must provide: an `Executor`, which runs the `Job` of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from .._program.batch import ProgramBatch
from .._program.points import Points

__all__ = ["Executor", "Job"]


class Job(Protocol):
    """The solves of a layer: picklable, callable from any thread or process."""

    def solve(self, batch: ProgramBatch) -> Points:
        """Solve all elements one after the other in the calling thread."""

    @property
    def parallel(self) -> bool:
        """Whether threads make it faster (the solver releases the GIL)."""


class Executor(ABC):
    """Runs the solves of a batch: splits it, calls ``job.solve`` on the parts, joins the points.

    Law: the result equals ``job.solve(batch)``, element by element.
    """

    @abstractmethod
    def run(self, job: Job, batch: ProgramBatch) -> Points:
        """Solve all elements; ``batch.take(slice)`` and `Points.join` do the splitting."""
