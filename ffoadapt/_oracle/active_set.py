"""Which constraints hold at a solution, and with which curvature: the rows of the ghost problem.

Slack and multiplier of a row are compared only after both are made dimensionless, so that neither
the units of the data nor the tolerance of the solver decide: with r_i the norm of row i of A, X the
size of x and g the size of the gradient of the objective,

    s_i / (r_i X)    against    z_i r_i / g.

A block of a curved cone has one r, the largest of its rows, since its rows share a unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._cones import Cone, GhostRows, PSDCone
from .._kernel import polyhedral
from .._program.batch import ProgramBatch, largest
from .._runtime.lazy import lazy
from .._types import Floats
from .eigenblocks import EigenBlock

__all__ = [
    "Block",
    "Degenerate",
    "GhostBatch",
    "Scales",
    "at_kinks",
    "complementary",
    "linearize",
    "scales",
    "unit_rows",
]


Degenerate = Literal["auto", "least_squares", "drop", "keep"]
"""What becomes of weakly active rows, see `at_kinks`."""

KINK = 1e-7
"""A row with s and z below this, dimensionless, is weakly active: at a kink."""


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


@dataclass(slots=True, eq=False)
class GhostBatch:
    """The ghost rows of B programs: unit rows, diagonal curvature, and those of the curved blocks.

    Attributes
    ----------
    active
        (B, m) bool, unit rows of G.
    weight
        (B, m) diagonal curvature; (B, 0) where all cones are polyhedral.
    blocks
        The rows of curved cones.
    margin
        (B,) the smallest strict-complementarity margin of the curved cones, dimensionless.
    """

    active: NDArray[np.bool_]
    weight: Floats
    blocks: tuple[Block | EigenBlock, ...]
    margin: Floats


@dataclass(eq=False)
class Scales:
    """Sizes that make slacks and multipliers dimensionless.

    ``batch`` has those of the data; ``primal`` (B, 1) is the size X of x, ``gradient`` (B, 1) the
    size g of the gradient of the objective, and ``x`` and ``z`` (B, 1) are the shares that the
    largest |x_i| and the largest |z_i| r_i have in X and g: see `polyhedral.scales`.
    """

    batch: ProgramBatch
    primal: Floats
    gradient: Floats
    x: Floats
    z: Floats

    @lazy
    def slack_unit(self) -> Floats:
        """(B, m) the slacks that count as 1."""
        return self.batch.norms * self.primal

    @lazy
    def dual_rate(self) -> Floats:
        """(B, m) what a multiplier of 1 counts as."""
        return self.batch.norms / self.gradient

    @property
    def squares(self) -> Floats:
        """(B or 1, m) squared norms of the rows of A, see `ProgramBatch`."""
        return self.batch.squares

    def slack(self, s: Floats) -> Floats:
        """Dimensionless slacks of (B, m)."""
        return s / self.slack_unit

    def dual(self, z: Floats) -> Floats:
        """Dimensionless multipliers of (B, m)."""
        return z * self.dual_rate


def scales(batch: ProgramBatch, x: Floats, z: Floats) -> Scales:
    """The sizes at points x (B, n), z (B, m)."""
    sizes = largest(x), largest(z * batch.norms)
    return Scales(batch, *polyhedral.scales(np, batch.sizes, *sizes))


def linearize(
    batch: ProgramBatch, s: Floats, z: Floats, scale: Scales, how: Degenerate = "auto"
) -> GhostBatch:
    """The ghost rows at approximately complementary pairs s, z (B, m), with their `scales`.

    Blocks of curved cones that are at a kink are linearized inside their cone where ``how`` is
    ``"drop"``, and outside where it is ``"keep"``; for single rows see `at_kinks`.
    """
    structure = batch.structure
    size, m = z.shape
    if m == 0:
        return GhostBatch(np.zeros((size, 0), bool), z, (), np.full(size, np.inf))
    active = polyhedral.active_rows(np, s, z, scale.squares, scale, structure.equality)
    unit_ghost = unit_rows(batch, active, z)
    if structure.polyhedral:
        return unit_ghost
    margin = unit_ghost.margin
    weight = np.zeros((size, m))
    blocks: list[Block | EigenBlock] = []
    s_hat, z_hat = scale.slack(s), scale.dual(z)
    for cone, start, count in structure.groups:
        if cone.polyhedral:
            continue
        rows = slice(start, start + count * cone.dim)
        shape = (size * count, cone.dim)
        s_at, z_at = s_hat[:, rows].reshape(shape), z_hat[:, rows].reshape(shape)
        # z/s = (z_hat/s_hat) g / (r^2 X), and curvature scales like z/s.
        squares = scale.squares[:, start : start + count * cone.dim : cone.dim]
        unit = scale.gradient / (squares * scale.primal)
        if structure.matrix_blocks and isinstance(cone, PSDCone):
            block, least = _eigen_block(cone, s_at, z_at, how, start, unit)
            blocks.append(block)
            active[:, rows] = False
            np.minimum(margin, least.reshape(size, count).min(axis=-1), out=margin)
            continue
        ghost = cone.linearize(s_at, z_at)
        if how in ("drop", "keep") and (ghost.margin < KINK).any():
            s_at = s_at + _aside(cone, ghost.margin, how)
            ghost = replace(cone.linearize(s_at, z_at), margin=ghost.margin)
        active[:, rows] = ghost.active.reshape(size, count * cone.dim)
        local = ghost.weight.reshape(size, count, cone.dim) * unit[..., None]
        weight[:, rows] = local.reshape(size, count * cone.dim)
        np.minimum(margin, ghost.margin.reshape(size, count).min(axis=-1), out=margin)
        if ghost.G.shape[1] or ghost.R.shape[1]:
            blocks.append(_block(ghost, cone.dim, start, size, count, unit))
    return GhostBatch(active, weight, tuple(blocks), margin)


def unit_rows(batch: ProgramBatch, active: NDArray[np.bool_], z: Floats) -> GhostBatch:
    """The ghost rows of polyhedral programs in which these rows (B, m) are active."""
    size, box = len(z), batch.structure.box
    if box is not None:
        # Of l <= a'x <= u one side at most: where l = u in some elements alone, the other would
        # repeat it.
        upper, lower = box.pairs
        both = active[:, upper] & active[:, lower]
        at_upper = z[:, upper] >= z[:, lower]
        active[:, upper] &= ~both | at_upper
        active[:, lower] &= ~both | ~at_upper
    margin = np.empty(size)
    margin.fill(np.inf)
    return GhostBatch(active, np.zeros((size, 0)), (), margin)


def at_kinks(
    ghost: GhostBatch,
    batch: ProgramBatch,
    s: Floats,
    z: Floats,
    scale: Scales,
    how: Degenerate,
    decided: NDArray[np.bool_] | None = None,
) -> GhostBatch:
    """The ghost rows with another choice for the weakly active rows of nonnegative cones, but for
    those that are ``decided`` (B, m).

    ``"keep"`` makes them active and ``"drop"`` inactive: the derivatives on either side of the
    kink. ``"least_squares"`` is the midpoint of the two for each row, (D + I)/2 in terms of the
    projection: the row is neither kept nor dropped but has curvature 1, so that the ghost problem
    keeps it in the sense of least squares. ``"auto"`` leaves it to the larger of s and z. Curved
    cones are left alone: for these see `linearize`.
    """
    if how == "auto" or not s.shape[1]:
        return ghost
    weak = batch.structure.nonnegative & (np.maximum(scale.slack(s), scale.dual(z)) < KINK)
    if decided is not None:
        weak &= ~decided
    if not weak.any():
        return ghost
    if how == "keep":
        return replace(ghost, active=ghost.active | weak)
    ghost = replace(ghost, active=ghost.active & ~weak)
    if how == "drop":
        return ghost
    weight = ghost.weight.copy() if ghost.weight.size else np.zeros(s.shape)
    weight[weak] = (scale.gradient / (scale.squares * scale.primal) + weight)[weak]
    return replace(ghost, weight=weight)


def complementary(
    batch: ProgramBatch, s: Floats, z: Floats, scale: Scales
) -> tuple[Floats, Floats]:
    """The exactly complementary pair (B, m) nearest to s - z in dimensionless units."""
    structure = batch.structure
    infinite, norms = batch.unbounding, batch.norms
    unit_s, unit_z = norms * scale.primal, scale.gradient / norms
    near = s / unit_s
    p = near - z / unit_z
    if infinite is not None:
        p = np.where(infinite, 1.0, p)
    s_hat = np.empty_like(p)
    for cone, start, count in structure.groups:
        rows = slice(start, start + count * cone.dim)
        here, at = (v[:, rows].reshape(-1, cone.dim) for v in (p, near))
        s_hat[:, rows] = cone.project(here, at).reshape(len(p), -1)
    s, z = s_hat * unit_s, (s_hat - p) * unit_z
    if infinite is not None:
        s, z = np.where(infinite, np.inf, s), np.where(infinite, 0.0, z)
    return s, z


def _aside(cone: Cone, margin: Floats, how: Degenerate) -> Floats:
    """(N, dim) steps off the kink where the margin (N,) says that there is one."""
    step = KINK * cone.inner if how == "drop" else -KINK * cone.inner
    return np.where(margin < KINK, 1.0, 0.0)[:, None] * step


def _eigen_block(
    cone: PSDCone, s: Floats, z: Floats, how: Degenerate, start: int, unit: Floats
) -> tuple[EigenBlock, Floats]:
    """The block at pairs s, z (N, dim), and their margins (N,)."""
    values, vectors = cone.spectrum(s - z)
    margin = np.abs(values).min(axis=1)
    if how in ("drop", "keep") and (margin < KINK).any():
        values, vectors = cone.spectrum(s + _aside(cone, margin, how) - z)
    shape = *unit.shape, cone.n
    spectrum = values.reshape(shape), vectors.reshape(*shape, cone.n)
    return EigenBlock(cone, start, unit.shape[1], *spectrum, unit), margin


def _block(ghost: GhostRows, dim: int, start: int, size: int, count: int, unit: Floats) -> Block:
    lead, g, r = (size, count), ghost.G.shape[1], ghost.R.shape[1]  # a batch may be of none
    return Block(
        start,
        count,
        dim,
        ghost.G.reshape(*lead, g, dim),
        ghost.has.reshape(*lead, g),
        ghost.R.reshape(*lead, r, dim) * np.sqrt(unit)[..., None, None],
        ghost.sigma.reshape(*lead, r),
    )
