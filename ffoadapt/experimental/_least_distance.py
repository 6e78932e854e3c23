"""The least-distance form of dense quadratic programs, for dual active-set solvers.

These work on programs of least distance: they turn every program into one, and eliminate its
equalities on the way. Compiled code does both here, for a whole batch, by BLAS and LAPACK:

    P = U'U,  M = A U^-1,  y = Ux + U'^-1 q:     1/2 |y|^2,     l + Mv <= My <= u + Mv,  v = U'^-1 q
    equalities M_e' = [Q1 Q2] [R; 0],
    y = Q1 w + Q2 t,  R'w = their bounds:        1/2 |t|^2,     bounds - M_i Q1 w <= M_i Q2 t

The multipliers of the inequalities are the same in all three, those of the equalities follow from
stationarity: w + R y_e + (M_i Q1)'y_i = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._program.forms import BoxForm
from .._runtime.memory import empty
from .._types import Floats

__all__ = ["LeastDistance", "elements"]

PIVOT = 1e-5
"""The least share of its diagonal entry that a pivot of P may keep: P is far from singular then."""

DEPENDENT = 1e-6
"""The least share of its length that a row may keep when the equalities before it are taken out."""


class LeastDistance:
    """minimize 1/2 |t|^2 subject to lower <= rows t <= upper, for B programs, and the way back.

    Attributes
    ----------
    equalities
        (B,) int32: the equalities, with l = u, that were eliminated, so that an element has
        n - equalities variables and m - equalities rows. -1 where the form gains nothing, or where
        P or the equalities are nearly singular: such an element is to be solved as it is.
    rows, lower, upper
        (B, ...): each begins with the numbers of the form.
    """

    def __init__(self, programs: BoxForm, least: float = 0.0) -> None:
        """The forms of dense programs whose arrays have an axis of the batch in front.

        ``least`` is n^2 (n + m - 2 p), with p equalities, below which the form gains nothing.
        """
        size, m, n = programs.A.shape
        P, q, A, l, u = map(_shared, (programs.P, programs.q, programs.A, programs.l, programs.u))
        factor = None if programs._cholesky is None else _shared(programs._cholesky)
        # In the order of distance.c; what is after the rows and bounds is for `restore` alone.
        length = m * n + 2 * m + 3 * n + (m + 1) // 2 + (n * n if factor is None else 0)
        state = empty(size, length)
        bounds = m * n
        self.sizes, self.equalities = (n, m), np.empty(size, dtype=np.int32)
        self.rows = state[:, :bounds]
        self.lower, self.upper = state[:, bounds : bounds + m], state[:, bounds + m :]
        self._state = state
        self._arrays = P, q, A, l, u, factor, state, self.equalities
        _kernel.kernel.to_least_distance(n, m, least, PIVOT, DEPENDENT, *self._arrays)

    @property
    def order(self) -> NDArray[np.int32]:
        """(B, m): the rows of A, the equalities first, then those of the form."""
        n, m = self.sizes
        start = m * n + 2 * m + 3 * n
        return self._state[:, start : start + (m + 1) // 2].view(np.int32)[:, :m]

    @staticmethod
    def available() -> bool:
        """Whether there is compiled code to make it."""
        return _kernel.compiled is not None

    def program(self, i: int) -> tuple[Floats, Floats, Floats]:
        """rows (m_i, n_i), lower (m_i,) and upper (m_i,) of an element that has a form."""
        p = int(self.equalities[i])
        n, m = (size - p for size in self.sizes)
        return self.rows[i, : m * n].reshape(m, n), self.lower[i, :m], self.upper[i, :m]

    def restore(self, t: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """x (B, n) and the multipliers (B, m) of the programs.

        The rows of t and of ``dual`` begin with the solutions of the forms and the multipliers of
        their rows; where there is no form they are those of the program.
        """
        n, m = self.sizes
        t, dual = _wide(t, n), _wide(dual, m)
        x, multipliers = np.empty(t.shape), np.empty(dual.shape)
        _kernel.kernel.from_least_distance(n, m, *self._arrays, t, dual, x, multipliers)
        return x, multipliers


def elements(programs: BoxForm, part: slice | int | None) -> BoxForm:
    """A part of a batch of programs, or one of them by its number; None makes a batch of a program.

    Nothing is copied.
    """
    p = programs
    chosen = BoxForm(p.P[part], p.q[part], p.A[part], p.l[part], p.u[part])
    chosen._cholesky = None if p._cholesky is None else p._cholesky[part]
    return chosen


def _wide(values: Floats, width: int) -> Floats:
    """The values with as many columns."""
    if values.shape[1] == width:
        return np.ascontiguousarray(values, dtype=np.float64)
    wide = np.zeros((len(values), width))
    wide[:, : values.shape[1]] = values
    return wide


def _shared(array: Floats) -> Floats:
    """The array as compiled code takes it: with one element where all share it."""
    return np.ascontiguousarray(array if array.strides[0] else array[:1], dtype=np.float64)
