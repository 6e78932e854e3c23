"""Whether the derivative at a point can be believed, from a few solves with its factorization.

A small residual does not say how near the solution is, nor does a small residual of the ghost solve
say that its answer is right: both hide what the ghost problem's condition number makes of them.
So ask the ghost problem itself.

1. The response to random cotangents, the probe, says how much larger answers are than questions,
   and so what rounding makes of x and z. Where bounds by that, the residual of the point and the
   sizes of the data leave no doubt of the rest, as in most regular programs, nothing more is asked.
2. A Newton step from the point estimates where the solution is. It must stay clear of the kinks
   (no row may move by much of its margin) and must be short, for gradients of P and A are products
   with x and z.
3. The ghost problem is solved for what rounding in every entry of P and A, and the step's
   uncertainty in every curvature, would change in the response. What it comes to, relative to the
   response, is an estimate of the error of any gradient. Again, unless a bound settles it.

All of this is dimensionless, as in `active_set`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch
from .._program.points import Points
from .._program.structure import Structure
from .._types import Floats
from .active_set import KINK, Scales, complementary
from .bounds import NOTHING, ROUNDING, SMALL, SURE, TINY
from .bounds import Bounds as _Bounds

__all__ = [
    "Certificate",
    "defects",
    "examine",
    "infeasibility",
    "moving",
    "probe",
    "stationarity",
    "worst",
]


Solve = Callable[[Floats, Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Estimates for the points of a batch, each (B,); all are relative, and 0 is perfect.

    Attributes
    ----------
    distance
        The Newton step, relative to x and z.
    shift
        The largest share of its margin by which a row moves in that step: at 1 a kink is reached.
    x_error, z_error
        What rounding makes of the response in x and in the multipliers, and of x and z themselves.
    """

    distance: Floats
    shift: Floats
    x_error: Floats
    z_error: Floats


def defects(batch: ProgramBatch, x: Floats, s: Floats, z: Floats) -> tuple[Floats, Floats]:
    """What is left of stationarity, Px + q + A'z, and of feasibility, Ax + s - b."""
    return stationarity(batch, x, z), infeasibility(batch, x, s)


def stationarity(batch: ProgramBatch, x: Floats, z: Floats) -> Floats:
    """Px + q + A'z."""
    return batch.multiply("P", x) + batch.q + batch.multiply("A", z, transpose=True)


def infeasibility(batch: ProgramBatch, x: Floats, s: Floats) -> Floats:
    """Ax + s - b, zero in the rows that constrain nothing."""
    free = batch.unbounding
    if free is None:
        return batch.multiply("A", x) + s - batch.b
    r_p = batch.multiply("A", x) + np.where(free, 0.0, s) - np.where(free, 0.0, batch.b)
    return np.where(free, 0.0, r_p)


def probe(structure: Structure) -> tuple[Floats, Floats]:
    """Random cotangents (n,) and (m,), of size 1 in dimensionless units."""
    return _signs(structure.n, 0), _signs(structure.m, 1)


