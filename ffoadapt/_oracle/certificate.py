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

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Certificate:
    """Estimates for one point; all are relative, and 0 is perfect.

    Attributes
    ----------
    distance
        The Newton step, relative to x and z.
    shift
        The largest share of its margin by which a row moves in that step: at 1 a kink is reached.
    x_error, z_error
        What rounding makes of the response in x and in the multipliers, and of x and z themselves.
    """

    distance: float
    shift: float
    x_error: float
    z_error: float


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
    factor: Any,
    margin: float,
    smoothing: float = 0.0,
) -> Certificate:
    """Examine a batch of one.

    ``factor`` is that at its point, ``margin`` the least of its curved cones, and ``smoothing`` the
    proximal term that the factor holds, whose bias counts as an error.
    """
    structure = batch.structure
    n, m = structure.n, structure.m
    root = np.sqrt(scale.squares)
    unit_x, unit_g = scale.primal, scale.gradient
    unit_s, unit_z = root * unit_x, unit_g / root

    s, z = complementary(batch, points.s, points.z, scale)
    r_d, r_p = defects(batch, points.x, s, z)
    v_x, v_z = unit_g * _signs(n, 0), unit_s * _signs(m, 1)
    w, zeta = _solve(factor, np.concatenate((-r_d, v_x)), np.concatenate((-r_p, v_z)))
    moves = batch.multiply("A", w) - np.concatenate((-r_p, v_z))  # -ds

    finite = np.isfinite(s)
    p = np.where(finite, s, 0.0) / unit_s - z / unit_z
    step = np.abs(moves[:1] / unit_s + zeta[:1] / unit_z)
    step[~finite] = 0.0
    shift, uncertain = _shift(structure, p, step, margin)
    size_of_x, size_of_z = _largest(points.x / unit_x), _largest(points.z / unit_z)
    rounding = ROUNDING * max(size_of_x, size_of_z, _largest(batch.q / unit_g))
    reach = _largest((batch.b / unit_s)[finite])
    # A point that is 0 has no error relative to itself.
    size_of_x = max(size_of_x, min(SMALL, 1e-2 * reach) if reach > NOTHING else SMALL)
    size_of_z = max(size_of_z, SMALL)
    distance = max(
        _largest(w[:1] / unit_x) / size_of_x,
        _largest((z + zeta[:1] - points.z) / unit_z) / size_of_z,
    )

    w, zeta, moves = w[1:], zeta[1:], moves[1:]
    # With random signs a, b and c, diag(a) M diag(b) is M with its entries changed by 100 %.
    a, b, c = _signs(n, 2), _signs(n, 3), _signs(m, 4)
    v_x = ROUNDING * a * batch.multiply("P", b * w)
    v_x = v_x + ROUNDING * b * batch.multiply("A", c * zeta, transpose=True) + smoothing * w
    v_z = ROUNDING * (c * batch.multiply("A", b * w) + np.abs(v_z))
    if not structure.polyhedral:
        v_z = v_z + (ROUNDING + min(uncertain, 1.0)) * c * moves
    error, zeta_error = _solve(factor, v_x, v_z)
    size_x, size_z = _largest(w / unit_x), _largest(zeta / unit_z)
    size = max(size_x, size_z)
    # The probe has size 1: times the rounding of the terms of the optimality conditions, its
    # response is what rounding makes of x and z, where the Newton step may see nothing.
    return Certificate(
        distance,
        shift,
        max(_ratio(_largest(error / unit_x), size), rounding * size_x / size_of_x),
        max(_ratio(_largest(zeta_error / unit_z), size), rounding * size_z / size_of_z),
    )


def _solve(factor: Any, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats]:
    """w and zeta for rows of cotangents (K, n) and (K, m)."""
    found = factor.solve(v_x.T, v_z.T, refine=False)
    return found.w.T, found.zeta.T


def _shift(structure: Structure, p: Floats, step: Floats, margin: float) -> tuple[float, float]:
    """The share of the margin that the step takes: of all rows, and of the curved ones."""
    rows, curved = _kinds(structure)
    size, step_rows = np.abs(p[:, rows]), step[:, rows]
    share = np.divide(step_rows, size, out=np.where(step_rows > 0.0, np.inf, 0.0), where=size > 0.0)
    shift = _largest(share)
    if structure.polyhedral:
        return shift, 0.0
    bent = _largest(step[:, curved])
    bent = bent / margin if margin > 0.0 else (np.inf if bent > 0.0 else 0.0)
    return max(shift, bent), bent


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


def _ratio(error: float, size: float) -> float:
    return error / size if size else 0.0


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
