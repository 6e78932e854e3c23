"""Whether a point solves a program: what it violates, beside the program's own numbers.

A residual relative to |x| or |z| is small at any point that is far enough away, so it proves
nothing of a point. Here violations are compared with sizes that follow from the data:

- the length of a program, X = max(max_i |b_i| / r_i, max |q| / max P_jj), with r_i the norm of row
  i of A, and its steepness, max(max |q|, X max P_jj);
- the size of the objective, x'Px + sum_j |q_j| D_j;
- the size of a row, at most r_i X and at least |b_i|: the sum of its terms |a_ij| D_j, where D_j is
  the larger of |x_j| and of what the constraints say of it, max_k |b_k| |a_kj| / r_k^2.

The size of a row does not depend on the units of rows and columns. A block of a curved cone has
that of its largest row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._program.batch import EPS, ProgramBatch
from .._program.points import Points
from .._types import Floats
from .active_set import Scales
from .certificate import stationarity

__all__ = [
    "BEYOND",
    "DATA",
    "ROW",
    "SMALL",
    "UNSEEN",
    "Violations",
    "beside_cones",
    "beside_objective",
    "beside_rows",
    "column_sizes",
    "row_sizes",
    "unbalanced",
    "violations",
]

Mask = NDArray[np.bool_]

UNSEEN = 1e-13
"""Violations below this share of r_i X are rounding."""

SMALL = 1e-7
"""So are those below this share of |b_i|, as far as anybody asks here: no limit is so small."""


DATA = 3e-6
"""An optimal point violates no condition by more than this share of the data."""

ROW = 1e-7
"""An optimal point violates no row by more than this share of the row's size, and its duality gap
is no larger than this share of the objective's."""

ROUNDING = 64 * EPS
"""A gap of this share of the objective's size without constraints, |q|^2 / P, is rounding."""


