"""What a solver of smooth programs is given: functions of y, in NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError
from .._types import Floats
from .evaluation import Evaluation

__all__ = ["SmoothForm", "TimeLimitError", "kinds_of"]


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
        self, first: Evaluation, lower: Floats, upper: Floats, typical: Floats | None = None
    ) -> None:
        """``first`` is at the start."""
        self.model, start = first.model, first.y
        self._plain = typical is None
        self._units = np.ones(start.size) if typical is None else typical
        self.start = start / self._units
        self.lower, self.upper = lower / self._units, upper / self._units
        for array in (self.start, self.lower, self.upper):
            array.flags.writeable = False
        self.n = start.size
        self.m_ineq = self.model.functions.count("inequalities")
        self.m_eq = self.model.functions.count("equalities")
        self._every = np.arange(self.m_ineq + self.m_eq)
        self.deadline = np.inf
        self.error: BaseException | None = None
        self._at, self._here = self.start.tobytes(), first
        self._found: dict[str, Floats] = {}
        self._scale = np.ones(1 + self.m_ineq + self.m_eq)
        self._scale = self._rescaled()
        self._found.clear()

    def _rescaled(self) -> Floats:
        """(1 + rows,) what makes the functions' gradients at the start near 1."""
        sizes = np.empty(self._scale.size)
        sizes[0] = _size(self._here.gradient * self._units)
        sizes[1:] = np.abs(self._jacobian(self.start)).max(axis=-1, initial=0.0)
        if sizes[0] < CLOSE[0]:  # it may start at the solution: look beside it
            step = 0.1 * max(1.0, _size(self.start)) * (1.0 - 2.0 * (np.arange(self.n) % 2))
            beside = np.clip(self.start + step, self.lower, self.upper)
            with suppress(FFOAdaptError):
                there = _size(self.gradient(beside))
                sizes[0] = max(sizes[0], there if np.isfinite(there) else 0.0)
        fine = ((CLOSE[0] <= sizes) & (sizes <= CLOSE[1])) | (sizes == 0.0)
        inverse: Floats = np.divide(1.0, sizes, out=np.ones(sizes.size), where=~fine)
        return inverse

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
        return self._values(y).item(0)

    def gradient(self, y: Floats) -> Floats:
        """(n,) its gradient."""
        return self._asked("gradient", y, self._slope)

    def inequalities(self, y: Floats) -> Floats:
        """(m_ineq,) h(y), <= 0 where they hold."""
        return self._values(y)[1 : 1 + self.m_ineq]

    def equalities(self, y: Floats) -> Floats:
        """(m_eq,) e(y), 0 where they hold."""
        return self._values(y)[1 + self.m_ineq :]

    def inequality_jacobian(self, y: Floats) -> Floats:
        """(m_ineq, n) the gradients of h."""
        return self._jacobian(y)[: self.m_ineq]

    def equality_jacobian(self, y: Floats) -> Floats:
        """(m_eq, n) the gradients of e."""
        return self._jacobian(y)[self.m_ineq :]

    def violation(self, y: Floats) -> float:
        """The largest violation of a constraint, of rows whose gradients are near 1, relative to
        the size of y."""
        values = (self.inequalities(y), np.abs(self.equalities(y)), self.lower - y, y - self.upper)
        worst = max(float(v.max(initial=0.0)) for v in values)
        return worst / max(1.0, _size(y)) if worst == worst else np.inf

    def at(self, y: Floats) -> Evaluation | None:
        """The functions at this y (n,), in the user's units, where they were evaluated last."""
        here = self._here
        return here if here.y is y or (here.y == y).all() else None

    def _asked(self, what: str, y: Floats, find: Callable[[Evaluation], Floats]) -> Floats:
        """Something of the functions at y, which are evaluated once while that stays the same."""
        y = np.ascontiguousarray(y, dtype=np.float64)
        key = y.tobytes()
        try:
            if key != self._at:
                if time.monotonic() > self.deadline:
                    raise TimeLimitError
                at = (y if self._plain else y * self._units).reshape(self.n)
                self._here, self._found = Evaluation(self.model, at.copy()), {}
                self._at = key
            known = self._found.get(what)
            if known is None:
                known = self._found[what] = find(self._here)
        except BaseException as error:
            self.error = error  # solvers swallow some
            raise
        return known.copy()

    def _slope(self, at: Evaluation) -> Floats:
        return at.gradient * (self._units * self._scale[0])

    def _values(self, y: Floats) -> Floats:
        return self._asked("values", y, lambda at: at.values * self._scale)

    def _jacobian(self, y: Floats) -> Floats:
        return self._asked("rows", y, self._rows)

    def _rows(self, at: Evaluation) -> Floats:
        return at.rows(self._every) * self._units * self._scale[1:, None]


def _size(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
