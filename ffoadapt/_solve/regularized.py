"""Programs that defeat a solver, by a sequence of easy ones: the proximal method of multipliers.

Rank-deficient P, rows that (all but) follow from others, and constraints that hold at one point
only leave a solver without a unique solution, or without an interior, to converge to. Each step of
the method (Rockafellar 1976, Augmented Lagrangians and applications of the proximal point algorithm
in convex programming),

    minimize    1/2 x'Px + q'x + w/2 |x - x_k|^2 + 1/2 |r|^2
    subject to  Ax + s - root(w) r = b - w z_k,   s in K

is strictly convex, has an interior and one primal-dual solution, (x_k+1, z_k+1); these converge to
a solution if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._program.batch import ProgramBatch
from .._program.pattern import Pattern
from .._program.points import Points, Status
from .acceptance import Run, accept
from .conditioning import conditioned
from .feasibility import elastic_program
from .settings import Settings

__all__ = ["solve_in_steps"]

WEIGHTS = 0.1 * 0.5 ** np.arange(24)
"""w of each step, in units in which the numbers of the program are near 1: the first steps are well
conditioned for any solver, the later ones are longer and start near a solution."""

_PLAIN = Settings()


def solve_in_steps(single: ProgramBatch, solve: Run) -> Iterator[Points]:
    """The points after each step, of a batch of one, for as long as ``solve`` solves the steps."""
    units = conditioned(single)
    batch, n, m, structure = units.batch, single.structure.n, single.structure.m, None
    x, z = np.zeros((1, n)), np.zeros((1, m))
    for weight in WEIGHTS.tolist():
        program = regularized(batch, weight)
        structure = structure or program.structure  # the same, so that solvers keep their sessions
        q = np.concatenate((batch.q - weight * x, np.zeros((1, m))), axis=-1)
        program = replace(program, structure=structure, q=q, b=batch.b - weight * z)
        points, _ = accept(program, solve(program), _PLAIN)
        if not points.status[0].solved:
            return
        s = points.s + weight * z - np.sqrt(weight) * points.x[:, n:]
        x, z = points.x[:, :n], points.z
        step = Points(x.copy(), s, z.copy(), [Status.OPTIMAL], list(points.info))
        yield units.restored(step, single)


def regularized(batch: ProgramBatch, weight: float) -> ProgramBatch:
    """The programs of a step from 0: P + wI, and elastic rows."""
    n, m, pattern = batch.structure.n, batch.structure.m, batch.structure.P
    elastic = elastic_program(batch, np.full((1, m), -np.sqrt(weight)))
    if pattern is None:
        P = np.repeat(elastic.P, len(batch.P), axis=0)
        P[:, :n, :n] = batch.P + weight * np.eye(n)
        return replace(elastic, P=P, precision=batch.precision)
    whole = Pattern.of(pattern.matrix(np.ones(pattern.nnz)) + sparse.identity(n))[0]
    one_each = np.arange(1, m + 1, dtype=np.int32)
    P = np.zeros((len(batch.P), whole.nnz))
    P[:, whole.diagonal] = weight
    P[:, np.searchsorted(_order(whole), _order(pattern))] += batch.P
    P = np.concatenate((P, np.ones((len(P), m))), axis=-1)
    both = Pattern(
        (n + m, n + m),
        np.concatenate((whole.indptr, whole.nnz + one_each)),
        np.concatenate((whole.indices, n - 1 + one_each)),
    )
    structure = replace(elastic.structure, P=both)
    return replace(elastic, structure=structure, P=P, precision=batch.precision)


def _order(pattern: Pattern) -> NDArray[np.int64]:
    """(nnz,) numbers that grow with the entries, equal for the same entry of two patterns."""
    return pattern.columns.astype(np.int64) * pattern.shape[0] + pattern.indices
