"""Which constraints hold at a solution, and with which curvature: the rows of the ghost problem.

Slack and multiplier of a row are compared only after both are made dimensionless, so that neither
the units of the data nor the tolerance of the solver decide: with r_i the norm of row i of A, X the
size of x and g the size of the gradient of the objective,

    s_i / (r_i X)    against    z_i r_i / g.

A block of a curved cone has one r, the largest of its rows, since its rows share a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._cones import Cone, GhostRows, NonnegativeCone, ZeroCone
from .._program import ProgramBatch, Structure

__all__ = ["Block", "GhostBatch", "linearize", "scales"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows other than unit rows of ``count`` equal cones that start at canonical row ``start``.

    G (B, count, g, dim) with `has` (B, count, g); R (B, count, r, dim) with sigma (B, count, r).
    """

    start: int
    count: int
    dim: int
    G: Floats
    has: NDArray[np.bool_]
    R: Floats
    sigma: Floats

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count * self.dim)


@dataclass(frozen=True, slots=True, eq=False)
class GhostBatch:
    """The ghost rows of B programs: unit rows, diagonal curvature, and those of the curved blocks.

    Attributes
    ----------
    active
        (B, m) bool, unit rows of G.
    weight
        (B, m) diagonal curvature.
    blocks
        The rows of curved cones.
    margin
        (B,) the smallest strict-complementarity margin, dimensionless; inf without constraints.
    """

    active: NDArray[np.bool_]
    weight: Floats
    blocks: tuple[Block, ...]
    margin: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """Sizes that make slacks and multipliers dimensionless; each (B or 1, ...)."""

    rows: Floats
    """(B or 1, m) norms of the rows of A, uniform over each curved block; 0 for empty rows."""
    primal: Floats
    """(B, 1) the size X of x."""
    gradient: Floats
    """(B, 1) the size g of the gradient of the objective."""


def groups(structure: Structure) -> list[tuple[Cone, int, int]]:
    """Runs of equal neighbouring cones: (cone, first row, how many)."""
    found: list[tuple[Cone, int, int]] = []
    for start, cone in zip(structure.offsets, structure.cones, strict=True):
        if found and not cone.polyhedral and found[-1][0] == cone:
            found[-1] = (cone, found[-1][1], found[-1][2] + 1)
        elif cone.dim:
            found.append((cone, start, 1))
    return found


def scales(batch: ProgramBatch, x: Floats, z: Floats) -> Scales:
    """The sizes at points x (B, n), z (B, m)."""
    structure = batch.structure
    rows = _row_norms(batch)
    for cone, start, count in groups(structure):
        if not cone.polyhedral:
            block = rows[:, start : start + count * cone.dim].reshape(-1, count, cone.dim)
            block[:] = block.max(axis=-1, keepdims=True)
    safe = np.where(rows > 0.0, rows, 1.0)
    reach = np.where(np.isfinite(batch.b), np.abs(batch.b), 0.0) / safe
    primal = np.maximum(_largest(x), _largest(np.where(rows > 0.0, reach, 0.0)))
    pull = np.maximum(_largest(batch.multiply("P", x)), _largest(batch.q))
    gradient = np.maximum(pull, _largest(z * rows))
    return Scales(
        rows, np.where(primal > 0.0, primal, 1.0), np.where(gradient > 0.0, gradient, 1.0)
    )


def linearize(batch: ProgramBatch, x: Floats, s: Floats, z: Floats) -> GhostBatch:
    """The ghost rows at approximately complementary points x (B, n), s, z (B, m)."""
    structure = batch.structure
    size, m = z.shape
    active = np.zeros((size, m), dtype=bool)
    weight = np.zeros((size, m))
    margin = np.full(size, np.inf)
    blocks: list[Block] = []
    if m == 0:
        return GhostBatch(active, weight, (), margin)
    scale = scales(batch, x, z)
    safe = np.where(scale.rows > 0.0, scale.rows, 1.0)
    s_hat = s / (safe * scale.primal)
    z_hat = z * (scale.rows / scale.gradient)
    for cone, start, count in groups(structure):
        rows = slice(start, start + count * cone.dim)
        if isinstance(cone, ZeroCone):
            active[:, rows] = scale.rows[:, rows] > 0.0
            continue
        if isinstance(cone, NonnegativeCone):  # the common case, without a detour
            a, b = z_hat[:, rows], s_hat[:, rows]
            np.greater(a, b, out=active[:, rows])
            np.minimum(margin, np.maximum(a, b).min(axis=-1), out=margin)
            continue
        shape = (size * count, cone.dim)
        ghost = cone.linearize(s_hat[:, rows].reshape(shape), z_hat[:, rows].reshape(shape))
        # z/s = (z_hat/s_hat) g / (r^2 X), and curvature scales like z/s.
        r = safe[:, start : start + count * cone.dim : cone.dim]
        unit = np.broadcast_to(scale.gradient / (r**2 * scale.primal), (size, count))
        active[:, rows] = ghost.active.reshape(size, -1)
        weight[:, rows] = (ghost.weight.reshape(size, count, -1) * unit[..., None]).reshape(
            size, -1
        )
        np.minimum(margin, ghost.margin.reshape(size, count).min(axis=-1), out=margin)
        if ghost.G.shape[1] or ghost.R.shape[1]:
            blocks.append(_block(ghost, cone.dim, start, size, count, unit))
    return GhostBatch(active, weight, tuple(blocks), margin)


def _block(ghost: GhostRows, dim: int, start: int, size: int, count: int, unit: Floats) -> Block:
    return Block(
        start,
        count,
        dim,
        ghost.G.reshape(size, count, -1, dim),
        ghost.has.reshape(size, count, -1),
        ghost.R.reshape(size, count, -1, dim) * np.sqrt(unit)[..., None, None],
        ghost.sigma.reshape(size, count, -1),
    )


def _row_norms(batch: ProgramBatch) -> Floats:
    """(B or 1, m) Euclidean norms of the rows of A."""
    pattern = batch.structure.A
    if pattern is None:
        return np.sqrt(np.einsum("bij,bij->bi", batch.A, batch.A))
    squares = [
        np.bincount(pattern.indices, values**2, minlength=pattern.shape[0]) for values in batch.A
    ]
    return np.sqrt(np.array(squares))


def _largest(values: Floats) -> Floats:
    """(B or 1, 1) largest magnitude in each row."""
    if values.shape[-1] == 0:
        return np.zeros((values.shape[0], 1))
    return np.abs(values).max(axis=-1, keepdims=True)
