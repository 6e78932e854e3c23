"""Proofs that programs have no solution, or the nearest programs that have one.

Each is found with whichever installed solver can, and checked against the data (`feasibility`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._oracle.acceptance import UNSEEN
from .._program.batch import ProgramBatch, allowance
from .._types import Floats
from .acceptance import Run, accept
from .feasibility import is_refutation, nearest_program, ray_program, to_cone
from .settings import Settings

__all__ = ["Verdict", "prove_infeasible", "prove_unbounded"]

Mask = NDArray[np.bool_]

Look = Callable[[ProgramBatch, Run], tuple[Mask, Mask, Floats, Floats]]
"""(B,) whether programs are proved to have no solution, and whether they can be given one by a
change of b or q; that change, and (B,) its size beside those of what it changes."""

_PLAIN = Settings()


class Verdict(NamedTuple):
    """What is known of a program: that it has no ``solution``, or with which change of b (of q, in
    a search for rays) it has one, and how large that is beside what it changes."""

    solution: bool
    change: Floats
    beside: float


def prove_infeasible(batch: ProgramBatch, solvers: Iterable[Run]) -> dict[int, Verdict]:
    """Of each program, if these solvers can tell, whether points satisfy the constraints."""

    def look(some: ProgramBatch, run: Run) -> tuple[Mask, Mask, Floats, Floats]:
        nearest, allowed = nearest_program(some), allowance(batch.precision)
        points = run(nearest.program)
        for polished in (False, True):
            if polished:
                points, _ = accept(nearest.program, points, _PLAIN)
            finite = np.isfinite(points.x).all(axis=-1) & np.isfinite(points.z).all(axis=-1)
            known: Mask = np.asarray(finite)
            refuted = is_refutation(some, np.where(known[:, None], points.z, 0.0), allowed)
            shift = to_cone(some, points.x[:, : some.structure.n])
            beside = nearest.beside(shift)
            feasible: Mask = np.asarray(beside <= allowed)
            if (refuted | feasible | ~known).all():
                break
        return refuted, feasible, shift, beside

    return _verdicts(batch, solvers, look)


def prove_unbounded(batch: ProgramBatch, solvers: Iterable[Run]) -> dict[int, Verdict]:
    """Of each program, if these solvers can tell, whether the objective is bounded below on the
    rays of the constraints."""

    def look(some: ProgramBatch, run: Run) -> tuple[Mask, Mask, Floats, Floats]:
        search, allowed = ray_program(some), allowance(batch.precision)
        points, _ = accept(search.program, run(search.program), _PLAIN)
        d = np.nan_to_num(points.x)
        change, beside = search.leveling(d)
        rays = search.are_rays(d, allowed) & (beside > UNSEEN)
        level = np.isfinite(points.x).all(axis=-1) & ~rays & (beside <= allowed)
        return rays, level, change, beside

    return _verdicts(batch, solvers, look)


def _verdicts(batch: ProgramBatch, solvers: Iterable[Run], look: Look) -> dict[int, Verdict]:
    """Those of the first solver that can tell, program by program."""
    verdicts: dict[int, Verdict] = {}
    left = np.arange(batch.size)
    for run in solvers:
        some = batch if left.size == batch.size else batch.take(left)
        none, mended, change, beside = look(some, run)
        for j in np.flatnonzero(none | mended).tolist():
            verdicts[int(left[j])] = Verdict(not none[j], change[j], float(beside[j]))
        left = left[~(none | mended)]
        if not left.size:
            break
    return verdicts
