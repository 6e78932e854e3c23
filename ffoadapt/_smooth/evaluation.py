"""The functions of a program and their first derivatives at one y, evaluated when asked for.

Whatever multipliers a point has, its values and gradients are these: places at one y share them.
"""

from __future__ import annotations

import numpy as np

from .._runtime.lazy import lazy
from .._types import Floats, Ints
from .model import Model, Recorded

__all__ = ["Evaluation"]


PULLS = 32
"""So many rows are taken one by one from what the framework has recorded."""


class Evaluation:
    """At y (n,)."""

    def __init__(self, model: Model, y: Floats) -> None:
        self.model, self.y = model, y
        self._which: Ints | None = None
        self._rows: Floats | None = None
        self._key = b""

    @lazy
    def _record(self) -> Recorded | None:
        return self.model.recorded(self.y)

    @lazy
    def _first(self) -> tuple[Floats, Floats]:
        gradient, values, _ = self.model.at(self.y, self.model.objective_weights)
        return gradient, values

    @lazy
    def gradient(self) -> Floats:
        """(n,) of the objective."""
        record = self._record
        if record is None:
            return self._first[0]
        return record.gradient(self.model.objective_weights, again=True)

    @lazy
    def values(self) -> Floats:
        """(1 + rows,) of the objective, the inequalities, the equalities."""
        record = self._record
        return self._first[1] if record is None else record.values

    @lazy
    def finite(self) -> bool:
        """Whether the values and the objective's gradient are numbers."""
        return bool(np.isfinite(self.values).all() and np.isfinite(self.gradient).all())

    def rows(self, which: Ints) -> Floats:
        """(k, n) the gradients of these constraints, inequalities first."""
        known = self._which
        if self._rows is not None and which.tobytes() == self._key:
            return self._rows
        chosen = np.zeros((which.size, self.y.size))
        missing = np.ones(which.size, dtype=bool)
        if known is not None and self._rows is not None and known.size:
            at = np.minimum(np.searchsorted(known, which), known.size - 1)
            missing = known[at] != which
            chosen[~missing] = self._rows[at[~missing]]
        if missing.any():
            weights = np.zeros((int(missing.sum()), self.values.size))
            weights[np.arange(len(weights)), 1 + which[missing]] = 1.0
            record = self._record
            if record is not None and len(weights) <= PULLS:
                chosen[missing] = [record.gradient(w, again=True) for w in weights]
            else:
                chosen[missing] = self.model.each(self.y, weights)[0]
        self._which, self._rows, self._key = which, chosen, which.tobytes()
        return chosen
