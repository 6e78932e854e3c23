"""Points and what is measured of them, each at first use: by compiled code where it can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._runtime.lazy import lazy
from .._types import Floats
from .acceptance import Violations, violations
from .active_set import Scales, scales
from .batched import Measures, covers
from .certificate import probe
from .residuals import Residuals, kkt_residuals, row_margins

__all__ = ["MeasuredPoints"]


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
