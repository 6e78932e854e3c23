"""The exponential cone: exp, log, entropy, log-sum-exp, geometric programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ffoadapt._cones._base import Floats
from ffoadapt._cones._curved import NEAR, Arc, CurvedCone, Regions, closed_bracket

__all__ = ["ExponentialCone"]

_FAR = 700.0
"""exp(-_FAR) and its reciprocal are still normal numbers."""


@dataclass(frozen=True)
class ExponentialCone(CurvedCone):
    """The closure of {(x, y, t): y exp(x/y) <= t, y > 0}.

    Its dual is the closure of {(u, v, w): u < 0, -u exp(v/u) <= e w}.

    Where p = s - z projects to (Friberg, "Projection onto the exponential cone: a univariate
    root-finding problem", 2021), and the rows that are active there:

    ========================  ===========================  ================================
    p                         s                            active
    ========================  ===========================  ================================
    in the cone               p                            none
    -p in the dual            0                            x, y, t
    x <= 0, y <= 0 < t        (x, 0, t), a flat face       y
    x <= 0, y <= 0, t <= 0    (x, 0, 0), its edge          y, t
    else                      alpha (rho, 1, exp rho)      one normal, curvature across
    ========================  ===========================  ================================

    The ray (0, 0, 1) has normals (u, v, 0), u <= 0 <= v, and is the limit rho -> inf of the curve
    as rho = 1 - v/u comes from z alone: the curvature runs into CURVATURE_CAP, which fixes x and y
    both. The edge (-1, 0, 0) is the limit rho -> -inf, where the curvature vanishes.
    """

    kind: ClassVar[str] = "exponential"

    @property
    def inner(self) -> Floats:
        """The point (-1.5, 1.5, 3)."""
        return np.array([-1.5, 1.5, 3.0])

    def _inside(self, p: Floats) -> NDArray[np.bool_]:
        x, y, t = p
        margin = t - y * _power(x / y)
        return ((y > 0) & (margin >= 0)) | ((y == 0) & (x <= 0) & (t >= 0))

    def _polar(self, p: Floats) -> NDArray[np.bool_]:
        x, y, t = p
        margin = -t - x * _power(y / x - 1)
        return ((x > 0) & (margin >= 0)) | ((x == 0) & (y <= 0) & (t <= 0))

    def _room(self, p: Floats) -> Floats:
        return np.hypot(np.maximum(p[0], 0.0), np.maximum(p[1], 0.0))

    def _regions(self, p: Floats) -> Regions:
        x, y, t = p
        inside = self._inside(p)
        apex = self._polar(p) & ~inside
        flat = (x <= 0) & (y <= 0) & ~inside & ~apex
        active = np.array((apex, apex | flat, apex | (flat & (t <= 0))))

        # Room over the length of its gradient bounds the distance to the boundary from above.
        margin = self._room(p)
        power = _power(x / y)
        near = (t - y * power) / np.sqrt(
            1 + power**2 * (1 + (1 - np.clip(x / y, -_FAR, _FAR)) ** 2)
        )
        margin = np.where(inside, np.where(y > 0, np.minimum(near, y), 0.0), margin)
        power = _power(y / x - 1)
        near = (-t - x * power) / np.sqrt(
            1 + power**2 * (1 + (1 - np.clip(y / x, -_FAR, _FAR)) ** 2)
        )
        margin = np.where(apex, np.where(x > 0, np.minimum(near, x), 0.0), margin)
        margin = np.where(flat, np.abs(p).min(axis=0), margin)
        return Regions(inside, active, margin)

    def _bracket(self, p: Floats) -> tuple[Floats, Floats]:
        # alpha > 0 asks (rho - 1) x + y > 0 and beta > 0 asks x - rho y > 0.
        x, y, _ = p
        lo = np.full(x.shape, -_FAR)
        hi = np.full(x.shape, _FAR)
        np.maximum(lo, 1 - y / x, out=lo, where=x > 0)
        np.minimum(hi, 1 - y / x, out=hi, where=x < 0)
        np.maximum(lo, x / y, out=lo, where=y < 0)
        np.minimum(hi, x / y, out=hi, where=y > 0)
        return closed_bracket(lo, hi, _FAR, 1e100)  # the arc squares rho

    def _guess(self, s: Floats, z: Floats) -> Floats:
        by_slack = np.abs(s).max(axis=1) >= np.abs(z).max(axis=1)
        guess = np.where(by_slack, s[:, 0] / s[:, 1], 1 - z[:, 1] / z[:, 0])
        return np.clip(guess, -NEAR, NEAR)  # beyond, it is rather noise over noise

    def _arc(self, rho: Floats) -> Arc:
        a, b = np.exp(np.minimum(rho, 0.0)), np.exp(-np.maximum(rho, 0.0))
        return Arc((rho * b, b, a), (-a, a * (rho - 1), b), b, a)

    def _rate_ratio(self, rho: Floats) -> Floats:
        return np.exp(rho)


def _power(exponent: Floats) -> Floats:
    """exp, kept among the normal numbers."""
    return np.exp(np.clip(exponent, -_FAR, _FAR))
