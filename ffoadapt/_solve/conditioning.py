"""The same program in better units, for solvers that a badly scaled one defeats.

Rows, columns and the objective are multiplied by powers of two, which changes no digit, until the
largest entry of each row and column, the right-hand side and the objective are near 1 (Ruiz 2001, A
scaling algorithm to equilibrate both rows and columns norms in matrices). Equalities that follow
from others are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .._cones import NonnegativeCone, ZeroCone
from .._program.batch import FAR, ProgramBatch, allowance
from .._program.pattern import Pattern
from .._program.points import Points
from .._program.structure import Structure
from .._types import Floats, Ints

__all__ = ["Conditioned", "conditioned", "solve_conditioned"]

SWEEPS = 6
"""Of equilibration; each takes the root of what the largest entries still lack of 1."""

DEPENDENT = 1e-11
"""An equality whose distance from the span of others is below this share of the largest entry of A
follows from them; or below what rounding of the data explains."""


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Programs in other units: with R, C and t powers of two,

        x = C x',  s = s'/R,  z = R z'/t,  for  P' = t CPC,  q' = t Cq,  A' = RAC,  b' = Rb.

    ``rows`` (B, m), ``columns`` (B, n) and ``objective`` (B, 1) are the exponents of R, C and t;
    ``kept`` are the rows of A that are left, None for all; ``freed`` says whether bounds were left
    out because they are far away, or bound nothing.
    """

    batch: ProgramBatch
    rows: Ints
    columns: Ints
    objective: Ints
    kept: NDArray[np.intp] | None = None
    freed: bool = False

    def given(self, points: Points) -> Points:
        """Points of the programs as they were, in these units."""
        x, s = np.ldexp(points.x, -self.columns), np.ldexp(points.s, self.rows)
        z, info = np.ldexp(points.z, self.objective - self.rows), list(points.info)
        return Points(x, s, z, list(points.status), info, points.exact, points.paired)

    def restored(self, points: Points, batch: ProgramBatch) -> Points:
        """The points of the programs ``batch`` in their own units."""
        x, rise = np.ldexp(points.x, self.columns), self.rows - self.objective
        if self.kept is None and not self.freed:
            s, z = np.ldexp(points.s, -self.rows), np.ldexp(points.z, rise)
            flags = points.exact, points.paired
            return Points(x, s, z, points.status, points.info, *flags)
        kept = slice(None) if self.kept is None else self.kept
        z = np.zeros((len(x), batch.structure.m))
        z[:, kept] = np.ldexp(points.z, rise[:, kept])
        s = batch.b - batch.multiply("A", x)
        curved = ~(batch.structure.nonnegative | batch.structure.equality)
        if curved.any():  # the solver's own, which is in the cone
            whole = np.zeros_like(z)
            whole[:, kept] = np.ldexp(points.s, -self.rows[:, kept])
            s[:, curved] = whole[:, curved]
        return Points(x, s, z, points.status, points.info, exact=not curved.any())


def solve_conditioned(solve: Callable[[ProgramBatch], Points], batch: ProgramBatch) -> Points:
    """The points of the programs, by ``solve`` of the same in better units."""
    if batch.structure.dense and batch.structure.equalities:
        singles = (batch.take(slice(i, i + 1)) for i in range(batch.size))
        each = [_independent(_without_far_bounds(conditioned(single))) for single in singles]
        parts = [
            units.restored(solve(units.batch), batch.take(slice(i, i + 1)))
            for i, units in enumerate(each)
        ]
        return Points.join(parts)
    units = _without_far_bounds(conditioned(batch))
    return units.restored(solve(units.batch), batch)


def conditioned(batch: ProgramBatch) -> Conditioned:
    """The programs in units in which their numbers are near 1."""
    size, n, m = batch.size, batch.structure.n, batch.structure.m
    r, c, t = np.zeros((size, m)), np.zeros((size, n)), np.zeros((size, 1))
    log_A, log_P = _logarithms(batch, "A"), _logarithms(batch, "P")
    with np.errstate(divide="ignore"):
        log_b = np.log2(np.abs(np.where(np.isfinite(batch.b), batch.b, 0.0)))
        log_q = np.log2(np.abs(batch.q))
    for _ in range(SWEEPS):
        row, column = _largest(log_A, r, c)
        _, curved = _largest(log_P, c, c)
        r -= 0.5 * _alike(batch.structure, row)
        bent = np.where(np.isfinite(curved), curved + t, -np.inf)
        c -= 0.5 * np.maximum(column, bent).clip(-4096)
        c[~np.isfinite(column) & ~np.isfinite(curved)] = 0.0
        r, c = np.where(np.isfinite(r), r, 0.0), np.where(np.isfinite(c), c, 0.0)
        far = r + log_b
        held = np.maximum.reduce(
            far, axis=-1, keepdims=True, initial=-np.inf, where=~batch.structure.nonnegative
        )
        reach = np.where(np.isfinite(held), held, _middle(far))
        c, r = c + reach, r - reach
        _, curved = _largest(log_P, c, c)
        linear = np.maximum.reduce(c + log_q, axis=-1, keepdims=True, initial=-np.inf)
        quadratic = np.maximum.reduce(curved, axis=-1, keepdims=True, initial=-np.inf)
        t = -_finite(np.maximum(linear, quadratic))
    rows, columns, objective = (np.rint(v).astype(np.int64) for v in (r, c, t))
    structure = batch.structure
    # An empty row with room says nothing, least of all how far away the constraints are.
    idle = structure.nonnegative & ~np.isfinite(row) & (batch.b >= 0.0)
    scaled = ProgramBatch(
        structure if structure.box is None else replace(structure, box=None),
        size,
        _scaled(batch, "P", columns, columns + objective),
        np.ldexp(batch.q, columns + objective),
        _scaled(batch, "A", rows, columns),
        np.where(idle, np.inf, np.ldexp(batch.b, rows)),
        precision=batch.precision,
    )
    return Conditioned(scaled, rows, columns, objective, freed=bool(idle.any()))


