"""The ghost problems at points: which rows are active there, and their factorizations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._runtime.lazy import lazy
from .._types import Floats
from .active_set import KINK, Degenerate, GhostBatch, at_kinks, linearize, unit_rows
from .batched import BatchedFactor
from .faces import Faces, decided, faces_at
from .factors import Factors, Nearby, portable
from .measured import MeasuredPoints
from .residuals import Residuals

__all__ = ["Choices", "GhostProblems"]


class Choices(NamedTuple):
    """What the derivative is where there is a choice: see `SolveSettings`.

    Where variables or rows are ``hidden`` from who asks, weakly active rows are in doubt: see
    `faces`.
    """

    degenerate: Degenerate = "auto"
    smoothing: float = 0.0
    hidden: bool = False


class GhostProblems(MeasuredPoints):
    """The ghost problems at the points of a batch, linearized and factorized at first use, once."""

    def __init__(
        self,
        batch: ProgramBatch,
        points: Points,
        choices: Choices = Choices(),  # noqa: B008 - immutable
        *,
        measured: Residuals | None = None,
        unmet: Floats | None = None,
        nearby: Nearby | None = None,
        ghost: GhostBatch | None = None,
    ) -> None:
        """``unmet`` (B,) is what the programs as the user stated them lack of these, beside their
        rows; `Factors` says what ``nearby`` is, and ``ghost`` are the ghost rows where they are
        given."""
        super().__init__(batch, points, measured)
        self.choices, self.unmet, self.nearby = choices, unmet, nearby or {}
        if ghost is not None:
            self.ghost = ghost
        self._faces: dict[tuple[int, bytes], Faces] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "nearby": portable(self.nearby)}

    def choosing(self, choices: Choices) -> Self:
        """The same with these choices; itself if it has them, or nothing is to be chosen."""
        if choices.hidden and np.minimum.reduce(self._margins, initial=np.inf) >= KINK:
            choices = choices._replace(hidden=False)
        if choices == self.choices:
            return self
        return type(self)(self.batch, self.points, choices, unmet=self.unmet)

    @lazy
    def ghost(self) -> GhostBatch:
        """The active sets and curvatures."""
        batch, points, how, kept = self.batch, self.points, self.choices.degenerate, None
        if self._measures is not None and batch.structure.polyhedral:
            ghost = unit_rows(batch, self._measures.active, points.z)
        else:
            ghost = linearize(batch, points.s, points.z, self.scales, how)
        if self.choices.hidden:
            ghost, kept = decided(self, ghost, self.faces)
        if how == "auto":
            return ghost
        return at_kinks(ghost, batch, points.s, points.z, self.scales, how, kept)

    @lazy
    def factors(self) -> Factors:
        """The factorizations of the ghost problems."""
        smoothing = self.choices.smoothing
        return Factors(self.batch, self.ghost, self.solved, smoothing, self.nearby)

    @property
    def _batched(self) -> BatchedFactor | None:
        return self.factors.batched

    @property
    def _factors(self) -> dict[int, Any]:
        return self.factors.each

    @property
    def _regular(self) -> bool:
        """Whether compiled code has factorized the systems of all, and s and z leave no gap."""
        if self._batched is None or not self.all_solved or self.factors.left:
            return False
        return self.batch.structure.polyhedral or self.points.paired

    def solve(
        self, v_x: Floats, v_z: Floats, estimate: bool = False, random: bool = False
    ) -> tuple[Floats, Floats]:
        """The ghost solution (w, zeta) for right-hand sides (..., B, n) and (..., B, m)."""
        return self.factors.solve(v_x, v_z, not estimate, random)[:2]

    def faces(self, i: int, doubtful: NDArray[np.bool_], ghost: GhostBatch | None = None) -> Faces:
        """The ``doubtful`` rows (m,) of element ``i`` as they are inside of the faces."""
        key = i, doubtful.tobytes()
        if key not in self._faces:
            self._faces[key] = faces_at(self, i, ghost or self.ghost, doubtful)
        return self._faces[key]

    def alone(self, i: int) -> Self:
        """The problem of element ``i`` alone."""
        if self.batch.size == 1:
            return self
        part = slice(i, i + 1)
        return type(self)(self.batch.take(part), self.points.take(part), self.choices)

    def holding(self, active: NDArray[np.bool_]) -> Self:
        """The problems here with other active rows (B, m), of nonnegative cones."""
        weight = self.ghost.weight
        if weight.size:
            weight = np.where(self.batch.structure.nonnegative, 0.0, weight)
        ghost = replace(self.ghost, active=active, weight=weight)
        choices = Choices(smoothing=self.choices.smoothing)
        return type(self)(self.batch, self.points, choices, ghost=ghost)
