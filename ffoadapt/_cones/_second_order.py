"""The second-order (Lorentz) cone: norms and convex quadratic constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffoadapt._cones._base import CURVATURE_CAP, Cone, Floats, GhostRows, checked_size

__all__ = ["SecondOrderCone"]


@dataclass(frozen=True)
class SecondOrderCone(Cone):
    """{(t, v): t >= |v|} in R^m, its own dual; with m = 1 the ray t >= 0.

    Parameters
    ----------
    m
        The number of rows, t included, an integer >= 0.
    """

    m: int

    kind: ClassVar[str] = "second_order"

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", checked_size("SecondOrderCone", "m", self.m, 0))

    @property
    def dim(self) -> int:
        """The number of rows, m."""
        return self.m

    @property
    def inner(self) -> Floats:
        """The point (sqrt 2, 0, ...)."""
        return np.sqrt(2.0) * np.eye(1, self.m)[0]

    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """Clip both eigenvalues t - |v| and t + |v| at 0, (N, m)."""
        if p.shape[1] == 0:
            return p
        low, high, scale, w = _eigenvalues(p)
        norm = 0.5 * (high - low)
        low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        s = w * (0.5 * (high - low) / np.where(norm > 0, norm, 1.0))[:, None]
        s[:, 0] = 0.5 * (low + high)
        return s * scale[:, None]

    def violation(self, s: Floats) -> Floats:
        """Return the distance to the cone, (N,): (|v| - t)/sqrt 2, or |s| next to the apex."""
        low, high, scale, _ = _eigenvalues(s)
        # |s|^2 = (low^2 + high^2)/2: the projection clips both eigenvalues t -+ |v| at 0.
        distance: Floats = np.hypot(np.minimum(low, 0.0), np.minimum(high, 0.0))
        distance *= np.sqrt(0.5) * scale
        return distance

    def dual_violation(self, z: Floats) -> Floats:
        """Return the distance to the cone, (N,)."""
        return self.violation(z)

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Classify w = s - z = (t, v) by its eigenvalues t - |v| and t + |v|.

        Both >= 0: no row. Both <= 0: every row. Else, with u = v/|v| and k = |z|/|s|
        = (|v| - t)/(|v| + t), the normal (1, -u)/sqrt 2 is an equality row and the curvature of
        |v| is k (I - uu') on v. That is ``weight`` k and one row (0, u) with sigma -1, so a long
        cone stays sparse. The margin is the smaller |eigenvalue|.
        """
        blocks, m = s.shape
        rows = GhostRows.empty(blocks, m, 1, 1)
        if m == 0:
            return rows
        low, high, scale, w = _eigenvalues(s - z)
        np.minimum(np.abs(low), np.abs(high), out=rows.margin)
        rows.margin[:] *= scale
        rows.active[:] = ((low < 0) & (high <= 0))[:, None]
        curved = (low < 0) & (high > 0)
        rows.has[:, 0] = curved
        if not curved.any():
            return rows

        low, high = np.where(curved, low, -1.0), np.where(curved, high, 1.0)
        u = w[:, 1:] * (curved * 2 / (high - low))[:, None]
        rows.G[:, 0, 0] = np.sqrt(0.5)
        np.multiply(u, -np.sqrt(0.5), out=rows.G[:, 0, 1:])
        if m > 2:  # two rays in the plane have no curvature
            # The cap comes before the division, which could overflow.
            k = curved * np.minimum(-low, CURVATURE_CAP * high) / high
            rows.weight[:, 1:] = k[:, None]
            np.multiply(u, np.sqrt(k)[:, None], out=rows.R[:, 0, 1:])
            rows.sigma[:, 0] = -1.0 * curved
        return rows


def _eigenvalues(w: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return t - |v|, t + |v|, the largest |entry|, each (N,), and w, all but it divided by it.

    The scale keeps squares of huge and tiny entries from over- and underflowing.
    """
    scale = np.max(np.abs(w), axis=1, initial=0.0)
    w = w / np.where(scale > 0, scale, 1.0)[:, None]
    t = w[:, :1].sum(axis=1)  # m = 0 has no t
    norm = np.sqrt(np.einsum("ni,ni->n", w[:, 1:], w[:, 1:]))
    return t - norm, t + norm, scale, w
