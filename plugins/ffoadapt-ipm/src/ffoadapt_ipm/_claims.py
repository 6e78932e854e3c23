"""What iterates that go to infinity prove: that no point is feasible, or none is best."""

from __future__ import annotations

import numpy as np

from ffoadapt import BoxForm, Status

__all__ = ["claim"]

SMALL = 1e-6
"""What counts as zero beside the largest of its terms."""


def claim(program: BoxForm, x: np.ndarray, y: np.ndarray) -> Status:
    """The status of a program that was not solved, from where the method stopped."""
    p = program
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Status.ERROR
    if _refutes(p, y):
        return Status.PRIMAL_INFEASIBLE
    if _descends(p, x):
        return Status.DUAL_INFEASIBLE
    return Status.ITERATION_LIMIT


def _refutes(p: BoxForm, y: np.ndarray) -> bool:
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


def _descends(p: BoxForm, x: np.ndarray) -> bool:
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
