"""A program with bounds on its rows: l <= Ax <= u."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._oracle.gradient import Adjoint, reduce_batch
from .._program.batch import BoxData, ProgramBatch
from .._program.pattern import Pattern
from .._program.structure import BoxRows, Structure, polyhedral_cones
from .._types import Floats
from .matrix_model import MatrixModel, join, or_zero

__all__ = ["BoxModel"]

CROSSED = 0.1
"""Bounds that cross by this share of their size may do so by rounding, in some type of number."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The canonical rows of a box program: where they come from, and what follows from that.

    ``entries`` are (which entry of A, with which sign) for each canonical one; None for dense A.
    """

    key: bytes
    rows: BoxRows
    structure: Structure
    entries: list[Any] | None

    def stacked(self, A: Floats) -> Floats:
        """The canonical matrix of the stated one, each with its leading axis."""
        if self.entries is not None:
            entry, sign = self.entries
            return A[:, entry] * sign
        rows = self.rows
        parts = A[:, rows.equal], A[:, rows.upper], -A[:, rows.lower]
        return np.concatenate(parts, axis=-2)


@dataclass(eq=False)
class BoxModel(MatrixModel):
    """l <= Ax <= u: parameters P, q, A, l, u; outputs x, y.

    Which rows are equalities or have an infinite side depends on the numbers, so the program of
    each call has a structure of its own; `structure` is that of the rows as they are stated. An
    equality's gradient goes to the bound that its multiplier pushes at.
    """

    m: int

    _latest: _Layout | None = field(default=None, init=False, repr=False)

    names = ("P", "q", "A", "l", "u")
    unbounded = frozenset({"l", "u"})
    box = True

    def __post_init__(self) -> None:
        n, m, cones, patterns = self.n, self.m, polyhedral_cones(0, self.m), self.patterns
        structure = Structure(n, m, cones, patterns.get("P"), patterns.get("A"))
        self._set(structure, {"A": m, "l": m, "u": m}, {"x": n, "y": m})

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        P, q, A, lower, upper = values
        crossed = None
        if (lower > upper).any():
            lower, upper, crossed = _uncrossed(lower, upper)
        equal = np.logical_and.reduce(lower == upper, axis=0)
        free = ~equal
        bounded = free & (upper < np.inf).any(axis=0), free & (lower > -np.inf).any(axis=0)
        layout = self._layout(equal, *bounded)
        rows = layout.rows
        b = join(upper[:, np.concatenate((rows.equal, rows.upper))], -lower[:, rows.lower], -1)
        box = BoxData(self.patterns.get("A"), A, lower, upper, crossed)
        return ProgramBatch(layout.structure, size, P, q, layout.stacked(A), b, box=box)

    def _layout(self, *sides: NDArray[np.bool_]) -> _Layout:
        """The canonical rows where these are equalities, upper and lower bounds.

        The latest is kept: patterns and the solver's session belong to a structure.
        """
        key, latest = np.packbits(sides).tobytes(), self._latest
        if latest is not None and latest.key == key:
            return latest
        equal, upper, lower = map(np.flatnonzero, sides)
        rows = BoxRows(equal, upper, lower, self.m)
        m = rows.equal.size + rows.upper.size + rows.lower.size
        cones = polyhedral_cones(rows.equal.size, m - rows.equal.size)
        pattern, stacked, entries = self.patterns.get("A"), None, None
        if pattern is not None:
            stacked, *entries = _selected(pattern, rows)
        structure = Structure(self.n, m, cones, self.patterns.get("P"), stacked, box=rows)
        layout = self._latest = _Layout(key, rows, structure, entries)
        return layout

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        P, q, A, lower, upper = values
        return self._filled(xp, "P", P), q, self._filled(xp, "A", A), lower, upper

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        return [x, y]

    def program_vjp(self, gradient: Any, needed: Sequence[bool]) -> list[Floats | None]:
        adjoint: Adjoint = gradient
        rows, box = _sides(adjoint.batch)
        results: list[Floats | None] = []
        for name, on in zip(self.names, needed, strict=True):
            if not on:
                results.append(None)
            elif name in ("P", "q"):
                results.append(adjoint[name])
            elif name == "A":
                y, eta = rows.fold(adjoint.z), rows.fold(adjoint.zeta)
                results.append(adjoint.matrix(box.pattern, box.A.shape[0], y, eta))
            else:
                bound = box.upper if name == "u" else box.lower
                gradient_b = _bound_gradient(rows, adjoint.z, adjoint.zeta, name == "u")
                results.append(reduce_batch(gradient_b, bound.shape[0]))
        return results

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        P, q, A, lower, upper = tangents
        rows, _ = _sides(batch)
        moved = {k: t for k, t in (("P", P), ("q", q)) if t is not None}
        if A is not None:
            moved["A"] = self._layout(*rows.sides).stacked(A)
        if lower is not None or upper is not None:
            down, up = or_zero(lower, (self.m,)), or_zero(upper, (self.m,))
            z_equal = z[..., : rows.equal.size]
            at_equal = np.where(z_equal >= 0.0, up[:, rows.equal], down[:, rows.equal])
            moved["b"] = join(join(at_equal, up[:, rows.upper], -1), -down[:, rows.lower], -1)
        return moved

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        return [x, _sides(batch)[0].fold(z)]

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, y = cotangents
        return x, None, None if y is None else _sides(batch)[0].unfold(y)


def _sides(batch: ProgramBatch) -> tuple[BoxRows, BoxData]:
    """Where the canonical rows of a box program come from, and its data as stated."""
    assert batch.structure.box is not None and batch.box is not None
    return batch.structure.box, batch.box


def _uncrossed(lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    """The bounds, with the mean of both where they cross by so little that it may be rounding, and
    by how much they did, relative to the larger."""
    with np.errstate(invalid="ignore"):
        gap, size = lower - upper, np.maximum(np.abs(lower), np.abs(upper))
        slightly = (gap > 0.0) & (gap <= CROSSED * size) & np.isfinite(size)
        middle = lower - 0.5 * gap
    crossed = np.divide(gap, size, out=np.zeros_like(gap), where=slightly)
    return np.where(slightly, middle, lower), np.where(slightly, middle, upper), crossed


def _bound_gradient(rows: BoxRows, z: Floats, zeta: Floats, at_upper: bool) -> Floats:
    """The gradient (..., B, m) of u, or of l."""
    gradient = np.zeros((*zeta.shape[:-1], rows.rows))
    j, k = rows.equal.size, rows.equal.size + rows.upper.size
    pushed = z[..., :j] >= 0.0
    gradient[..., rows.equal] = np.where(pushed if at_upper else ~pushed, zeta[..., :j], 0.0)
    if at_upper:
        gradient[..., rows.upper] = zeta[..., j:k]
    else:
        gradient[..., rows.lower] = -zeta[..., k:]
    return gradient


def _selected(pattern: Pattern, rows: BoxRows) -> tuple[Pattern, NDArray[np.int32], Floats]:
    """The canonical pattern of a box program, and its entries as (entry, sign) of the stated A."""
    numbered = pattern.matrix(np.arange(1.0, pattern.nnz + 1.0)).tocsr()  # a 0 would be dropped
    picked = sparse.vstack([numbered[rows.equal], numbered[rows.upper], -numbered[rows.lower]])
    canonical, values = Pattern.of(picked)
    return canonical, np.abs(values).astype(np.int32) - np.int32(1), np.sign(values)
