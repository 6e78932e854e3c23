"""Proofs that a program has no solution, and the nearest one that has.

The nearest feasible program: with w_i the size of row i (`acceptance.row_sizes`),

    minimize 1/2 |r|^2    subject to    Ax + s - w r = b,  s in K

always has a solution. Its multiplier z = r / w is a certificate where r is not 0: A'z = 0, z in K*
and b'z = -|r|^2 < 0, so that no x has b - Ax in K. Where r is 0 up to the rounding of the data, the
program with b + w r in the place of b is feasible.

The steepest ray: with g_j the size of entry j of the objective's gradient,

    minimize q'd + 1/2 |g d|^2    subject to    Pd = 0,  Ad + s = 0,  s in K

has q'd = -|g d|^2, which is negative exactly if the objective is unbounded below on the rays of a
feasible program. The program with q + g^2 d in the place of q is bounded, and no nearer one is.

Every certificate is checked against the data, whoever has found it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._cones import ZeroCone
from .._oracle.acceptance import column_sizes, row_sizes
from .._program.batch import ProgramBatch, largest
from .._program.pattern import Pattern
from .._program.structure import Structure
from .._types import Floats

__all__ = [
    "Nearest",
    "Steepest",
    "elastic_program",
    "is_ray",
    "is_refutation",
    "nearest_program",
    "ray_program",
    "to_cone",
]

Mask = NDArray[np.bool_]

FAR = 1e3
"""A certificate speaks of all points within so many times the sizes of the variables."""

ROUNDING = 1e-13
"""What rounding leaves of a sum, relative to its terms."""

LEAST = 1e-3
"""The least size of an entry of the gradient, beside the largest."""

NOISE = 1e-9
"""Entries of a ray below this share of the largest, each beside its size, may be rounding."""

INSIDE = 1e-9
"""A certificate may be outside of its cone by this share of its size."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """The search for the nearest feasible programs of a batch.

    ``program`` has the variables (x, r); ``sizes`` are w (B, m).
    """

    batch: ProgramBatch
    program: ProgramBatch
    sizes: Floats

    def beside(self, shift: Floats) -> Floats:
        """(B,) the largest shift beside the size of its row."""
        return np.maximum.reduce(np.abs(shift) / self.sizes, axis=-1, initial=0.0)


def nearest_program(batch: ProgramBatch) -> Nearest:
    """The search for those nearest to the programs of a batch."""
    size, n, m = batch.size, batch.structure.n, batch.structure.m
    origin, length = np.zeros((size, n)), np.broadcast_to(_length(batch), (size, 1))
    sizes = np.broadcast_to(row_sizes(batch, origin, length), (size, m))
    # A row of which nothing says how large it is: its norm.
    sizes = np.where(sizes > 0.0, sizes, batch.norms)
    return Nearest(batch, elastic_program(batch, -sizes), sizes)


def elastic_program(batch: ProgramBatch, weights: Floats) -> ProgramBatch:
    """min 1/2 |r|^2 over (x, r) with Ax + w r + s = b, s in K; ``weights`` are w (B or 1, m)."""
    structure, lead = batch.structure, max(len(batch.A), len(weights))
    n, m, q = structure.n, structure.m, np.zeros((1, structure.n + structure.m))
    A = np.broadcast_to(batch.A, (lead, *batch.A.shape[1:]))
    if structure.A is None:
        P = np.zeros((1, n + m, n + m))
        P[0, range(n, n + m), range(n, n + m)] = 1.0
        elastic = np.zeros((lead, m, m))
        elastic[:, range(m), range(m)] = weights
        shape = Structure(n + m, m, structure.cones)
    else:
        one_each, pattern = np.arange(m + 1, dtype=np.int32), structure.A
        P_pattern = Pattern(
            (n + m, n + m),
            np.concatenate((np.zeros(n, np.int32), one_each)),
            np.arange(n, n + m, dtype=np.int32),
        )
        A_pattern = Pattern(
            (m, n + m),
            np.concatenate((pattern.indptr, pattern.nnz + one_each[1:])),
            np.concatenate((pattern.indices, one_each[:-1])),
        )
        P, elastic = np.ones((1, m)), np.broadcast_to(weights, (lead, m))
        shape = Structure(n + m, m, structure.cones, P_pattern, A_pattern)
    A = np.concatenate((A, elastic), axis=-1)
    return ProgramBatch(shape, batch.size, P, q, A, batch.b)


def is_refutation(batch: ProgramBatch, z: Floats, precision: float) -> Mask:
    """(B,) whether z (B, m) proves that no point satisfies the constraints.

    For every x with |x_j| <= FAR D_j, b'z < x'A'z though x with b - Ax in K has b'z >= x'A'z; and
    no change of b by ``precision`` of the sizes of its rows would mend that.
    """
    structure, free = batch.structure, batch.unbounding
    z = np.array(z)
    z[:, structure.nonnegative] = np.maximum(z[:, structure.nonnegative], 0.0)
    for cone, start, count in structure.groups:
        if not cone.polyhedral:  # onto the dual cone: outside of it, z proves nothing
            block = slice(start, start + count * cone.dim)
            at = np.nan_to_num(z[:, block]).reshape(-1, cone.dim)
            z[:, block] = (at + cone.project(-at)).reshape(len(z), count * cone.dim)
    b = batch.b
    if free is not None:
        z, b = np.where(free, 0.0, z), np.where(free, 0.0, b)
    terms = np.abs(_absolute(batch).multiply("A", np.abs(z), transpose=True))
    left = np.abs(batch.multiply("A", z, transpose=True))
    left = np.maximum(left, 1e-16 * terms)
    sizes = column_sizes(batch, np.zeros((len(z), structure.n)))
    length = _length(batch)
    sizes = np.where(sizes > 0.0, sizes, length)
    rows = row_sizes(batch, np.zeros((len(z), structure.n)), np.broadcast_to(length, (len(z), 1)))
    gap = -np.sum(b * z, axis=-1)
    doubt = FAR * np.sum(left * sizes, axis=-1) + ROUNDING * np.sum(np.abs(b * z), axis=-1)
    doubt = np.maximum(doubt, precision * np.sum(rows * np.abs(z), axis=-1))
    inside = _inside(structure, z, batch.norms, dual=True)
    return (gap > doubt) & inside & np.isfinite(z).all(axis=-1)


@dataclass(frozen=True, eq=False)
class Steepest:
    """The search for the steepest rays of the programs of a batch; ``sizes`` are g (B, n)."""

    batch: ProgramBatch
    program: ProgramBatch
    sizes: Floats

    def leveling(self, d: Floats) -> tuple[Floats, Floats]:
        """(B, n) what must be added to q where the rays are d (B, n), and (B,) the largest entry of
        that beside its size."""
        change = np.square(self.sizes) * d
        return change, np.maximum.reduce(np.abs(self.sizes * d), axis=-1, initial=0.0)

    def are_rays(self, d: Floats, precision: float) -> Mask:
        """(B,) whether d (B, n) are rays, as they are or without the entries that are nothing
        beside the largest: what rounding leaves there is a direction of its own."""
        rays = is_ray(self.batch, d, precision)
        if rays.all():
            return rays
        share = np.abs(self.sizes * d)
        plain = np.where(share > NOISE * largest(share), d, 0.0)
        return rays | is_ray(self.batch, plain, precision)


def ray_program(batch: ProgramBatch) -> Steepest:
    """The search for the steepest rays of the programs of a batch."""
    structure, size = batch.structure, batch.size
    n, m = structure.n, structure.m
    sizes = column_sizes(batch, np.zeros((size, n)))
    sizes = np.where(sizes > 0.0, sizes, _length(batch))
    absolute = replace(batch, P=np.abs(batch.P), box=None, P_factor=None)
    gradient = np.maximum(np.abs(batch.q), absolute.multiply("P", sizes))
    # An entry of 0 is as exact as any other: what is small beside the largest hardly moves.
    gradient = np.maximum(gradient, LEAST * largest(gradient))
    gradient = np.where(gradient > 0.0, gradient, 1.0)
    weight = np.square(gradient)
    free = batch.unbounding
    b = np.zeros((1, m)) if free is None else np.where(free, np.inf, 0.0)
    if structure.A is None:
        P = np.zeros((size, n, n))
        P[:, range(n), range(n)] = weight
        flat = np.broadcast_to(_flat_rows(batch.P), (size, n, n))
        A = np.concatenate((flat, np.broadcast_to(batch.A, (size, m, n))), axis=-2)
        shape = Structure(n, n + m, (ZeroCone(n), *structure.cones))
    else:
        assert structure.P is not None
        diagonal = np.arange(n + 1, dtype=np.int32)
        D = Pattern((n, n), diagonal, diagonal[:-1])
        above, below = structure.P, structure.A
        order = np.argsort(np.concatenate((above.columns, below.columns)), kind="stable")
        rows = np.concatenate((above.indices, below.indices + np.int32(n)))[order]
        stacked = Pattern((n + m, n), above.indptr + below.indptr, rows.astype(np.int32))
        values = [np.broadcast_to(v, (size, v.shape[-1])) for v in (batch.P, batch.A)]
        P, A = weight, np.concatenate(values, axis=-1)[:, order]
        shape = Structure(n, n + m, (ZeroCone(n), *structure.cones), D, stacked)
    b = np.concatenate((np.zeros((len(b), n)), b), axis=-1)
    return Steepest(batch, ProgramBatch(shape, size, P, batch.q, A, b), gradient)


def is_ray(batch: ProgramBatch, d: Floats, precision: float) -> Mask:
    """(B,) whether the objective falls for ever along d (B, n), wherever it starts, and more than
    a change of q by ``precision`` of its entries could make up for."""
    structure, free = batch.structure, batch.unbounding
    absolute = replace(batch, P=np.abs(batch.P), A=np.abs(batch.A), box=None, P_factor=None)
    fall = -np.sum(batch.q * d, axis=-1)
    steep = fall > max(1e-9, precision) * np.sum(np.abs(batch.q * d), axis=-1)
    # Curvature along d overtakes the fall only after FAR times d.
    curvature = np.sum(d * batch.multiply("P", d), axis=-1)
    size = np.maximum.reduce(np.abs(d), axis=-1, initial=0.0)
    length = np.broadcast_to(_length(batch), (len(d), 1))[:, 0]
    reach = np.divide(length, size, out=np.zeros_like(size), where=size > 0.0)
    rounding = 1e-15 * np.sum(np.abs(d) * absolute.multiply("P", np.abs(d)), axis=-1)
    flat = np.maximum(curvature - rounding, 0.0) * FAR * reach <= fall
    s = -batch.multiply("A", d)
    terms = absolute.multiply("A", np.abs(d))
    if free is not None:
        s = np.where(free, 0.0, s)
    eq = structure.split[0]
    still = (np.abs(s[:, eq]) <= INSIDE * terms[:, eq]).all(axis=-1)
    held = structure.nonnegative
    still &= (s[:, held] >= -INSIDE * terms[:, held]).all(axis=-1)
    return steep & flat & still & _inside(structure, s, 1.0 / batch.norms, dual=False)


def _absolute(batch: ProgramBatch) -> ProgramBatch:
    """The programs with |A|."""
    return replace(batch, A=np.abs(batch.A), box=None)


def _inside(structure: Structure, v: Floats, unit: Floats, dual: bool) -> Mask:
    """(B,) whether the blocks of curved cones of v (B, m) are in them, or in their duals."""
    inside = np.ones(len(v), dtype=bool)
    v = v * unit
    most = np.maximum.reduce(np.abs(v), axis=-1, initial=0.0)
    for cone, start, count in structure.groups:
        if not cone.polyhedral:
            at = v[:, start : start + count * cone.dim].reshape(-1, cone.dim)
            far = (cone.dual_violation if dual else cone.violation)(at).reshape(len(v), -1)
            inside &= far.max(axis=-1, initial=0.0) <= INSIDE * most
    return inside


def _length(batch: ProgramBatch) -> Floats:
    """(B or 1, 1) the length of the programs, 1 where the data have none."""
    data = batch.sizes
    steepness, curvature = np.broadcast_arrays(data.steepness, data.curvature)
    own = np.divide(steepness, curvature, where=curvature > 0.0, out=np.zeros(np.shape(steepness)))
    length = np.maximum(data.reach, own)
    return np.where(length > 0.0, length, 1.0)


def _flat_rows(P: Floats) -> Floats:
    """(B or 1, n, n) rows that hold the directions in which P is flat: R with R'R = P, by
    eigenvalues, so that none depends on the others; rows of 0 are left."""
    values, vectors = np.linalg.eigh(P)
    kept = values > 1e-12 * np.maximum.reduce(values, axis=-1, keepdims=True, initial=0.0)
    return np.where(kept[..., None], vectors.swapaxes(-1, -2), 0.0)


def to_cone(batch: ProgramBatch, x: Floats) -> Floats:
    """(B, m) the least change of b that puts b - Ax into K at points x (B, n)."""
    structure, free = batch.structure, batch.unbounding
    b = batch.b if free is None else np.where(free, 0.0, batch.b)
    s = b - batch.multiply("A", x)
    inside = np.zeros_like(s)
    for cone, start, count in structure.groups:
        rows = slice(start, start + count * cone.dim)
        at = np.nan_to_num(s[:, rows].reshape(-1, cone.dim))
        inside[:, rows] = cone.project(at).reshape(len(s), -1)
    shift = inside - s
    return shift if free is None else np.where(free, 0.0, shift)