BEYOND = 1e120
"""With points of this size products overflow: they solve nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Violations:
    """Of B points, each (B,): the length and the steepness of their programs, the largest violation
    of a row beside its size, and the duality gap beside the size of the objective; of the last two,
    0 where they do not matter."""

    length: Floats
    steepness: Floats
    row: Floats
    gap: Floats


def violations(batch: ProgramBatch, points: Points, scale: Scales) -> Violations:
    """What compiled code finds in `Measures`."""
    data = batch.sizes
    reach, steepness, curvature = (
        np.broadcast_to(v, scale.primal.shape) for v in (data.reach, data.steepness, data.curvature)
    )
    curved = curvature > 0.0
    own = np.divide(steepness, curvature, out=np.zeros_like(steepness), where=curved)
    length = np.maximum(reach, own)
    gradient = np.maximum(steepness, curvature * length)
    length = np.where(length > 0.0, length, scale.primal)
    gradient = np.where(gradient > 0.0, gradient, scale.gradient)
    far = outside(batch, points)
    row = beside_rows(batch, points.x, far, length)
    if not (batch.structure.polyhedral or points.paired):
        row = np.maximum(row, beside_cones(batch, points, length))
    with np.errstate(over="ignore"):
        rounding = ROUNDING * (steepness * own)[:, 0]
    gap = beside_objective(batch, points, rounding)
    return Violations(length[:, 0], gradient[:, 0], row, gap)


def outside(batch: ProgramBatch, points: Points) -> Floats:
    """(B, m) how far each row is from being satisfied; of curved cones, whose rows are not
    satisfied one by one, what Ax + s lacks of b. How far s is from these say `beside_cones`."""
    structure, free = batch.structure, batch.unbounding
    far = np.where(structure.nonnegative, np.maximum(-points.s, 0.0), 0.0)
    eq = structure.split[0]
    far[:, eq] = np.abs(points.s[:, eq])
    if not points.exact:
        s, b = points.s, batch.b
        if free is not None:
            s, b = np.where(free, 0.0, s), np.where(free, 0.0, b)
        far = np.maximum(far, np.abs(batch.multiply("A", points.x) + s - b))
    return far if free is None else np.where(free, 0.0, far)


def beside_rows(batch: ProgramBatch, x: Floats, far: Floats, length: Floats) -> Floats:
    """(B,) the largest of these violations (B, m) beside the size of its row; ``length`` (B, 1)."""
    b = np.abs(batch.b)
    matters = (far > UNSEEN * batch.norms * length) & (far > SMALL * b)
    if not matters.any():
        return np.zeros(len(x))
    size = row_sizes(batch, x, length)
    beside = np.divide(far, size, out=np.zeros_like(far), where=matters)
    return np.maximum.reduce(beside, axis=-1, initial=0.0)


def beside_cones(batch: ProgramBatch, points: Points, length: Floats) -> Floats:
    """(B,) the largest distance of a block of s from its curved cone beside the size of the block;
    ``length`` (B, 1)."""
    worst, sizes = np.zeros(len(points.s)), None
    for cone, start, count in batch.structure.groups:
        if cone.polyhedral:
            continue
        rows, dim = slice(start, start + count * cone.dim), cone.dim
        far = cone.violation(points.s[:, rows].reshape(-1, dim)).reshape(-1, count)
        norm, b = (_largest_rows(v[:, rows], dim) for v in (batch.norms, np.abs(batch.b)))
        matters = far > np.maximum(UNSEEN * norm * length, SMALL * b)
        if not matters.any():
            continue
        if sizes is None:
            sizes = row_sizes(batch, points.x, length)
        size = _largest_rows(sizes[:, rows], dim)
        beside = np.divide(far, size, out=np.zeros_like(far), where=matters)
        worst = np.maximum(worst, beside.max(axis=-1, initial=0.0))
    return worst


def _largest_rows(values: Floats, dim: int) -> Floats:
    """(B, count) the largest of each block of ``dim`` rows of (B, count * dim)."""
    found: Floats = values.reshape(len(values), -1, dim).max(axis=-1)
    return found


def beside_objective(batch: ProgramBatch, points: Points, rounding: Floats) -> Floats:
    """(B,) the duality gap |x'Px + q'x + b'z|, or sum |s_i z_i| where that is larger and rows pair
    up, beside the size of the objective; a gap of no more than ``rounding`` (B,) is none, for that
    size is 0 where a solution is."""
    x, s, z = points.x, points.s, points.z
    held = np.isfinite(batch.b)
    bent = np.sum(x * batch.multiply("P", x), axis=-1)
    linear = batch.q * x
    with np.errstate(invalid="ignore"):
        pushed, apart = np.where(held, batch.b * z, 0.0), np.where(held, np.abs(s * z), 0.0)
    gap = np.abs(bent + linear.sum(axis=-1) + pushed.sum(axis=-1))
    if batch.structure.polyhedral:
        gap = np.maximum(gap, apart.sum(axis=-1))
    size = np.abs(bent) + np.abs(linear).sum(axis=-1)
    matters = (gap > SMALL * size) & (gap > rounding)
    if not matters.any():
        return np.zeros(len(x))
    size = size + np.sum(np.abs(batch.q) * column_sizes(batch, x), axis=-1)
    # Without an objective there is nothing that the gap could be of.
    return np.divide(gap, size, out=np.zeros_like(gap), where=matters & (size > 0.0))


def unbalanced(batch: ProgramBatch, points: Points) -> Mask:
    """(B,) whether Px + q + A'z lacks more of 0 in some variable than this share, `DATA`, of the
    terms of that variable, in any units: the objective might fall along it for ever."""
    x, z = points.x, points.z
    absolute = replace(batch, P=np.abs(batch.P), A=np.abs(batch.A), box=None, P_factor=None)
    terms = np.abs(batch.q) + absolute.multiply("P", np.abs(x))
    terms = terms + absolute.multiply("A", np.abs(z), transpose=True)
    return np.asarray((np.abs(stationarity(batch, x, z)) > DATA * terms).any(axis=-1))


def row_sizes(batch: ProgramBatch, x: Floats, length: Floats) -> Floats:
    """(B, m) the size of each row at points x (B, n)."""
    absolute = replace(batch, A=np.abs(batch.A), box=None)
    own = absolute.multiply("A", column_sizes(batch, x))
    own = np.maximum(np.minimum(own, batch.norms * length), np.abs(batch.b))
    return np.where(np.isfinite(own), own, 1.0)


def column_sizes(batch: ProgramBatch, x: Floats) -> Floats:
    """(B, n) the size of each variable at points x (B, n)."""
    b = np.where(np.isfinite(batch.b), np.abs(batch.b), 0.0)
    most = batch.sizes.farthest * batch.norms
    b = np.where(batch.structure.nonnegative, np.minimum(b, most), b)
    distance, A = b / batch.squares, np.abs(batch.A)
    found, pattern = np.abs(x), batch.structure.A
    if not distance.any():
        return found
    if pattern is None:
        said = np.maximum.reduce(A * distance[..., None], axis=-2, initial=0.0)
        return np.maximum(found, said)
    said = np.zeros((max(len(A), len(distance)), pattern.shape[1]))
    columns = pattern.columns
    for i, row in enumerate(said):
        values = (
            A[i if len(A) > 1 else 0] * distance[i if len(distance) > 1 else 0][pattern.indices]
        )
        np.maximum.at(row, columns, values)
    return np.maximum(found, said)
