"""What a solver of smooth programs is given: functions of y, in NumPy."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import FFOAdaptError
from .functions import Model

__all__ = ["SmoothForm", "TimeLimitError", "kinds_of"]

Floats = NDArray[np.float64]


CLOSE = 1e-2, 1e2
"""Functions with gradients of this size at the start come as they are."""


class TimeLimitError(Exception):
    """The time limit is over, in a solver that has none of its own."""


def kinds_of(lower: Floats, upper: Floats, m_ineq: int, m_eq: int) -> frozenset[str]:
    """The kinds of constraint: ``"bounds"``, ``"inequalities"``, ``"equalities"``."""
    bounded = np.isfinite(lower).any() or np.isfinite(upper).any()
    counts = {"bounds": bounded, "inequalities": m_ineq, "equalities": m_eq}
    return frozenset(name for name, count in counts.items() if count)


class SmoothForm:
    """minimize g(y) subject to h(y) <= 0, e(y) = 0, lower <= y <= upper.

    Attributes
    ----------
    n, m_ineq, m_eq
        Sizes of y, h and e.
    start
        (n,) where to start, within the bounds.
    lower, upper
        (n,) bounds, infinite where there are none; these arrays are read-only.

    Notes
    -----
    The methods take y of shape (n,); they remember the last y, so that value and gradient at the
    same place cost one evaluation. Signs: grad g + J_h'z_ineq + J_e'z_eq - z_lower + z_upper = 0.
    Functions whose gradients at the start are far from 1 come in other units than the user's, and
    so do the variables where the user gave ``typical`` sizes.
    """

    def __init__(
        self,
        model: Model,
        start: Floats,
        lower: Floats,
        upper: Floats,
        typical: Floats | None = None,
    ) -> None:
        self.model = model
        self._units = np.ones(start.size) if typical is None else typical
        self.start = start / self._units
        self.lower, self.upper = lower / self._units, upper / self._units
        for array in (self.start, self.lower, self.upper):
            array.flags.writeable = False
        self.n = start.size
        self.m_ineq = model.functions.count("inequalities")
        self.m_eq = model.functions.count("equalities")
        self.deadline = np.inf
        self.error: BaseException | None = None
        self._first = np.zeros(1 + self.m_ineq + self.m_eq)
        self._first[0] = 1.0
        self._at: bytes | None = None
        self._known: tuple[Floats, Floats] | None = None
        self._rows: Floats | None = None
        self._scale = np.ones(1 + self.m_ineq + self.m_eq)
        self._rescale()

    def _rescale(self) -> None:
        """Functions in units in which their gradients at the start are near 1."""
        sizes = [_size(self.gradient(self.start)), *map(_size, self._jacobian(self.start))]
        if sizes[0] < CLOSE[0]:  # it may start at the solution: look beside it
            step = 0.1 * max(1.0, _size(self.start)) * (1.0 - 2.0 * (np.arange(self.n) % 2))
            beside = np.clip(self.start + step, self.lower, self.upper)
            with suppress(FFOAdaptError):
                there = _size(self.gradient(beside))
                sizes[0] = max(sizes[0], there if np.isfinite(there) else 0.0)
        scale = np.array([1.0 if CLOSE[0] <= g <= CLOSE[1] or g == 0.0 else 1.0 / g for g in sizes])
        if (scale != 1.0).any():
            self._scale, self._at = scale, None

    def restored(self, y: Floats, dual: tuple[Floats, ...] | None) -> tuple[Floats, Any]:
        """A solver's answer in the user's units."""
        if dual is None:
            return y * self._units, None
        ineq, eq, lower, upper = dual
        cost, rows = self._scale[0], self._scale[1:]
        span = self._units * cost
        split = ineq * rows[: self.m_ineq] / cost, eq * rows[self.m_ineq :] / cost
        return y * self._units, (*split, lower / span, upper / span)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of constraint: ``"bounds"``, ``"inequalities"``, ``"equalities"``."""
        return kinds_of(self.lower, self.upper, self.m_ineq, self.m_eq)

    def objective(self, y: Floats) -> float:
        """g(y)."""
        return float(self._evaluated(y)[1][0])

    def gradient(self, y: Floats) -> Floats:
        """(n,) its gradient."""
        return self._evaluated(y)[0].copy()

    def inequalities(self, y: Floats) -> Floats:
        """(m_ineq,) h(y), <= 0 where they hold."""
        return self._evaluated(y)[1][1 : 1 + self.m_ineq].copy()

    def equalities(self, y: Floats) -> Floats:
        """(m_eq,) e(y), 0 where they hold."""
        return self._evaluated(y)[1][1 + self.m_ineq :].copy()

    def inequality_jacobian(self, y: Floats) -> Floats:
        """(m_ineq, n) the gradients of h."""
        return self._jacobian(y)[: self.m_ineq].copy()

    def equality_jacobian(self, y: Floats) -> Floats:
        """(m_eq, n) the gradients of e."""
        return self._jacobian(y)[self.m_ineq :].copy()

    def violation(self, y: Floats) -> float:
        """The largest violation of a constraint, of rows whose gradients are near 1, relative to
        the size of y."""
        values = (self.inequalities(y), np.abs(self.equalities(y)), self.lower - y, y - self.upper)
        worst = max(float(v.max(initial=0.0)) for v in values)
        return worst / max(1.0, _size(y)) if worst == worst else np.inf

    def _place(self, y: Floats) -> Floats:
        y = np.ascontiguousarray(y, dtype=np.float64).reshape(self.n)
        key = y.tobytes()
        if key != self._at:
            self._at, self._known, self._rows = key, None, None
        return y

    def _evaluated(self, y: Floats) -> tuple[Floats, Floats]:
        y = self._place(y)
        if self._known is None:
            if time.monotonic() > self.deadline:
                raise TimeLimitError
            try:
                gradient, values, _ = self.model.at(y * self._units, self._first)
            except BaseException as error:
                self.error = error  # solvers swallow some
                raise
            self._known = gradient * self._units * self._scale[0], values * self._scale
        return self._known

    def _jacobian(self, y: Floats) -> Floats:
        y = self._place(y)
        if self._rows is None:
            count = self.m_ineq + self.m_eq
            if count:
                try:
                    rows = self.model.each(y * self._units, np.eye(count, count + 1, 1))[0]
                except BaseException as error:
                    self.error = error
                    raise
                self._rows = rows * self._units * self._scale[1:, None]
            else:
                self._rows = np.zeros((0, self.n))
        return self._rows


def _size(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
