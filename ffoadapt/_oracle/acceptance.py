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
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .._kernel import measures, polyhedral
from .._kernel.polyhedral import LIMITS
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._program.sizes import diagonal
from .._types import Floats
from .active_set import Scales
from .certificate import infeasibility, stationarity

__all__ = [
    "BEYOND",
    "DATA",
    "ROW",
    "UNSEEN",
    "Violations",
    "beside_cones",
    "column_sizes",
    "row_sizes",
    "unbalanced",
    "violations",
]

Mask = NDArray[np.bool_]

BEYOND, DATA, ROW, UNSEEN = LIMITS.beyond, LIMITS.data, LIMITS.row, LIMITS.unseen
"""See `polyhedral.Limits`."""


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
    """What `_kernel.measures` has of dense programs, of any."""
    x, s, z, sizes, structure = points.x, points.s, points.z, batch.sizes, batch.structure
    length, steepness = polyhedral.data_scales(np, sizes, scale.primal, scale.gradient)
    held, free = np.isfinite(batch.b), np.isposinf(batch.b)
    left = None if points.exact else infeasibility(batch, x, s)
    far = measures.unmet_rows(s, left, free, structure.nonnegative, structure.equality)

    def size() -> Floats:
        linear = np.sum(np.abs(batch.q) * column_sizes(batch, x), axis=-1)
        held, pattern = column_sizes(batch, x, held=True), structure.P
        if pattern is not None:
            held = held[:, pattern.indices[pattern.diagonal]]
        return linear + np.sum(diagonal(batch) * np.square(held), axis=-1)

    terms = partial(_row_terms, batch, x)
    row = measures.largest_row_violation(far, batch.norms, batch.b, length, terms, LIMITS)
    if not (structure.polyhedral or points.paired):
        row = np.maximum(row, beside_cones(batch, points, length))
    pushed, apart = (np.where(held, v, 0.0) * z for v in (batch.b, s))
    objective = np.sum(x * batch.multiply("P", x), axis=-1), batch.q * x, pushed, apart
    rounding = measures.rounding_gap(sizes.steepness[:, 0], sizes.curvature[:, 0], LIMITS)
    gap = measures.duality_gap(*objective, structure.polyhedral, rounding, size, LIMITS)
    return Violations(length[:, 0], steepness[:, 0], row, gap)


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
        matters = far > np.maximum(UNSEEN * norm * length, LIMITS.small * b)
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
    largest: Floats = values.reshape(len(values), values.shape[1] // dim, dim).max(axis=-1)
    return largest


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
    own = _row_terms(batch, x)
    own = np.maximum(np.minimum(own, batch.norms * length), np.abs(batch.b))
    return np.where(np.isfinite(own), own, 1.0)


def _row_terms(batch: ProgramBatch, x: Floats) -> Floats:
    """(B, m) the sums of the magnitudes of the terms of each row, at the sizes of the variables."""
    absolute = replace(batch, A=np.abs(batch.A), box=None)
    return absolute.multiply("A", column_sizes(batch, x))


def column_sizes(batch: ProgramBatch, x: Floats, held: bool = False) -> Floats:
    """(B, n) the size of each variable at points x (B, n), or, where ``held``, that which
    equalities say alone."""
    counts = np.isfinite(batch.b) & batch.structure.equality if held else np.isfinite(batch.b)
    b = np.where(counts, batch.b, 0.0)
    at = batch.sizes.farthest, batch.norms, batch.structure.nonnegative
    distance, A = measures.row_distances(b, *at) / batch.squares, np.abs(batch.A)
    own, pattern = np.abs(x), batch.structure.A
    if not distance.any():
        return own
    if pattern is None:
        said = np.maximum.reduce(A * distance[..., None], axis=-2, initial=0.0)
        return np.maximum(own, said)
    said = np.zeros((max(len(A), len(distance)), pattern.shape[1]))
    columns = pattern.columns
    for i, row in enumerate(said):
        values = (
            A[i if len(A) > 1 else 0] * distance[i if len(distance) > 1 else 0][pattern.indices]
        )
        np.maximum.at(row, columns, values)
    return np.maximum(own, said)
