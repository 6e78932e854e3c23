"""The 3-d power cone: powers, p-norms, geometric means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ffoadapt._cones._base import Floats
from ffoadapt._cones._curved import Arc, CurvedCone, Regions, closed_bracket
from ffoadapt._exceptions import ProblemError

__all__ = ["PowerCone"]


@dataclass(frozen=True)
class PowerCone(CurvedCone):
    """{(x, y, t): x^a y^(1-a) >= |t|, x, y >= 0}, a = alpha.

    Its dual is {(u, v, w): (u/a)^a (v/(1-a))^(1-a) >= |w|, u, v >= 0}.

    Parameters
    ----------
    alpha
        The exponent of x, a number with 0 < alpha < 1.

    Notes
    -----
    p = s - z is inside, or -p is in the dual and s = 0, or s lies on the curve

        (x, y, t) = alpha (exp(-b rho), exp(a rho), +-1),   b = 1 - a,   rho = log(y/x).

    There is no flat face. On the ray s = (0, y, 0), the limit rho -> inf with z = (u, 0, 0), the
    boundary is t = x^a y^b, and the projection moves in t where that is the steeper power: with
    a < 1/2 only x is fixed (curvature -> 0), with a > 1/2 x and t both are (curvature ->
    CURVATURE_CAP), and with a = 1/2, a rotated second-order cone, the curvature is 2 |z|/|s|.
    The ray (x, 0, 0) mirrors it with b in place of a.
    """

    alpha: float

    kind: ClassVar[str] = "power"
    mirrored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        alpha: Any = self.alpha
        if not isinstance(alpha, float | np.floating) or not 0 < alpha < 1:
            raise ProblemError(
                f"PowerCone(alpha={alpha!r}): alpha must be a number with 0 < alpha < 1, "
                f"got {type(alpha).__name__} {alpha!r}."
            )
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def inner(self) -> Floats:
        """The point (1.5, 1.5, 0)."""
        return np.array([1.5, 1.5, 0.0])

    def _inside(self, p: Floats) -> NDArray[np.bool_]:
        x, y, t = p
        return (x >= 0) & (y >= 0) & (self._grade(p) >= np.abs(t)) & ~((x <= 0) & (y <= 0))

    def _polar(self, p: Floats) -> NDArray[np.bool_]:
        x, y, t = p
        return (x <= 0) & (y <= 0) & (self._grade(p) >= np.abs(t))

    def _room(self, p: Floats) -> Floats:
        return np.full(p.shape[1], np.inf)

    def _grade(self, p: Floats) -> Floats:
        """The largest |t| of the cone at the point's (x, y), or of the dual where these are < 0."""
        a, b = self.alpha, 1 - self.alpha
        x, y, _ = np.abs(p)
        negative = (p[0] <= 0) & (p[1] <= 0)
        return np.where(negative, (x / a) ** a * (y / b) ** b, x**a * y**b)

    def _regions(self, p: Floats) -> Regions:
        a, b = self.alpha, 1 - self.alpha
        x, y, t = np.abs(p)
        grade, inside, apex = self._grade(p), self._inside(p), self._polar(p)
        # Room over the length of its gradient bounds the distance to the boundary from above.
        near = (grade - t) / np.sqrt(1 + (a * grade / x) ** 2 + (b * grade / y) ** 2)
        margin = np.where(inside | apex, np.where(grade > 0, near, 0.0), np.inf)
        return Regions(inside, np.array((apex, apex, apex)), margin)

    def _bracket(self, p: Floats) -> tuple[Floats, Floats]:
        # With X = exp(-b rho), Y = exp(a rho): alpha > 0 asks xX + at > 0 and yY + bt > 0,
        # beta > 0 asks tX > x and tY > y.
        a, b = self.alpha, 1 - self.alpha
        x, y, t = p
        log_x = np.log(np.where(x < 0, a * t / -x, x / t)) / b
        log_y = np.log(np.where(y < 0, b * t / -y, y / t)) / a
        far = 1e3 / min(a, b)
        lo = np.maximum(np.where(x < 0, -log_x, -far), np.where(y < 0, -far, log_y))
        hi = np.minimum(np.where(x < 0, far, -log_x), np.where(y < 0, log_y, far))
        return closed_bracket(lo, hi, far, 1e300)

    def _guess(self, s: Floats, z: Floats) -> Floats:
        a, b = self.alpha, 1 - self.alpha
        by_slack = np.abs(s).max(axis=1) >= np.abs(z).max(axis=1)
        ratio = np.where(by_slack, s[:, 1] / s[:, 0], (b * z[:, 0]) / (a * z[:, 1]))
        return np.log(ratio)

    def _arc(self, rho: Floats) -> Arc:
        a, b = self.alpha, 1 - self.alpha
        pos, neg = np.maximum(rho, 0.0), np.minimum(rho, 0.0)
        x, y = np.exp(-pos), np.exp(neg)
        d, c = np.exp(b * neg - a * pos), np.exp(a * neg - b * pos)
        return Arc((x, y, d), (a * y, b * x, -c), d, a * b * c)

    def _rate_ratio(self, rho: Floats) -> Floats:
        a, b = self.alpha, 1 - self.alpha
        return a * b * np.exp((a - b) * rho)