def examine(
    batch: ProgramBatch,
    points: Points,
    scale: Scales,
    v_z: Floats,
    response: tuple[Floats, Floats],
    solve: Solve,
    kkt: Floats,
    margin: Floats,
    curved_margin: Floats,
    smoothing: float = 0.0,
) -> Certificate | None:
    """Examine the points of a batch; None where bounds leave no doubt of any.

    ``response`` (B, n), (B, m) is the ghost solution for the `probe` in the units of ``scale``, its
    part in the rows being ``v_z`` (B, m), and ``solve`` gives others. ``kkt`` (B,) is the residual
    of the points, ``margin`` (B,) the least of their rows and ``curved_margin`` (B,) that of their
    curved cones. ``smoothing`` is the proximal term of the ghost problem, whose bias counts as an
    error.
    """
    n, m = batch.structure.n, batch.structure.m
    gain_x = _largest(response[0]) / scale.primal[:, 0]
    gain_z = _largest(scale.dual(response[1]))
    gain = np.maximum(gain_x, gain_z)
    x, z = _sizes(batch, scale)
    polyhedral, moves = batch.structure.polyhedral, 0.0
    if not polyhedral:
        moves = worst(_largest(scale.slack(batch.multiply("A", response[0]) - v_z)))
    known = _least(margin), _least(curved_margin), min(_least(x), _least(z))
    most = steep = worst(gain)
    if not polyhedral:
        steep = max(steep, 1.0 / max(known[1], TINY))
    bounds = _Bounds(n + m, most, moves, steep)
    # Where s and z are complementary, the right-hand side of a Newton step is the residual.
    rhs = worst(kkt) * (1.0 if points.paired else n + m)
    if (polyhedral or points.paired) and not smoothing and bounds.settle(rhs, *known):
        return None
    pair = complementary(batch, points.s, points.z, scale)
    left = defects(batch, points.x, *pair)
    parts = left[0] / scale.gradient, scale.slack(left[1]), scale.dual(pair[1] - points.z)
    rhs = worst(np.maximum.reduce([_largest(part) for part in parts]))
    if not smoothing and bounds.settle(rhs, *known):
        return None
    # The probe has size 1: times the rounding of the terms of the optimality conditions, its
    # response is what rounding makes of x and z, where the Newton step may see nothing.
    terms = np.maximum(np.maximum(scale.x, scale.z), batch.sizes.steepness / scale.gradient)
    rounding = ROUNDING * terms[:, 0]
    step = _newton_step(batch, points, scale, solve, curved_margin, pair, left)
    distance_x, distance_z, shift, uncertain = step
    error_x: Any = bounds.error(worst(uncertain))
    error_z = error_x
    if smoothing or not error_x <= SURE:
        errors = _rounding_error(batch, scale, solve, response, v_z, uncertain, smoothing)
        error_x, error_z = (_ratio(error, gain) for error in errors)
    return Certificate(
        np.maximum(distance_x / x, distance_z / z),
        shift,
        np.maximum(error_x, rounding * gain_x / x),
        np.maximum(error_z, rounding * gain_z / z),
    )


def _sizes(batch: ProgramBatch, scale: Scales) -> tuple[Floats, Floats]:
    """(B,) what errors of x and of z are relative to: a point that is 0 has none beside itself."""
    x, z = scale.x[:, 0], np.maximum(scale.z[:, 0], SMALL)
    if not _least(x) >= SMALL:
        reach = (batch.sizes.reach / scale.primal)[:, 0]
        x = np.maximum(x, np.where(reach > NOTHING, np.minimum(SMALL, 2e-3 * reach), SMALL))
    return x, z


def _newton_step(
    batch: ProgramBatch,
    points: Points,
    scale: Scales,
    solve: Solve,
    margin: Floats,
    pair: tuple[Floats, Floats],
    left: tuple[Floats, Floats],
) -> tuple[Floats, Floats, Floats, Floats]:
    """How far the solution is in x and z (B,), and the shares of the margins as in `_shift`.

    ``pair`` is the complementary pair of s and z, and ``left`` its `defects`.
    """
    dx, dz, p, step = _moves(batch, scale, solve, pair, left)
    shift, uncertain = _shift(batch.structure, p, step, margin)
    uncertain = np.where(margin < KINK, 0.0, uncertain)  # at a kink, that is what is said
    moved = _largest(scale.dual(pair[1] + dz - points.z))
    return _largest(dx) / scale.primal[:, 0], moved, shift, uncertain


def _moves(
    batch: ProgramBatch,
    scale: Scales,
    solve: Solve,
    pair: tuple[Floats, Floats],
    left: tuple[Floats, Floats],
) -> tuple[Floats, Floats, Floats, Floats]:
    """The step in x (B, n) and z (B, m), and s - z and how far it moves, both dimensionless."""
    (s, z), (r_d, r_p) = pair, left
    dx, dz = solve(-r_d, -r_p)
    step = np.abs(scale.slack(batch.multiply("A", dx) + r_p) + scale.dual(dz))
    finite = np.isfinite(s)
    if not finite.all():
        s, step = np.where(finite, s, 0.0), np.where(finite, step, 0.0)
    return dx, dz, scale.slack(s) - scale.dual(z), step


