"""The sizes and residuals of the points of a batch of dense programs, measured together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._kernel.measures import FIGURES
from .._kernel.polyhedral import LIMITS
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._runtime.costs import MEASURE_WORK
from .._runtime.lazy import lazy
from .._types import Floats
from .acceptance import Violations, beside_cones
from .active_set import Scales
from .batched import plain, spread
from .residuals import Residuals, curved_violations

__all__ = ["Measures"]


class Measures:
    """The sizes and residuals of the points of a batch, and the single rows that are active there.

    It is what `scales`, `kkt_residuals`, `row_margins` and `linearize` find for each element.
    """

    def __init__(
        self, batch: ProgramBatch, points: Points, active: NDArray[np.bool_], figures: Floats
    ) -> None:
        self.batch, self.points, self.active, self._figures = batch, points, active, figures
        self._complete = batch.structure.polyhedral or points.paired

    @classmethod
    def of(cls, batch: ProgramBatch, points: Points) -> Measures:
        """Those of points x (B, n), s and z (B, m)."""
        n, m, size = batch.structure.n, batch.structure.m, batch.size
        dense = batch.as_dense()
        data = dense.P, dense.q, dense.A, dense.b, batch.squares
        arrays = plain(*data, points.x, points.s, points.z)
        kinds = batch.structure.row_kinds
        active, figures = np.empty((size, m), dtype=bool), np.empty((size, FIGURES))

        def measure(part: slice) -> None:
            at = part.start, part.stop, *arrays, kinds, points.exact, LIMITS, active, figures
            _kernel.kernel.measure(n, m, *at)

        spread(measure, size, MEASURE_WORK * n * (n + m))
        return cls(batch, points, active, figures)

    @property
    def figures(self) -> Floats:
        """(B, 14) see `FIGURES`."""
        if not self._complete:
            at = self.scales.slack(self.points.s), self.scales.dual(self.points.z)
            outside, gap = curved_violations(self.batch.structure, *at)
            figures = self._figures.copy()  # another thread may read it
            figures[:, 5] = np.maximum(figures[:, 5], outside)
            figures[:, 4] = np.maximum(np.maximum(figures[:, 4], gap), outside)
            if outside.any():
                row = beside_cones(self.batch, self.points, figures[:, 8:9])
                figures[:, 10] = np.maximum(figures[:, 10], row)
            with np.errstate(all="ignore"):
                grown = np.maximum(
                    figures[:, 0] / figures[:, 8], figures[:, 1] / figures[:, 9]
                ).clip(1.0)
                doubt = np.maximum(figures[:, 4] * grown / LIMITS.data, figures[:, 10] / LIMITS.row)
            figures[:, 12] = np.maximum(figures[:, 12], doubt)
            self._figures, self._complete = figures, True
        return self._figures

    @lazy
    def scales(self) -> Scales:
        """The sizes of slacks and multipliers."""
        return Scales(self.batch, *(self._figures[:, k : k + 1] for k in range(4)))

    @property
    def residuals(self) -> Residuals:
        """How far the points are from the optimality conditions."""
        return Residuals(self.figures[:, 4], self.figures[:, 5])

    @property
    def floor(self) -> Residuals:
        """Residuals that are no larger: of blocks of curved cones, which take longest, perhaps
        without whether they are outside of these and complementary."""
        return Residuals(self._figures[:, 4], self._figures[:, 5])

    @property
    def violations(self) -> Violations:
        """How far the points are from the optimality conditions beside the data."""
        return Violations(*(self._figures[:, k] for k in (8, 9, 10, 11)))

    @property
    def beyond_doubt(self) -> bool:
        """Whether all points are optimal, in programs that are near one."""
        if not self._complete:
            return False
        if len(self._figures) == 1:
            return self._figures.item(12) <= 1.0 and self._figures.item(13) != 0.0
        return bool((self._figures[:, 12] <= 1.0).all()) and self.all_near_one

    @property
    def all_near_one(self) -> bool:
        """Whether all are `near_one`."""
        if len(self._figures) == 1:
            return self._figures.item(13) != 0.0
        return bool(self._figures[:, 13].all())

    @property
    def near_one(self) -> NDArray[np.bool_]:
        """(B,) see `ProgramBatch.near_one`."""
        return self._figures[:, 13] != 0.0

    @property
    def margins(self) -> Floats:
        """(B,) the smallest strict-complementarity margins."""
        return self._figures[:, 6]
