"""How far points are from the optimality conditions, and how clear of kinks: dimensionless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._kernel import polyhedral
from .._program.batch import ProgramBatch, largest
from .._program.points import Points
from .._program.structure import Structure
from .._types import Floats
from .active_set import Scales
from .certificate import infeasibility, stationarity

__all__ = ["Residuals", "curved_violations", "kkt_residuals", "row_margins"]


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Of B points, relative: the largest KKT violation, and the largest of those of feasibility
    alone (primal and dual); each (B,)."""

    kkt: Floats
    infeasibility: Floats


def kkt_residuals(batch: ProgramBatch, points: Points, scale: Scales) -> Residuals:
    """Stationarity relative to the objective's gradient, slacks to row norm times size of x.

    Complementarity of a row is |min(s_i, z_i)|, which unlike s_i z_i does not hide a point half
    way to a kink; in a block of a curved cone, whose rows do not pair up, it is s'z. Such blocks
    violate nothing where s and z are paired: projections of one point onto cone and polar cone.
    """
    x, s, z, structure = points.x, points.s, points.z, batch.structure
    s_hat, z_hat = scale.slack(s), scale.dual(z)
    steep = largest(stationarity(batch, x, z)) / scale.gradient
    gap = None if points.exact else scale.slack(infeasibility(batch, x, s))
    rows = _bounds(batch), structure.equality
    worst, outside, _ = polyhedral.residuals(np, steep, s_hat, z_hat, gap, *rows)
    if not structure.polyhedral and not points.paired:
        far, between = curved_violations(structure, s_hat, z_hat)
        outside, worst = np.maximum(outside, far), np.maximum(worst, between)
    return Residuals(np.maximum(worst, outside), outside)


def curved_violations(structure: Structure, s_hat: Floats, z_hat: Floats) -> tuple[Floats, Floats]:
    """(B,) each: how far blocks of curved cones are outside of these, and the largest |s'z|."""
    outside = worst = np.zeros(len(s_hat))
    for cone, start, count in structure.groups:
        if cone.polyhedral:
            continue
        at = slice(start, start + count * cone.dim)
        s_at, z_at = s_hat[:, at], z_hat[:, at]
        for hat, violation in ((s_at, cone.violation), (z_at, cone.dual_violation)):
            far = violation(hat.reshape(-1, cone.dim)).reshape(hat.shape[0], count)
            outside = np.maximum(outside, far.max(axis=-1, initial=0.0))
        gaps = (s_at * z_at).reshape(s_at.shape[0], count, cone.dim).sum(axis=-1)
        worst = np.maximum(worst, np.abs(gaps).max(axis=-1, initial=0.0))
    return outside, worst


def row_margins(batch: ProgramBatch, points: Points, scale: Scales) -> Floats:
    """(B,) the smallest strict-complementarity margin max(s_i, z_i) of rows in nonnegative cones;
    inf where there are none."""
    larger = np.maximum(scale.slack(points.s), scale.dual(points.z))
    return np.minimum.reduce(np.where(_bounds(batch), larger, np.inf), axis=-1, initial=np.inf)


def _bounds(batch: ProgramBatch) -> NDArray[np.bool_]:
    """(m,) or (B, m) the rows in nonnegative cones that constrain anything."""
    rows, free = batch.structure.nonnegative, batch.unbounding
    return rows if free is None else rows & ~free