def moving(
    batch: ProgramBatch, points: Points, scale: Scales, solve: Solve, share: float, margin: Floats
) -> tuple[NDArray[np.bool_], Floats]:
    """The rows of nonnegative cones (B, m) that the Newton step moves by more than this share of
    their margin, and the share by which it moves the curved cones, whose margin is given (B,)."""
    pair = complementary(batch, points.s, points.z, scale)
    left = defects(batch, points.x, *pair)
    _, _, p, step = _moves(batch, scale, solve, pair, left)
    moved = batch.structure.nonnegative & ~(step <= share * np.abs(p))
    return moved, _shift(batch.structure, p, step, margin)[1]


def _rounding_error(
    batch: ProgramBatch,
    scale: Scales,
    solve: Solve,
    response: tuple[Floats, Floats],
    v_z: Floats,
    uncertain: Floats,
    smoothing: float,
) -> tuple[Floats, Floats]:
    """What rounding in the data makes of the response to the probe (B,), in x and in z."""
    n, m = batch.structure.n, batch.structure.m
    w, zeta = response
    # With random signs a, b and c, diag(a) M diag(b) is M with its entries changed by 100 %.
    a, b, c = _signs(n, 2), _signs(n, 3), _signs(m, 4)
    blurred_x = a * batch.multiply("P", b * w) + b * batch.multiply("A", c * zeta, transpose=True)
    blurred_z = ROUNDING * (c * batch.multiply("A", b * w) + np.abs(v_z))
    if not batch.structure.polyhedral:
        moves = batch.multiply("A", w) - v_z  # -ds
        blurred_z += (ROUNDING + np.minimum(uncertain, 1.0)[:, None]) * c * moves
    dw, dzeta = solve(ROUNDING * blurred_x + smoothing * w, blurred_z)
    return _largest(dw) / scale.primal[:, 0], _largest(scale.dual(dzeta))


def _shift(structure: Structure, p: Floats, step: Floats, margin: Floats) -> tuple[Floats, Floats]:
    """The share of the margin that the step takes (B,): of all rows, and of the curved ones."""
    rows = structure.nonnegative
    size, moved = np.abs(p[:, rows]), step[:, rows]
    shift = _ratio(moved, size, np.where(moved > 0.0, np.inf, 0.0)).max(axis=-1, initial=0.0)
    if structure.polyhedral:
        return shift, np.zeros_like(shift)
    bent = _largest(step[:, ~(rows | structure.equality)])
    bent = _ratio(bent, margin, np.where(bent > 0.0, np.inf, 0.0))
    return np.maximum(shift, bent), bent


@lru_cache(maxsize=64)
def _signs(size: int, seed: int) -> Floats:
    """Random signs with random sizes near 1: sums and differences of them do not vanish."""
    rng = np.random.default_rng([size, seed])
    signs: Floats = rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)
    signs.setflags(write=False)
    return signs


def _ratio(error: Floats, size: Floats, otherwise: Floats | None = None) -> Floats:
    """error / size, and ``otherwise``, or 0, where the size is 0."""
    out = np.zeros_like(error) if otherwise is None else otherwise
    return np.divide(error, size, out=out, where=size > 0.0)


def _largest(values: Floats) -> Floats:
    """(..., B) the largest magnitude in each row of (..., B, r)."""
    largest: Floats = np.maximum.reduce(np.abs(values), axis=-1, initial=0.0)
    return largest


def worst(values: Floats) -> float:
    """The largest of nonnegative values (B,), NaN if there is one; `max` of one takes longer."""
    return values.item() if values.size == 1 else float(np.maximum.reduce(values, initial=0.0))


def _least(values: Floats) -> float:
    """The least of the values, or inf without any."""
    if values.size == 1:
        return values.item()
    return float(np.minimum.reduce(values, axis=None, initial=np.inf))
