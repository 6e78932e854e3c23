"""``infeasible="closest"``: in the place of an infeasible program, the closest feasible one.

Its right-hand side is b - t, where t is the least change, in the sense of least squares, that makes
the constraints feasible:

    t = argmin 1/2 |t|^2   subject to   b - t - Ax in K for some x.

So with Gx <= h bounds are raised, equations get the residual of least squares, and what need not
change does not. As a projection t is unique and depends on b without jumps. The gradient is that
of both steps: by b - t of the solution, and through t by b and A, at the x of the solution. Where
the first step leaves x open, a change of A may decide it, and the solution jump: by A there is then
no derivative, and this is that of t at the x given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._oracle.gradient import Adjoint, Oracle
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._types import Floats
from .feasibility import elastic_program

__all__ = ["Closest", "closest", "recovered"]


DOUBTFUL = frozenset({Status.PRIMAL_INFEASIBLE, Status.ITERATION_LIMIT})
"""Programs that may be infeasible: those that are so by a little are not always proved to be."""

VIOLATED = 1e-6
"""Points that violate a row by more, beside the largest row, are those of other programs."""


@dataclass(frozen=True, eq=False)
class Closest:
    """The programs in whose place others were solved.

    Attributes
    ----------
    elements
        (k,) bool for each element of the batch: whether it was infeasible.
    shift
        (B, m) t, 0 for the others.
    oracle
        Derivatives of (x, t) at the solutions.
    """

    elements: NDArray[np.bool_]
    shift: Floats
    oracle: Oracle

    def vjp(self, batch: ProgramBatch, points: Points, zeta: Floats) -> Adjoint:
        """What the gradient zeta (..., B, m) by b - t adds to that by A and b, through t."""
        v = np.where(self.elements[:, None], -zeta, 0.0)
        lead = v.shape[:-1]
        n = batch.structure.n
        inner = self.oracle.vjp(np.concatenate((np.zeros((*lead, n)), v), axis=-1), None, None)
        at = Points(points.x, points.s, -self.shift, points.status, points.info)
        x = np.where(self.elements[:, None], points.x, 0.0)
        return _ShiftAdjoint(batch, replace(at, x=x), inner.w[..., :n], inner.zeta)

    def jvp(self, batch: ProgramBatch, moved: Mapping[str, Floats]) -> Mapping[str, Floats]:
        """The tangents of the programs that were solved, from those of the data as they came."""
        given = {name: v for name, v in moved.items() if name in ("A", "b")}
        if not given:
            return moved
        if "A" in given:
            A, m = given["A"], batch.structure.m
            shape = (*A.shape[:-1], m) if batch.structure.A is None else (len(A), m)
            given["A"] = np.concatenate((A, np.zeros(shape)), axis=-1)
        change = self.oracle.jvp(given)[0][:, batch.structure.n :]
        return {**moved, "b": moved.get("b", 0.0) - np.where(self.elements[:, None], change, 0.0)}


class _ShiftAdjoint(Adjoint):
    """The gradient of a search that has no objective by P and q: these are 0."""

    def __getitem__(self, name: str) -> Floats:
        gradient = super().__getitem__(name)
        return np.zeros_like(gradient) if name in ("P", "q") else gradient


def closest(
    solutions: Callable[[ProgramBatch], Points], batch: ProgramBatch, points: Points
) -> tuple[ProgramBatch, Points, Oracle, Closest] | None:
    """The batch with the closest feasible programs in the place of infeasible ones, its solutions
    and derivatives; None where all are feasible, or no closest one is found.

    ``solutions`` solves batches of programs.
    """
    at = np.array([status in DOUBTFUL for status in points.status])
    if not at.any() or np.isneginf(batch.b).any():
        return None
    some = np.flatnonzero(at)
    search = elastic_program(batch, np.ones((1, batch.structure.m)))
    searched = solutions(search.take(some))
    done = searched.solved
    some, n, size = some[done], batch.structure.n, batch.size
    shift = np.zeros((size, batch.structure.m))
    shift[some] = _uncrossed(batch, searched.x[done, n:], some)
    some = some[shift[some].any(axis=-1)]
    if not some.size:
        return None
    moved = batch.shifted(-shift)
    again = solutions(moved.take(some))
    x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
    status, info = list(points.status), list(points.info)
    x[some], s[some], z[some] = again.x, again.s, again.z
    for k, i in enumerate(some.tolist()):
        status[i] = again.status[k]
        info[i] = {**again.info[k], "closest": float(np.linalg.norm(shift[i]))}
    points = Points(x, s, z, status, info)
    there = np.zeros(size, dtype=bool)
    there[some] = [status[i].solved for i in some.tolist()]
    return moved, points, Oracle(moved, points), _closest_at(search, points, there, shift)


def recovered(batch: ProgramBatch, points: Points) -> tuple[ProgramBatch, Closest] | None:
    """The same from the points alone: by how much they violate the programs as they came."""
    structure, solved = batch.structure, points.solved
    x, s = (np.where(solved[:, None], v, 0.0) for v in (points.x, points.s))
    product = batch.multiply("A", x)
    if structure.box is None:
        shift = batch.b - product - s
    else:  # s is b - Ax there, and not in the cone
        shift = np.where(structure.equality, s, np.minimum(s, 0.0))
    shift = np.where(np.isfinite(batch.b), shift, 0.0)
    sizes = np.abs(np.where(np.isfinite(batch.b), batch.b, 0.0)) + np.abs(product)
    there = solved & (np.abs(shift) > VIOLATED * sizes.max(axis=-1, keepdims=True)).any(axis=-1)
    if not there.any():
        return None
    shift = np.where(there[:, None], shift, 0.0)
    if structure.box is not None:
        points.s -= shift
    search = elastic_program(batch, np.ones((1, structure.m)))
    return batch.shifted(-shift), _closest_at(search, points, there, shift)


def _closest_at(
    search: ProgramBatch, points: Points, there: NDArray[np.bool_], shift: Floats
) -> Closest:
    x, s = (np.where(there[:, None], v, 0.0) for v in (points.x, points.s))
    status = [Status.OPTIMAL if on else Status.ERROR for on in there]
    inner = Points(np.concatenate((x, shift), axis=-1), s, -shift, status, [{}] * len(there))
    return Closest(there, shift, Oracle(search, inner))


def _uncrossed(batch: ProgramBatch, shift: Floats, some: NDArray[np.intp]) -> Floats:
    """The shift (k, m) of these elements, by rounding more where l <= Ax <= u would cross."""
    rows = batch.structure.box
    if rows is None:
        return shift
    upper, lower = rows.pairs
    b = np.broadcast_to(batch.b, (batch.size, batch.structure.m))[some] - shift
    crossed = np.maximum(-(b[:, upper] + b[:, lower]), 0.0)
    shift = shift.copy()
    shift[:, upper] -= 0.5 * crossed
    shift[:, lower] -= 0.5 * crossed
    return shift
