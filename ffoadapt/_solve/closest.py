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
from scipy import sparse

from .._oracle.gradient import Adjoint, Oracle
from .._program.batch import ProgramBatch
from .._program.pattern import Pattern
from .._program.points import Points, Status
from .._program.structure import Structure
from .._types import Floats

__all__ = ["Closest", "closest", "recovered", "refused"]


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
        found = self.oracle.vjp(np.concatenate((np.zeros((*lead, n)), v), axis=-1), None, None)
        at = Points(points.x, points.s, -self.shift, points.status, points.info)
        x = np.where(self.elements[:, None], points.x, 0.0)
        return _ShiftAdjoint(batch, replace(at, x=x), found.w[..., :n], found.zeta)

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
        found = super().__getitem__(name)
        return np.zeros_like(found) if name in ("P", "q") else found


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
    search = search_program(batch)
    found = solutions(search.take(some))
    done = np.array([status.solved for status in found.status], dtype=bool)
    some, n, size = some[done], batch.structure.n, batch.size
    shift = np.zeros((size, batch.structure.m))
    shift[some] = _uncrossed(batch, found.x[done, n:], some)
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
    at = _closest_at(search_program(batch), points, there, shift)
    return batch.shifted(-shift), at


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


def search_program(batch: ProgramBatch) -> ProgramBatch:
    """min 1/2 |t|^2 over (x, t) with Ax + t + s = b, s in K."""
    structure, size = batch.structure, batch.size
    n, m = structure.n, structure.m
    q = np.zeros((1, n + m))
    if structure.A is None:
        P = np.zeros((1, n + m, n + m))
        P[0, range(n, n + m), range(n, n + m)] = 1.0
        eye = np.broadcast_to(np.eye(m), (len(batch.A), m, m))
        shape = Structure(n + m, m, structure.cones)
        return ProgramBatch(shape, size, P, q, np.concatenate((batch.A, eye), axis=-1), batch.b)
    rows = np.arange(n, n + m)
    P_pattern, P_values = Pattern.of(
        sparse.csc_matrix((np.ones(m), (rows, rows)), shape=(n + m, n + m))
    )
    pattern, one_each = structure.A, np.arange(m + 1, dtype=np.int32)
    A_pattern = Pattern(
        (m, n + m),
        np.concatenate((pattern.indptr, pattern.nnz + one_each[1:])),
        np.concatenate((pattern.indices, one_each[:-1])),
    )
    A = np.concatenate((batch.A, np.ones((len(batch.A), m))), axis=-1)
    shape = Structure(n + m, m, structure.cones, P_pattern, A_pattern)
    return ProgramBatch(shape, size, P_values[None], q, A, batch.b)


def refused(points: Points, on_failure: str, infeasible: str | None) -> Points | None:
    """The points as those are to be told of that raise; None where nothing raises."""
    raises = {
        True: (on_failure if infeasible in (None, "closest") else infeasible) == "raise",
        False: on_failure == "raise",
    }
    if not any(raises.values()):
        return None
    status = [
        one if raises[one is Status.PRIMAL_INFEASIBLE] else Status.OPTIMAL for one in points.status
    ]
    return replace(points, status=status)
