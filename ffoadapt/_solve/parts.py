"""The solutions of a batch, put together from those of parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._oracle.gradient import Oracle
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._types import Floats, Ints
from .conditioning import Conditioned

__all__ = ["Parts"]


class Parts:
    """The solutions of a batch as they come in, none at first."""

    def __init__(self, batch: ProgramBatch) -> None:
        size, n, m = batch.size, batch.structure.n, batch.structure.m
        self.batch = batch
        x, s, z = (np.full((size, k), np.nan) for k in (n, m, m))
        self._points = Points(x, s, z, [Status.ERROR] * size, [{}] * size, True, True)
        self._impossible: set[int] = set()
        self._nearby: dict[int, Any] = {}
        self._shift_b, self._shift_q = np.zeros((size, m)), np.zeros((size, n))
        self._unmet = np.zeros(size)

    def fail(self, i: int, status: Status, info: Mapping[str, Any]) -> None:
        """Element ``i`` has no solution, and need not be given to a solver."""
        self._impossible.add(i)
        self._points.status[i], self._points.info[i] = status, dict(info)

    def left(self, also: NDArray[np.bool_] | None = None) -> Ints:
        """The possible elements that are not solved, and those of ``also`` (B,)."""
        states = enumerate(self._points.status)
        left = [i for i, s in states if s is not Status.OPTIMAL or (also is not None and also[i])]
        return np.array([i for i in left if i not in self._impossible], dtype=np.intp)

    def take(self, part: Ints) -> ProgramBatch:
        """The programs of a part."""
        return self.batch if part.size == self.batch.size else self.batch.take(part)

    def points(self, part: Ints) -> Points:
        """The points of a part."""
        at = self._points
        status, info = ([v[i] for i in part.tolist()] for v in (at.status, at.info))
        return Points(at.x[part], at.s[part], at.z[part], status, info, at.exact, at.paired)

    def put(self, part: Ints, points: Points, oracle: Oracle | None) -> None:
        """The points of a part, and where they come from a polish its oracle."""
        at = self._points
        at.x[part], at.s[part], at.z[part] = points.x, points.s, points.z
        for j, i in enumerate(part.tolist()):
            if i in self._impossible:
                continue
            at.status[i], at.info[i] = points.status[j], points.info[j]
            self._nearby.pop(i, None)
            if oracle is not None and j in oracle.nearby:
                self._nearby[i] = oracle.nearby[j]
        at.exact, at.paired = at.exact & points.exact, at.paired & points.paired

    def change(self, part: Ints, units: Conditioned, other: ProgramBatch, unmet: Floats) -> None:
        """Some programs of a part are others now, see `rescue`; these are in ``units``."""
        with np.errstate(invalid="ignore"):
            shift_b, shift_q = other.b - units.batch.b, other.q - units.batch.q
        shift_b = np.where(np.isfinite(shift_b), shift_b, 0.0)
        self._shift_b[part] = np.ldexp(shift_b, -units.rows)
        self._shift_q[part] = np.ldexp(shift_q, -units.columns - units.objective)
        self._unmet[part] = unmet

    def joined(self) -> tuple[ProgramBatch, Points, Oracle]:
        """The programs, their points, and an oracle there."""
        points, batch = self._points, self.batch
        failed = [i for i, status in enumerate(points.status) if not status.solved]
        points.x[failed] = points.s[failed] = points.z[failed] = np.nan
        if self._unmet.any():
            batch = batch.shifted(self._shift_b, self._shift_q)
        unmet = self._unmet if self._unmet.any() else None
        # The derivatives of what was solved at once are what they are without the others.
        return batch, points, Oracle(batch, points, unmet=unmet, nearby=self._nearby)
