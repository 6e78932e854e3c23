"""Points: how near they are to solutions, which rows are active there, and the ghost problems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._runtime.lazy import lazy
from .._types import Floats
from .acceptance import Violations, violations
from .active_set import (
    KINK,
    Degenerate,
    GhostBatch,
    Scales,
    at_kinks,
    linearize,
    scales,
    unit_rows,
)
from .batched import covers
from .certificate import probe
from .faces import Faces, decided, faces_at
from .factors import Factors, Nearby, portable
from .measures import Measures
from .residuals import Residuals, kkt_residuals, row_margins

__all__ = ["Choices", "GhostProblems", "MeasuredPoints"]


class Choices(NamedTuple):
    """What the derivative is where there is a choice: see `SolveSettings`.

    Where variables or rows are ``hidden`` from who asks, weakly active rows are in doubt: see
    `faces`.
    """

    degenerate: Degenerate = "auto"
    smoothing: float = 0.0
    hidden: bool = False


class MeasuredPoints:
    """The points of a batch, and how near they are to solutions.

    Elements whose status is not solved have points that are NaN; here these are 0, so that those
    that are solved are measured as they would be alone.
    """

    def __init__(
        self, batch: ProgramBatch, points: Points, measured: Residuals | None = None
    ) -> None:
        """``measured`` are the residuals, where they are known."""
        self.batch, self.solved = batch, points.solved
        self.all_solved = np.count_nonzero(self.solved) == self.solved.size
        if not self.all_solved:
            keep = self.solved[:, None]
            x, s, z = (np.where(keep, v, 0.0) for v in (points.x, points.s, points.z))
            points = replace(points, x=x, s=s, z=z)
        self.points = points
        if measured is not None:
            self.measured = measured

    @lazy
    def _measures(self) -> Measures | None:
        """What compiled code says of the points, where it knows such programs."""
        return Measures.of(self.batch, self.points) if covers(self.batch.structure) else None

    @lazy
    def scales(self) -> Scales:
        """The sizes of slacks and multipliers."""
        if self._measures is not None:
            return self._measures.scales
        return scales(self.batch, self.points.x, self.points.z)

    @lazy
    def measured(self) -> Residuals:
        """How far the points are from the optimality conditions."""
        if self._measures is not None:
            return self._measures.residuals
        return kkt_residuals(self.batch, self.points, self.scales)

    @property
    def floor(self) -> Residuals:
        """Residuals at most as large as those `measured`, and sooner known."""
        return self.measured if self._measures is None else self._measures.floor

    @lazy
    def violations(self) -> Violations:
        """How far the points are from the optimality conditions, beside the data."""
        if self._measures is not None:
            return self._measures.violations
        return violations(self.batch, self.points, self.scales)

    @property
    def beyond_doubt(self) -> bool:
        """Whether compiled code has seen that all points are optimal, and all programs near one."""
        return self._measures is not None and self._measures.beyond_doubt

    @property
    def all_near_one(self) -> bool:
        """Whether all programs are, see `ProgramBatch.near_one`."""
        if self._measures is not None:
            return self._measures.all_near_one
        return bool(self.batch.near_one.all())

    @lazy
    def _margins(self) -> Floats:
        """(B,) the smallest strict-complementarity margin of rows in nonnegative cones."""
        if self._measures is not None:
            return self._measures.margins
        return row_margins(self.batch, self.points, self.scales)

    @lazy
    def _probe(self) -> tuple[Floats, Floats]:
        """The `probe` (B, n), (B, m) in the units of the programs."""
        v_x, v_z = probe(self.batch.structure)
        return self.scales.gradient * v_x, self.scales.slack_unit * v_z


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
    def _regular(self) -> bool:
        """Whether compiled code has factorized the systems of all, of full rank, and s and z leave
        no gap."""
        batched = self.factors.batched
        if batched is None or not self.all_solved or self.factors.left or batched.lost.any():
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