def _without_far_bounds(units: Conditioned) -> Conditioned:
    """Without the bounds beyond `DataSizes.farthest`: solvers lose themselves out there. Whether
    the solution keeps to them is seen when it is judged."""
    batch = units.batch
    far = batch.structure.nonnegative & (batch.b > FAR * batch.sizes.farthest * batch.norms)
    if not (far & np.isfinite(batch.b)).any():
        return units
    return replace(units, batch=replace(batch, b=np.where(far, np.inf, batch.b)), freed=True)


def _independent(units: Conditioned) -> Conditioned:
    """Without the equalities of a single dense program that follow from others, and without the
    inequalities that say nothing where these hold: their rows are combinations of those, but for
    rounding, and no solver can tell where they would meet. Whether the solution keeps to all of
    them is seen when it is judged."""
    batch, structure = units.batch, units.batch.structure
    at = np.flatnonzero(structure.equality)
    A = batch.A[0, at]
    if not at.size or not np.isfinite(A).all():
        return units
    Q, R, order = linalg.qr(A.T, mode="economic", pivoting=True)
    least = max(DEPENDENT, allowance(batch.precision)) * np.abs(A).max()
    rank = int(np.count_nonzero(np.abs(np.diag(R)) > least))
    rows, along = batch.A[0], Q[:, :rank]
    beyond = np.abs(rows - (rows @ along) @ along.T).max(axis=-1, initial=0.0)
    dropped = structure.nonnegative & (beyond <= least) & np.abs(rows).any(axis=-1)
    dropped[at[order[rank:]]] = True
    if not dropped.any():
        return units
    kept, cones = np.flatnonzero(~dropped), []
    for start, cone in zip(structure.offsets, structure.cones, strict=True):
        gone = int(np.count_nonzero(dropped[start : start + cone.dim]))
        linear = ZeroCone if isinstance(cone, ZeroCone) else NonnegativeCone
        cones.append(linear(cone.dim - gone) if gone else cone)
    less = Structure(structure.n, kept.size, tuple(cones))
    data = batch.P, batch.q, batch.A[:, kept], batch.b[:, kept]
    batch = ProgramBatch(less, 1, *data, precision=batch.precision)
    return replace(units, batch=batch, kept=kept)


def _logarithms(batch: ProgramBatch, name: str) -> tuple[Pattern | None, Floats]:
    """log2 of the magnitudes of P or A."""
    with np.errstate(divide="ignore"):
        return getattr(batch.structure, name), np.log2(np.abs(getattr(batch, name)))


def _largest(matrix: tuple[Pattern | None, Floats], r: Floats, c: Floats) -> tuple[Floats, Floats]:
    """(B, rows) and (B, columns) the largest entries with exponents r (B, rows), c (B, columns)."""
    pattern, values = matrix
    if pattern is None:
        scaled = values + r[..., None] + c[..., None, :]
        return tuple(np.maximum.reduce(scaled, axis=axis, initial=-np.inf) for axis in (-1, -2))
    row, column = np.full(r.shape, -np.inf), np.full(c.shape, -np.inf)
    columns = pattern.columns
    for i in range(len(r)):
        at = values[i if len(values) > 1 else 0]
        scaled = at + r[i, pattern.indices] + c[i, columns]
        np.maximum.at(row[i], pattern.indices, scaled)
        np.maximum.at(column[i], columns, scaled)
    return row, column


def _scaled(batch: ProgramBatch, name: str, rows: Ints, columns: Ints) -> Floats:
    pattern: Pattern | None = getattr(batch.structure, name)
    values: Floats = getattr(batch, name)
    if pattern is None:
        return np.ldexp(values, rows[..., None] + columns[..., None, :])
    return np.ldexp(values, rows[:, pattern.indices] + columns[:, pattern.columns])


def _alike(structure: Structure, row: Floats) -> Floats:
    """The largest of its rows for each block of a curved cone: its rows share a unit."""
    for cone, start, count in structure.groups:
        if not cone.polyhedral:
            block = row[:, start : start + count * cone.dim].reshape(len(row), count, cone.dim)
            block[:] = block.max(axis=-1, keepdims=True)
    return row


def _middle(values: Floats) -> Floats:
    """(B, 1) the median of the finite values in each row, 0 without any: constraints far away do
    not say how long a program is."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=-1)
    count = np.count_nonzero(np.isfinite(ordered), axis=-1)
    if not count.any():
        return np.zeros((len(values), 1))
    middle = ordered[np.arange(len(values)), np.maximum(count - 1, 0) // 2]
    return np.where(count > 0, middle, 0.0)[:, None]


def _finite(values: Any) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)
