"""The functions of a program and their first derivatives at one y, evaluated when asked for.

Whatever multipliers a point has, its values and gradients are these: places at one y share them.
"""

from __future__ import annotations

import numpy as np

from .._runtime.lazy import lazy
from .._types import Floats, Ints
from .model import Model

__all__ = ["Evaluation"]


class Evaluation:
    """At y (n,)."""

    def __init__(self, model: Model, y: Floats) -> None:
        self.model, self.y = model, y
        self._which: Ints | None = None
        self._rows: Floats | None = None

    @lazy
    def _first(self) -> tuple[Floats, Floats]:
        gradient, values, _ = self.model.at(self.y, self.model.objective_weights)
        return gradient, values

    @property
    def gradient(self) -> Floats:
        """(n,) of the objective."""
        return self._first[0]

    @property
    def values(self) -> Floats:
        """(1 + rows,) of the objective, the inequalities, the equalities."""
        return self._first[1]

    @lazy
    def finite(self) -> bool:
        """Whether the values and the objective's gradient are numbers."""
        return bool(np.isfinite(self.values).all() and np.isfinite(self.gradient).all())

    def rows(self, which: Ints) -> Floats:
        """(k, n) the gradients of these constraints, inequalities first."""
        known = self._which
        if known is not None and known.size == which.size and (known == which).all():
            assert self._rows is not None
            return self._rows
        found = np.zeros((which.size, self.y.size))
        missing = np.ones(which.size, dtype=bool)
        if known is not None and self._rows is not None and known.size:
            at = np.minimum(np.searchsorted(known, which), known.size - 1)
            missing = known[at] != which
            found[~missing] = self._rows[at[~missing]]
        if missing.any():
            weights = np.zeros((int(missing.sum()), self.values.size))
            weights[np.arange(len(weights)), 1 + which[missing]] = 1.0
            found[missing] = self.model.each(self.y, weights)[0]
        self._which, self._rows = which, found
        return found
