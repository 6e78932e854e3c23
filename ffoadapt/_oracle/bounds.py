"""What a few numbers of a point bound, so that further solves are not needed."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NOTHING", "ROUNDING", "SMALL", "SURE", "SURENESS", "TINY", "Bounds"]

ROUNDING = 2e-15
"""What every entry of the data and each of its products may be off by, relatively."""

SMALL = 1e-4
"""Where x or z is below this share of the sizes in `scales` its error is relative to that share;
for x also to 2e-3 of the largest distance of a constraint from 0, if that is less."""

NOTHING = 1e-9
"""Constraints nearer to 0 than this share of the size in `scales` go through 0."""

SURE = 1e-7
"""Bounds of relative errors below this, far below what estimates may be, leave no doubt ..."""

SHORT = 1e-3
"""... and so do bounds of steps below this share of the margin."""

TINY = 1e-300
"""Not to divide by 0."""

SURENESS = ROUNDING, SURE, SHORT, SMALL
"""Those of `Bounds.settle`, as compiled code asks for them."""


class Bounds(NamedTuple):
    """Bounds of what further solves could find, of the worst in a batch.

    With ``order`` right-hand sides, no response should be more than sqrt(order) times the ``gain``,
    which is that to random signs; and no product with the data more than ``order`` times its
    largest term. Where there is curvature, ``moves`` is how far the response moves s, and what the
    curvature amplifies may be hidden from the probe: ``steep`` is the larger of the gain and 1 over
    the margin. Well-conditioned programs with accurate solutions need no more than this.
    """

    order: int
    gain: float
    moves: float
    steep: float

    def settle(self, rhs: float, margin: float, curved_margin: float, size: float) -> bool:
        """Whether all distances, shifts and errors are beyond doubt.

        ``rhs`` bounds the right-hand side of the Newton step and how far s and z are from being
        complementary; ``size`` is the smaller of the sizes of x and z.
        """
        step, least = self.order**0.5 * (1.0 + self.steep) * rhs, min(margin, curved_margin)
        moved = self.order**0.5 * step  # of s - z
        if not (least > 0.0 and moved <= SHORT * least and step <= SURE * size):  # or NaN
            return False
        sure = ROUNDING * self.steep <= SURE * size
        return sure and self.error(moved / curved_margin) <= SURE

    def error(self, uncertain: float = 0.0) -> float:
        """What `_rounding_error` finds, relative to the response."""
        rounding = self.order * ROUNDING * (1.0 + self.gain)
        worse = self.steep / max(self.gain, TINY) if self.steep > self.gain else 1.0
        return self.order**0.5 * (rounding + uncertain * self.moves) * worse
