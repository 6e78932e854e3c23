"""Newton steps on the optimality conditions: a solver's point becomes accurate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .curvature import Curvature
from .ghost import Ghost
from .place import DENSE, Place

__all__ = ["polished"]


SWEEPS, ENOUGH, ENOUGH_OF_MANY = 5, 1e-13, 1e-10
"""Polishing takes so many steps at most, and none from below this residual; the second where the
curvature is no matrix."""

INEXACT = 1e-4
"""The relative residual of a step of polishing by conjugate gradients: a few of them make up."""

FALL = 0.5
"""A step of polishing is followed by another where the residual fell to this share at least."""


def polished(place: Place, how: str) -> Place:
    """The best point of a few Newton steps on the optimality conditions from this one; its
    ``curvature`` is that of the last step."""
    best, near = place, None
    enough = ENOUGH if how != "cg" or place.n <= DENSE else ENOUGH_OF_MANY
    for _ in range(SWEEPS):
        if not enough < best.residual < np.inf:
            break
        moved, near = _swept(best, how, near)
        if not moved.residual < best.residual:
            break
        if moved.infeasibility > max(best.infeasibility, moved.residual):
            break
        fell = moved.residual <= FALL * best.residual
        best = moved
        if not fell:
            break
    best.curvature = near
    return best


def _swept(place: Place, how: str, near: Curvature | None) -> tuple[Place, Curvature]:
    ghost = Ghost(place, how, INEXACT if place.n > DENSE else 0.0, near, measured=how == "cg")
    low, high, _ = ghost.held
    lower, upper = (np.where(np.isfinite(b), b, 0.0) for b in (place.lower, place.upper))
    # Multipliers of what does not hold are dropped before, so that the step makes up for them.
    ineq = np.zeros(place.m)
    ineq[ghost.active_rows] = place.duals.ineq[ghost.active_rows]
    duals = replace(
        place.duals,
        ineq=ineq,
        lower=np.where(low, place.duals.lower, 0.0),
        upper=np.where(high, place.duals.upper, 0.0),
    )
    bare = place.moved(place.y, duals)
    step = ghost.solve(bare.stationarity, place.h, place.e, lower - place.y, place.y - upper)
    y = np.where(low, lower, np.where(high, upper, place.y + step.d))
    ineq = ineq.copy()
    ineq[ghost.active_rows] += step.ineq
    moved = replace(
        duals,
        ineq=np.maximum(ineq, 0.0),
        eq=duals.eq + step.eq,
        lower=np.maximum(duals.lower + step.lower, 0.0),
        upper=np.maximum(duals.upper + step.upper, 0.0),
    )
    return place.moved(np.clip(y, place.lower, place.upper), moved), ghost.curvature
