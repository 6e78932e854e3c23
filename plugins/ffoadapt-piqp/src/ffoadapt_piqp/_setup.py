"""PIQP with options, and what to do with bounds that are finite, but far.

PIQP loses its way among their numbers: it is asked first without them, which is right where the
solution keeps to them all the same. Beyond `FAR` they are as good as infinite; PIQP itself says so
of 1e30, and prints it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import piqp

from ffoadapt import BoxForm, Options, Session, Solution

__all__ = ["made", "solve"]

NEAR = 1e6
"""Rounding makes more of a duality gap, of a larger bound, than PIQP is told to allow."""

FAR = 1e14
"""Where such a bound held, x would have no digits left that a program could ask for."""

Solve = Callable[[BoxForm, Options, Session], Solution]


def made(P: Any, options: Options) -> Any:
    """A PIQP solver with these options, for programs with matrices like P."""
    solver = piqp.DenseSolver() if isinstance(P, np.ndarray) else piqp.SparseSolver()
    for name, value in options.items():
        setattr(solver.settings, name, value)
    return solver


def solve(ask: Solve, program: BoxForm, options: Options, session: Session) -> Solution:
    """The answer of PIQP to the program, by ``ask``."""
    near, far = _within(program, NEAR), _within(program, FAR)
    if near is not program:
        solution = ask(near, options, session)
        if solution.status.solved and _kept(program, solution.x):
            return solution
    return ask(far, options, session)


def _within(program: BoxForm, limit: float) -> BoxForm:
    """The program with infinite bounds in the place of those beyond the limit; equalities stay."""
    l, u = program.l, program.u
    if not np.abs((l, u)).max(initial=0.0, where=np.isfinite((l, u))) >= limit:
        return program
    equal = l == u
    lower = np.where((l > -limit) | equal, l, -np.inf)
    return replace(program, l=lower, u=np.where((u < limit) | equal, u, np.inf))


def _kept(program: BoxForm, x: Any) -> bool:
    """Whether x keeps to the bounds that were left out."""
    rows = program.A @ x
    slack = 1e-6 * (1.0 + np.abs(rows))
    return bool(((program.l - slack <= rows) & (rows <= program.u + slack)).all())
