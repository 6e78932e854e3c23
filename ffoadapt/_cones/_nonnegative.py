"""The nonnegative orthant: inequality constraints, one per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffoadapt._cones._base import Cone, Floats, GhostRows, checked_size

__all__ = ["NonnegativeCone"]


@dataclass(frozen=True)
class NonnegativeCone(Cone):
    """{s >= 0} in R^m, its own dual.

    Parameters
    ----------
    m
        The number of rows, an integer >= 0.
    """

    m: int

    kind: ClassVar[str] = "nonnegative"
    polyhedral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", checked_size("NonnegativeCone", "m", self.m, 0))

    @property
    def dim(self) -> int:
        """The number of rows, m."""
        return self.m

    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """Return the positive part, (N, m)."""
        positive: Floats = np.maximum(p, 0.0)
        return positive

    def violation(self, s: Floats) -> Floats:
        """Return the norm of the negative part, (N,)."""
        norm: Floats = np.linalg.norm(np.minimum(s, 0.0), axis=1)
        return norm

    def dual_violation(self, z: Floats) -> Floats:
        """Return the norm of the negative part, (N,)."""
        return self.violation(z)

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Return row i active where z_i > s_i; the margin is the least max(s_i, z_i)."""
        rows = GhostRows.empty(len(s), self.m)
        np.greater(z, s, out=rows.active)
        np.min(np.maximum(s, z), axis=1, initial=np.inf, out=rows.margin)
        np.maximum(rows.margin, 0.0, out=rows.margin)
        return rows
