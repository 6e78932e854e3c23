"""Derivatives along a line from function values: Ridders' table of central differences.

C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software
4 (1982): differences at steps t, t/r, t/r^2, ... are extrapolated to step 0; where neighbours in
the table agree best, the difference between them is the estimate of the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Floats, Ints

__all__ = ["line_derivative", "line_derivatives", "steps"]


START, FACTOR, LEVELS = 1e-2, 4.0, 5
"""The largest step of a table, relative to what moves; from one to the next; how many."""

EPS = float(np.finfo(np.float64).eps)

PIECE = 1 << 16
"""Numbers whose tables are held at once."""


def steps(span: float) -> Floats:
    """The steps of a table where a unit step moves by ``span``, relatively; each needs the function
    at plus and at minus it."""
    lengths: Floats = START / span / FACTOR ** np.arange(LEVELS, dtype=np.float64)
    return lengths


def line_derivative(ends: Floats, at: Floats) -> tuple[Floats, float, float]:
    """`line_derivatives` of one function."""
    derivatives, errors, best = line_derivatives([ends], at)
    return derivatives[0], float(errors[0]), best


def line_derivatives(ends: Sequence[Floats], at: Floats) -> tuple[list[Floats], Floats, float]:
    """The derivatives of several functions from their values at plus, and then at minus the steps
    ``at``: (2 levels, *shape) each.

    Returns
    -------
    derivatives
        (*shape,) each; NaN where no two steps gave numbers.
    errors
        Estimates of their largest errors, rounding of the values included.
    best
        The step whose plain differences are nearest to the first derivative.
    """
    count = len(at)
    sizes = np.array([e[0].size for e in ends])
    ahead = np.concatenate([e[:count].reshape(count, -1) for e in ends], axis=-1)
    behind = np.concatenate([e[count:].reshape(count, -1) for e in ends], axis=-1)
    plain = (ahead - behind) / (2.0 * at)[:, None]
    broken = np.flatnonzero(~np.isfinite(plain).all(axis=-1))
    first = int(broken[-1]) + 1 if broken.size else 0
    if count - first < 2:
        missing = [np.full(e.shape[1:], np.nan) for e in ends]
        return missing, np.full(len(ends), np.inf), float(at[-1])
    at, plain, ahead = at[first:], plain[first:], ahead[first:]
    entries, child, parents = _table(len(at))
    doubts, large = np.zeros((len(child), len(ends))), np.zeros(len(ends))
    for columns, starts, which in _pieces(sizes):
        table = entries @ plain[:, columns]
        gaps = np.abs(table[child] - table[parents]).max(axis=0)
        gaps = np.maximum.reduceat(gaps, starts, axis=-1)
        doubts[:, which] = np.maximum(doubts[:, which], gaps)
        size = np.maximum.reduceat(np.abs(ahead[-1, columns]), starts)
        large[which] = np.maximum(large[which], size)
    rounding = (np.abs(entries) @ (1.0 / at))[child]
    doubts = np.maximum(doubts, EPS * large * rounding[:, None])
    chosen, errors = doubts.argmin(axis=0), doubts.min(axis=0)
    derivatives, split = [], 0
    for size, entry, e in zip(sizes.tolist(), child[chosen].tolist(), ends, strict=True):
        derivatives.append((entries[entry] @ plain[:, split : split + size]).reshape(e.shape[1:]))
        split += size
    far = np.abs(plain[:, : sizes[0]] - derivatives[0].reshape(-1)).max(axis=-1, initial=0.0)
    return derivatives, errors, float(at[far.argmin()])


@lru_cache(maxsize=8)
def _table(count: int) -> tuple[Floats, Ints, Ints]:
    """Every entry of a table as a combination of plain differences (entries, count), and which of
    them are compared with which two neighbours (2, compared); the last is the plain one."""
    rows = [list(np.eye(count))]
    number = [list(range(count))]
    child, parents, total, ratio = [], [], count, 1.0
    while len(rows[-1]) > 1:
        ratio *= FACTOR**2
        above, last, names = rows[-1], number[-1], []
        rows.append([])
        for k in range(len(above) - 1):
            rows[-1].append((ratio * above[k + 1] - above[k]) / (ratio - 1.0))
            child.append(total)
            parents.append((last[k], last[k + 1]))
            names.append(total)
            total += 1
        number.append(names)
    child.append(count - 1)
    parents.append((count - 2, count - 2))
    entries = np.array([row for column in rows for row in column])
    return entries, np.array(child), np.array(parents).T


def _pieces(sizes: NDArray[Any]) -> Iterator[tuple[slice, Ints, Ints]]:
    """Columns of functions with so many each, where each function in them starts, and which."""
    ends = np.cumsum(sizes)
    if ends[-1] <= PIECE:
        which = np.flatnonzero(sizes)
        if which.size:
            yield slice(None), (ends - sizes)[which], which
        return
    for k, (end, size) in enumerate(zip(ends.tolist(), sizes.tolist(), strict=True)):
        for start in range(end - size, end, PIECE):
            yield slice(start, min(start + PIECE, end)), np.zeros(1, dtype=np.intp), np.array([k])
