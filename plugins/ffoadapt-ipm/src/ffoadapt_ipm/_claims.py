"""What iterates that go to infinity prove: that no point is feasible, or none is best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffoadapt import BoxForm, Status

__all__ = ["statuses"]

Floats = NDArray[np.float64]

SMALL = 1e-6
"""What counts as zero beside the largest of its terms."""


def statuses(programs: BoxForm, x: Floats, y: Floats, solved: Any) -> list[Status]:
    """How each program of a batch, or one without an axis of it, ended."""
    p = programs
    if x.ndim == 1:
        return [Status.OPTIMAL if solved else _claim(p, x, y)]
    return [
        Status.OPTIMAL
        if done
        else _claim(BoxForm(p.P[k], p.q[k], p.A[k], p.l[k], p.u[k]), x[k], y[k])
        for k, done in enumerate(solved.tolist())
    ]


def _claim(program: BoxForm, x: Floats, y: Floats) -> Status:
    """The status of a program that was not solved, from where the method stopped."""
    p = program
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Status.ERROR
    if _refutes(p, y):
        return Status.PRIMAL_INFEASIBLE
    if _descends(p, x):
        return Status.DUAL_INFEASIBLE
    return Status.ITERATION_LIMIT


def _refutes(p: BoxForm, y: Floats) -> bool:
    """A'y = 0 and u'max(y, 0) + l'min(y, 0) < 0: by Farkas no x has l <= Ax <= u."""
    size = np.abs(y).max(initial=0.0)
    if not size:
        return False
    y = y / size
    up, down = np.maximum(y, 0.0), np.minimum(y, 0.0)
    up[np.isinf(p.u)], down[np.isinf(p.l)] = 0.0, 0.0
    y = up + down
    rows = np.abs(p.A).max(axis=0, initial=0.0)
    support = np.where(up > 0.0, p.u, 0.0) @ up + np.where(down < 0.0, p.l, 0.0) @ down
    terms = np.abs(np.where(y > 0.0, p.u, np.where(y < 0.0, p.l, 0.0)) * y).max(initial=0.0)
    return bool((np.abs(p.A.T @ y) <= SMALL * rows).all() and support < -SMALL * terms)


def _descends(p: BoxForm, x: Floats) -> bool:
    """Px = 0, q'x < 0, and Ax leaves no bound: the cost falls without end along x."""
    size = np.abs(x).max(initial=0.0)
    if not size:
        return False
    x = x / size
    move, rows = p.A @ x, np.abs(p.A).max(axis=1, initial=0.0)
    flat = np.abs(p.P @ x).max(initial=0.0) <= SMALL * np.abs(p.P).max(initial=0.0)
    above = (move <= SMALL * rows) | np.isinf(p.u)
    below = (move >= -SMALL * rows) | np.isinf(p.l)
    return bool(flat and (above & below).all() and p.q @ x < -SMALL * np.abs(p.q * x).max())
