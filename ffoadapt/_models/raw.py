"""Programs given by their matrices: the three ways of writing them as parametric programs.

Each maps the user's data (P, q and the constraint data of its form) to the canonical program and
cotangents back. Matrices are dense, (n, n) and so on, or `Pattern`s whose values are the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._cones import Cone
from .._exceptions import ProblemError
from .._oracle.gradient import Adjoint, reduce_batch
from .._program.batch import BoxData, ProgramBatch
from .._program.pattern import Pattern
from .._program.structure import BoxRows, Structure, polyhedral_cones
from .._runtime import blas
from .._runtime.memory import empty
from .._types import Floats, Shape

__all__ = ["BoxModel", "ConeModel", "RawModel", "SplitModel"]


CROSSED = 0.1
"""Bounds that cross by this share of their size may do so by rounding, in some type of number."""


@dataclass(eq=False)
class RawModel:
    """What the three forms share. ``patterns`` holds the patterns of sparse matrices by name."""

    n: int
    patterns: Mapping[str, Pattern]

    def _shape(self, name: str, rows: int) -> Shape:
        pattern = self.patterns.get(name)
        return (rows, self.n) if pattern is None else (pattern.nnz,)

    #: parameters that may hold infinities (bounds)
    unbounded: ClassVar[frozenset[str]] = frozenset()
    declares: ClassVar[bool] = False

    def objective(self, values: Sequence[Floats], canonical: Floats) -> Floats:
        return canonical

    #: P is the user's: whether it is semidefinite is to be checked
    convex: ClassVar[bool] = False

    @property
    def dense(self) -> bool:
        """Whether matrices are given as such, not on patterns."""
        return not self.patterns

    def _filled(self, xp: Any, name: str, values: Any) -> Any:
        """The matrix of one element, dense, in the arrays of the namespace ``xp``."""
        pattern = self.patterns.get(name)
        return values if pattern is None else pattern.filled(xp, values)

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        """The outputs of one element, see `TracedSolve`."""
        return self.retrieve(x, s, y, None)  # type: ignore[attr-defined]

    def check(self, values: Sequence[Floats], precision: Sequence[float] | None = None) -> None:
        """Nothing to say of the values one by one."""


@dataclass(eq=False)
class ConeModel(RawModel):
    """Ax + s = b, s in K, as it is: parameters P, q, A, b; outputs x, s, z."""

    cones: tuple[Cone, ...]
    m: int

    names = ("P", "q", "A", "b")
    unbounded = frozenset({"b"})

    def check(self, values: Sequence[Floats], precision: Sequence[float] | None = None) -> None:
        if blas.finite(values[3]):
            return
        kinds = np.array([cone.kind == "nonnegative" for cone in self.cones], dtype=bool)
        bounds = np.repeat(kinds, np.array([cone.dim for cone in self.cones], dtype=int))
        bad = np.argwhere(np.isinf(values[3]) & ~bounds)
        if bad.size:
            element = f" of batch element {bad[0][0]}" if values[3].shape[0] > 1 else ""
            raise ProblemError(
                f"b holds {values[3][tuple(bad[0])]} at index {bad[0][1]}{element}; only rows in "
                "nonnegative cones may be infinite (no bound). Leave the cone out instead"
            )

    @cached_property
    def structure(self) -> Structure:
        return Structure(self.n, self.m, self.cones, self.patterns.get("P"), self.patterns.get("A"))

    @cached_property
    def parameters(self) -> list[tuple[str, Shape]]:
        shapes = (self._shape("P", self.n), (self.n,), self._shape("A", self.m), (self.m,))
        return list(zip(self.names, shapes, strict=True))

    @cached_property
    def outputs(self) -> list[tuple[str, Shape]]:
        return [("x", (self.n,)), ("s", (self.m,)), ("z", (self.m,))]

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        P, q, A, b = values
        return ProgramBatch(self.structure, size, P, q, A, b)

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        """P, q, A, l, u of one element, see `TracedSolve`."""
        P, q, A, b = values
        lower = xp.where(self.structure.equality, b, -np.inf)
        return self._filled(xp, "P", P), q, self._filled(xp, "A", A), lower, b

    def program_vjp(
        self, gradient: Mapping[str, Floats], needed: Sequence[bool]
    ) -> list[Floats | None]:
        return [gradient[k] if on else None for k, on in zip(self.names, needed, strict=True)]

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        return {k: t for k, t in zip(self.names, tangents, strict=True) if t is not None}

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        return [x, s, z]

    retrieve_jvp = retrieve

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, s, z = cotangents
        return x, s, z


@dataclass(eq=False)
class SplitModel(RawModel):
    """Gx <= h, Ax = b: parameters P, q, G, h, A, b; outputs x, z_ineq, y_eq."""

    inequalities: int
    equalities: int

    names = ("P", "q", "G", "h", "A", "b")
    unbounded = frozenset({"h"})

    @cached_property
    def _stacked(self) -> tuple[Pattern, NDArray[np.int32]] | None:
        """The pattern of [A; G], and where in (values of A, values of G) its entries are."""
        if "A" not in self.patterns:
            return None
        return stack([self.patterns["A"], self.patterns["G"]])

    @cached_property
    def structure(self) -> Structure:
        p, k = self.equalities, self.inequalities
        A = self._stacked and self._stacked[0]
        return Structure(self.n, p + k, polyhedral_cones(p, k), self.patterns.get("P"), A)

    @cached_property
    def parameters(self) -> list[tuple[str, Shape]]:
        k, p = self.inequalities, self.equalities
        shapes = (
            self._shape("P", self.n),
            (self.n,),
            self._shape("G", k),
            (k,),
            self._shape("A", p),
            (p,),
        )
        return list(zip(self.names, shapes, strict=True))

    @cached_property
    def outputs(self) -> list[tuple[str, Shape]]:
        return [("x", (self.n,)), ("z_ineq", (self.inequalities,)), ("y_eq", (self.equalities,))]

    def _join(self, A: Floats, G: Floats) -> Floats:
        if self._stacked is not None:
            return join(A, G, axis=-1)[..., self._stacked[1]]
        return join(A, G, axis=-2)

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        P, q, G, h, A, b = values
        return ProgramBatch(self.structure, size, P, q, self._join(A, G), join(b, h, axis=-1))

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        """P, q, A, l, u of one element, see `TracedSolve`."""
        P, q, G, h, A, b = values
        rows = xp.concatenate((self._filled(xp, "A", A), self._filled(xp, "G", G)))
        lower = xp.concatenate((b, xp.full(self.inequalities, -np.inf)))
        return self._filled(xp, "P", P), q, rows, lower, xp.concatenate((b, h))

    def program_vjp(self, gradient: Any, needed: Sequence[bool]) -> list[Floats | None]:
        adjoint: Adjoint = gradient
        P, q, G, h, A, b = needed
        equal, less = slice(0, self.equalities), slice(self.equalities, None)
        if G and A and self.dense and adjoint.batch.size == 1:  # one product for both
            both = adjoint.matrix(None, 1, adjoint.z, adjoint.zeta)
            matrices: list[Floats | None] = [both[..., less, :], both[..., equal, :]]
        else:
            matrices = [
                self._rows_vjp("G", adjoint, less) if G else None,
                self._rows_vjp("A", adjoint, equal) if A else None,
            ]
        count = adjoint.batch.b.shape[0]
        return [
            adjoint["P"] if P else None,
            adjoint["q"] if q else None,
            matrices[0],
            reduce_batch(adjoint.zeta[..., less], count) if h else None,
            matrices[1],
            reduce_batch(adjoint.zeta[..., equal], count) if b else None,
        ]

    def _rows_vjp(self, name: str, adjoint: Adjoint, rows: slice) -> Floats:
        """The gradient of G or A, which are these rows."""
        z, zeta = adjoint.z[..., rows], adjoint.zeta[..., rows]
        return adjoint.matrix(self.patterns.get(name), adjoint.batch.A.shape[0], z, zeta)

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        P, q, G, h, A, b = tangents
        shapes = dict(self.parameters)
        found = {k: t for k, t in (("P", P), ("q", q)) if t is not None}
        if G is not None or A is not None:
            found["A"] = self._join(_or_zero(A, shapes["A"]), _or_zero(G, shapes["G"]))
        if h is not None or b is not None:
            found["b"] = join(_or_zero(b, shapes["b"]), _or_zero(h, shapes["h"]), axis=-1)
        return found

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        return [x, z[..., self.equalities :], z[..., : self.equalities]]

    retrieve_jvp = retrieve

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, z_ineq, y_eq = cotangents
        if z_ineq is None and y_eq is None:
            return x, None, None
        lead = (z_ineq if z_ineq is not None else y_eq).shape[:-1]  # type: ignore[union-attr]
        z = np.zeros((*lead, self.equalities + self.inequalities))
        if y_eq is not None:
            z[..., : self.equalities] = y_eq
        if z_ineq is not None:
            z[..., self.equalities :] = z_ineq
        return x, None, z


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
class BoxModel(RawModel):
    """l <= Ax <= u: parameters P, q, A, l, u; outputs x, y.

    Which rows are equalities or have an infinite side depends on the numbers, so every call finds
    its own structure. An equality's gradient goes to the bound that its multiplier pushes at.
    """

    m: int

    _latest: _Layout | None = field(default=None, init=False, repr=False)

    names = ("P", "q", "A", "l", "u")
    unbounded = frozenset({"l", "u"})

    @cached_property
    def stated(self) -> Structure:
        """That of the rows as they are stated, whatever their bounds are."""
        cones = polyhedral_cones(0, self.m)
        return Structure(self.n, self.m, cones, self.patterns.get("P"), self.patterns.get("A"))

    @cached_property
    def parameters(self) -> list[tuple[str, Shape]]:
        m = self.m
        shapes = (self._shape("P", self.n), (self.n,), self._shape("A", m), (m,), (m,))
        return list(zip(self.names, shapes, strict=True))

    @cached_property
    def outputs(self) -> list[tuple[str, Shape]]:
        return [("x", (self.n,)), ("y", (self.m,))]

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
        key = np.packbits(sides).tobytes()
        found = self._latest
        if found is None or found.key != key:
            equal, upper, lower = map(np.flatnonzero, sides)
            rows = BoxRows(equal, upper, lower, self.m)
            m = rows.equal.size + rows.upper.size + rows.lower.size
            cones = polyhedral_cones(rows.equal.size, m - rows.equal.size)
            pattern, stacked, entries = self.patterns.get("A"), None, None
            if pattern is not None:
                stacked, *entries = select(pattern, rows)
            structure = Structure(self.n, m, cones, self.patterns.get("P"), stacked, box=rows)
            found = self._latest = _Layout(key, rows, structure, entries)
        return found

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        """P, q, A, l, u of one element, see `TracedSolve`."""
        P, q, A, lower, upper = values
        return self._filled(xp, "P", P), q, self._filled(xp, "A", A), lower, upper

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        return [x, y]

    def program_vjp(self, gradient: Any, needed: Sequence[bool]) -> list[Floats | None]:
        adjoint: Adjoint = gradient
        batch = adjoint.batch
        rows, box = batch.structure.box, batch.box
        assert rows is not None and box is not None
        results: list[Floats | None] = []
        for name, on in zip(self.names, needed, strict=True):
            if not on:
                results.append(None)
            elif name in ("P", "q"):
                results.append(adjoint[name])
            elif name == "A":
                y, eta = rows.fold(adjoint.z), rows.fold(adjoint.zeta)
                lead = box.A.shape[0]
                results.append(adjoint.matrix(box.pattern, lead, y, eta))
            else:
                at_upper = name == "u"
                grad = _bound_gradient(rows, adjoint.z, adjoint.zeta, at_upper)
                results.append(reduce_batch(grad, (box.upper if at_upper else box.lower).shape[0]))
        return results

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        P, q, A, lower, upper = tangents
        rows = batch.structure.box
        assert rows is not None
        found = {k: t for k, t in (("P", P), ("q", q)) if t is not None}
        if A is not None:
            found["A"] = self._layout(*rows.sides).stacked(A)
        if lower is not None or upper is not None:
            down, up = _or_zero(lower, (self.m,)), _or_zero(upper, (self.m,))
            z_equal = z[..., : rows.equal.size]
            at_equal = np.where(z_equal >= 0.0, up[:, rows.equal], down[:, rows.equal])
            found["b"] = join(join(at_equal, up[:, rows.upper], -1), -down[:, rows.lower], -1)
        return found

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        assert batch.structure.box is not None
        return [x, batch.structure.box.fold(z)]

    retrieve_jvp = retrieve

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, y = cotangents
        assert batch.structure.box is not None
        return x, None, None if y is None else batch.structure.box.unfold(y)


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
    grad = np.zeros((*zeta.shape[:-1], rows.rows))
    j, k = rows.equal.size, rows.equal.size + rows.upper.size
    pushed = z[..., :j] >= 0.0
    grad[..., rows.equal] = np.where(pushed if at_upper else ~pushed, zeta[..., :j], 0.0)
    if at_upper:
        grad[..., rows.upper] = zeta[..., j:k]
    else:
        grad[..., rows.lower] = -zeta[..., k:]
    return grad


def join(first: Floats, second: Floats, axis: int) -> Floats:
    """Concatenate along a core axis, broadcasting the leading axis; no copy where one is empty."""
    if second.shape[axis] == 0 and second.shape[0] == 1:
        return first
    if first.shape[axis] == 0 and first.shape[0] == 1:
        return second
    if first.shape[0] != second.shape[0]:
        size = second.shape[0] if first.shape[0] == 1 else first.shape[0]  # which may be 0
        first = np.broadcast_to(first, (size, *first.shape[1:]))
        second = np.broadcast_to(second, (size, *second.shape[1:]))
    shape = list(first.shape)
    shape[axis] += second.shape[axis]
    return np.concatenate((first, second), axis=axis, out=empty(*shape))


def stack(patterns: Sequence[Pattern]) -> tuple[Pattern, NDArray[np.int32]]:
    """The pattern of the matrices stacked by rows, and the order of their values in it."""
    starts = np.cumsum([0, *(p.nnz for p in patterns)])
    numbered = [
        # Numbered from 1: a value of 0 would be dropped.
        p.matrix(np.arange(start + 1.0, start + p.nnz + 1.0))
        for p, start in zip(patterns, starts, strict=False)
    ]
    pattern, values = Pattern.of(sparse.vstack(numbered))
    return pattern, values.astype(np.int32) - np.int32(1)


def select(pattern: Pattern, rows: BoxRows) -> tuple[Pattern, NDArray[np.int32], Floats]:
    """The canonical pattern of a box program, and its entries as (entry, sign) of the stated A."""
    numbered = pattern.matrix(np.arange(1.0, pattern.nnz + 1.0)).tocsr()
    picked = sparse.vstack([numbered[rows.equal], numbered[rows.upper], -numbered[rows.lower]])
    found, values = Pattern.of(picked)
    return found, np.abs(values).astype(np.int32) - np.int32(1), np.sign(values)


def _or_zero(tangent: Floats | None, shape: Shape) -> Floats:
    return np.zeros((1, *shape)) if tangent is None else tangent
