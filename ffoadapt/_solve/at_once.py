"""Solvers that take a whole batch: one call for all of its elements."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from .._plugins.solver import Session, Solver
from .._program.batch import ProgramBatch
from .._program.points import Status
from .._runtime import interrupts
from .._runtime.text import told
from .._types import Floats
from .returned import ENDS, as_returned, failure, put_dual

__all__ = ["Solved", "solve_at_once", "takes_at_once"]

Solved: TypeAlias = "tuple[Floats, Floats, Floats | None, list[Status], list[Mapping[str, Any]]]"
"""x, dual, slack where the solver has its own, statuses and infos of all elements."""


def takes_at_once(solver: Solver) -> bool:
    """Whether a solver has a way of its own with batches."""
    return type(solver).solve_batch is not Solver.solve_batch


def solve_at_once(
    solver: Solver, given: ProgramBatch, options: Mapping[str, Any], session: Session
) -> Solved | None:
    """The solutions of a solver that takes the whole batch; None if it does not take this one."""
    form, start = solver.form, time.perf_counter()
    x, dual = np.empty((given.size, given.structure.n)), given.empty_dual(form)
    try:
        solutions = solver.solve_batch(given.stacked(form), options, session)
        if interrupts.swallowed(start):
            raise KeyboardInterrupt
        if solutions is None:
            return None
        x[:] = as_returned(solutions.x, x.shape)
        put_dual(dual, solutions.dual, form, given.structure)
        status, info = list(solutions.status), list(solutions.info)
        if any(map(interrupts.said, status, info)):
            interrupts.tell_python()
            session.clear()
            return None  # nobody wanted to stop
        if not len(status) == len(info) == given.size:
            raise ValueError(f"not {given.size} statuses and infos")
        unsolved = [i for i, each in enumerate(status) if not each.solved]
    except ENDS:
        session.clear()
        raise
    except BaseException as error:
        session.clear()
        if interrupts.swallowed(start):
            raise KeyboardInterrupt from error
        failed = failure(f"solve_batch: {told(error)}", exception=error)
        status, info = [failed.status] * given.size, [failed.info] * given.size
        unsolved = list(range(given.size))
    if unsolved:
        x[unsolved] = dual[unsolved] = np.nan
    return x, dual, None, status, info
