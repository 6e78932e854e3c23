"""The zero cone {0}: equality constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffoadapt._cones._base import Cone, Floats, GhostRows, checked_size

__all__ = ["ZeroCone"]


@dataclass(frozen=True)
class ZeroCone(Cone):
    """{0} in R^m; its dual is all of R^m.

    Parameters
    ----------
    m
        The number of rows, an integer >= 0.
    """

    m: int

    kind: ClassVar[str] = "zero"
    polyhedral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", checked_size("ZeroCone", "m", self.m, 0))

    @property
    def dim(self) -> int:
        """The number of rows, m."""
        return self.m

    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """Return zeros, (N, m)."""
        return np.zeros_like(p)

    def violation(self, s: Floats) -> Floats:
        """Return |s|, (N,)."""
        norm: Floats = np.linalg.norm(s, axis=1)
        return norm

    def dual_violation(self, z: Floats) -> Floats:
        """Return zeros, (N,): any multiplier will do."""
        return np.zeros(len(z))

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Return all rows active, whatever s and z; there is no kink, so the margin is inf."""
        rows = GhostRows.empty(len(s), self.m)
        rows.active[:] = True
        return rows
