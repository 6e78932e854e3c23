"""From what is known of a point and of its ghost problem to a verdict, without matrices."""

from __future__ import annotations

from .._oracle.active_set import KINK
from .._oracle.report import ERROR, INACCURATE, Verdict

__all__ = ["gravest"]


def gravest(
    kkt: float,
    margin: float,
    residual: float,
    *,
    error: float = 0.0,
    dependent: bool = False,
    flat: bool = False,
    negative: bool = False,
) -> Verdict:
    """The gravest verdict that applies.

    ``kkt`` and ``margin`` are those of the point, ``residual`` is that of the ghost problem,
    ``error`` the estimate of that of the derivatives; ``dependent`` tells of rows, ``flat`` and
    ``negative`` of directions without curvature and with a negative one.
    """
    if negative or not error <= ERROR or not kkt <= INACCURATE:
        return "inaccurate_solution"
    if flat or not residual <= ERROR:
        return "not_unique"
    if dependent:
        return "dependent_constraints"
    return "weakly_active" if margin < max(KINK, 10.0 * kkt) else "differentiable"
