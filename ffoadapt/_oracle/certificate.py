"""Whether the derivative at a point can be believed, from two more solves with its factorization.

A small residual does not say how near the solution is, nor does a small residual of the ghost solve
say that its answer is right: both hide what the ghost problem's condition number makes of them.
So ask the ghost problem itself.

1. A Newton step from the point estimates where the solution is. It must stay clear of the kinks
   (no row may move by much of its margin) and must be short, for gradients of P and A are products
   with x and z.
2. The response to random cotangents, solved again for what rounding in every entry of P and A, and
   the step's uncertainty in every curvature, would change in it. What it comes to, relative to the
   response, is an estimate of the error of any gradient. The response itself says what rounding
   makes of x and z.

All of this is dimensionless, as in `active_set`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .._program import ProgramBatch, Structure
from .._solution import Points
from .active_set import Scales, complementary

__all__ = ["Certificate", "defects", "examine"]

Floats = NDArray[np.float64]

ROUNDING = 2e-15
"""What every entry of the data and each of its products may be off by, relatively."""


SMALL = 1e-4
"""Where x or z is below this share of the sizes in `scales` its error is relative to that share;
for x also to a hundredth of the largest distance of a constraint from 0, if that is less."""

NOTHING = 1e-9
"""Constraints nearer to 0 than this share of the size in `scales` go through 0."""


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
    r_d = batch.multiply("P", x) + batch.q + batch.multiply("A", z, transpose=True)
    free = np.isposinf(batch.b)
    if not free.any():
        return r_d, batch.multiply("A", x) + s - batch.b
    r_p = batch.multiply("A", x) + np.where(free, 0.0, s) - np.where(free, 0.0, batch.b)
    return r_d, np.where(free, 0.0, r_p)


def examine(
    batch: ProgramBatch,
    points: Points,
    scale: Scales,
    solve: Solve,
    margin: Floats,
    smoothing: float = 0.0,
) -> Certificate:
    """Examine the points of a batch.

    ``solve`` gives ghost solutions for right-hand sides (2, B, n) and (2, B, m), or (B, n) and
    (B, m); ``margin`` (B,) is the least of the curved cones, and ``smoothing`` the proximal term of
    the ghost problem, whose bias counts as an error.
    """
    structure = batch.structure
    n, m = structure.n, structure.m
    root = np.sqrt(scale.squares)
    unit_x, unit_g = scale.primal, scale.gradient
    unit_s, unit_z = root * unit_x, unit_g / root

    s, z = complementary(batch, points.s, points.z, scale)
    v_x, v_z = np.empty((2, *points.x.shape)), np.empty((2, *s.shape))
    r_d, r_p = defects(batch, points.x, s, z)
    np.negative(r_d, out=v_x[0])
    np.negative(r_p, out=v_z[0])
    v_x[1], v_z[1] = unit_g * _signs(n, 0), unit_s * _signs(m, 1)
    w, zeta = solve(v_x, v_z)
    moves = batch.multiply("A", w) - v_z  # -ds

    step = np.abs(moves[0] / unit_s + zeta[0] / unit_z)
    b = batch.b / unit_s
    finite = np.isfinite(b)
    if not finite.all():
        s, step, b = np.where(finite, s, 0.0), np.where(finite, step, 0.0), np.where(finite, b, 0.0)
    shift, uncertain = _shift(structure, s / unit_s - z / unit_z, step, margin)

    X, g = unit_x[:, 0], unit_g[:, 0]
    size_of_x, size_of_z = _largest(points.x) / X, _largest(points.z / unit_z)
    rounding = ROUNDING * np.maximum(np.maximum(size_of_x, size_of_z), _largest(batch.q) / g)
    # A point that is 0 has no error relative to itself.
    reach = _largest(b)
    least = np.where(reach > NOTHING, np.minimum(SMALL, 1e-2 * reach), SMALL)
    size_of_x, size_of_z = np.maximum(size_of_x, least), np.maximum(size_of_z, SMALL)
    step_x, probe_x = _largest(w) / X
    probe_z = _largest(zeta[1] / unit_z)
    step_z = _largest((z + zeta[0] - points.z) / unit_z)
    distance = np.maximum(step_x / size_of_x, step_z / size_of_z)

    w, zeta, moves = w[1], zeta[1], moves[1]
    # With random signs c, d and e, diag(c) M diag(d) is M with its entries changed by 100 %.
    c, d, e = _signs(n, 2), _signs(n, 3), _signs(m, 4)
    dw = d * w
    v = c * batch.multiply("P", dw) + d * batch.multiply("A", e * zeta, transpose=True)
    v_x = ROUNDING * v + smoothing * w if smoothing else ROUNDING * v
    v_z = ROUNDING * (e * batch.multiply("A", dw) + np.abs(v_z[1]))
    if not structure.polyhedral:
        v_z += (ROUNDING + np.minimum(uncertain, 1.0)[:, None]) * e * moves
    error, zeta_error = solve(v_x, v_z)
    size = np.maximum(probe_x, probe_z)
    # The probe has size 1: times the rounding of the terms of the optimality conditions, its
    # response is what rounding makes of x and z, where the Newton step may see nothing.
    return Certificate(
        distance,
        shift,
        np.maximum(_ratio(_largest(error) / X, size), rounding * probe_x / size_of_x),
        np.maximum(_ratio(_largest(zeta_error / unit_z), size), rounding * probe_z / size_of_z),
    )


def _shift(structure: Structure, p: Floats, step: Floats, margin: Floats) -> tuple[Floats, Floats]:
    """The share of the margin that the step takes (B,): of all rows, and of the curved ones."""
    rows, curved = _kinds(structure)
    size, moved = np.abs(p[:, rows]), step[:, rows]
    shift = _ratio(moved, size, np.where(moved > 0.0, np.inf, 0.0)).max(axis=-1, initial=0.0)
    if structure.polyhedral:
        return shift, np.zeros_like(shift)
    bent = _largest(step[:, curved])
    bent = _ratio(bent, margin, np.where(bent > 0.0, np.inf, 0.0))
    return np.maximum(shift, bent), bent


@lru_cache(maxsize=64)
def _kinds(structure: Structure) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(m,) the rows of nonnegative cones, and those of curved ones."""
    kinds = [np.full(cone.dim, cone.kind == "nonnegative") for cone in structure.cones]
    rows = np.concatenate([np.zeros(0, bool), *kinds])
    return rows, ~rows & ~structure.equality


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
    found: Floats = np.abs(values).max(axis=-1, initial=0.0)
    return found
