"""What a solution of the ghost problem leaves, by derivatives along it, and corrections.

The differences of gradients along a solution (d, eta) give the gradients in the parameters, and
also H d + J'eta and J d without the errors of whatever solved the ghost problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Floats
from . import differences
from .ghost import Ghost, Solved
from .place import Place

__all__ = ["Along", "Cotangents", "Refinement"]


ROUNDING = 1e-14
"""A relative residual of the ghost problem that is worth no correction."""

WORTH = 1e-10
"""Where solving it takes gradients, an error of the solution that is worth none."""

REFINEMENTS, FALL = 3, 0.1
"""Corrections at most, once solving takes no gradients, and again where the residual fell to this
share."""


@dataclass
class Cotangents:
    """Of one backward pass: on y (n,), and on each of the multipliers or None."""

    y: Floats
    ineq: Floats | None = None
    eq: Floats | None = None
    lower: Floats | None = None
    upper: Floats | None = None


@dataclass
class Along:
    """A solution of the ghost problem, and derivatives along it.

    Attributes
    ----------
    leaves
        Of grad_th L, in each leaf where asked for.
    error
        Estimate of their relative error, or of that of the solution without them.
    residual
        What of the ghost problem's right-hand side is left, relatively.
    """

    solved: Solved
    leaves: list[Floats]
    error: float
    residual: float


class Refinement:
    """A solution of the ghost problem, what it leaves by derivatives along it, and corrections."""

    def __init__(self, ghost: Ghost, given: Cotangents, solved: Solved, leaves: bool) -> None:
        self.ghost, self.place, self.given, self.solved = ghost, ghost.place, given, solved
        self.step = 1.0
        moved, self.errors = self._table(leaves)
        self.bend, self.values, self.leaves = moved
        free = self.ghost.held[2]
        D = self.place.units
        terms = np.abs(D * given.y), np.abs(solved.curved)
        self.size = float(np.maximum(*terms)[free].max(initial=0.0)) or 1.0
        self.blur = float(self.errors[0]) / self.size
        self.relative = self._left()[0]

    def refined(self) -> Along:
        """Corrected as long as that helps."""
        place, ghost = self.place, self.ghost
        least, often = ROUNDING, REFINEMENTS
        if ghost.how != "dense":
            least, often = max(WORTH / ghost.condition, 10.0 * ghost.goal), 1
        doubt = self.relative
        for _ in range(often):
            before, left = self._left()
            if not least < before < 0.5:
                break
            step = ghost.solve(*left)
            if not np.abs(step.d).max(initial=0.0) <= np.abs(self.solved.d).max(initial=0.0):
                break
            added = self._add(step)
            after = self.relative = self._left()[0]
            doubt = added / before * after
            if not after <= FALL * before:
                break
        scale = _largest(self.leaves)
        tables = float(self.errors[2:].max(initial=0.0)) / scale if scale else 0.0
        error = max(tables, doubt, self.blur, place.residual)
        low, high, _ = ghost.held
        force = self.given.y + self.bend  # of the bounds, without the errors of products with H
        self.solved.lower = np.where(low, force, 0.0)
        self.solved.upper = np.where(high, -force, 0.0)
        return Along(self.solved, self.leaves, error, max(self.relative, self.solved.residual))

    def _table(self, leaves: bool) -> tuple[Any, Floats]:
        """Derivatives of all gradients along the solution; the errors of that in u, of the values,
        and of those in the leaves."""
        place, d, w = self.place, self.solved.d, self.ghost.weights(self.solved)
        span = _span(self.solved, place)
        if span == 0.0:  # the Lagrangian is linear in the weights: one difference is exact
            bend, values, moved = self._difference(self.solved, _weight_step(place, w), leaves)
            return (bend, values, moved), np.zeros(2 + len(moved))
        at = differences.steps(span)
        signed = np.concatenate((at, -at))[:, None]
        y, weights = place.y + signed * d, place.weights + signed * w
        bends, values, moved = place.model.each(y, weights, leaves)
        every = [bends * place.units, values, *moved]
        derivatives, errors, self.step = differences.line_derivatives(every, at)
        return (derivatives[0] / place.units, derivatives[1], derivatives[2:]), errors

    def _difference(
        self, along: Solved, t: float, leaves: bool
    ) -> tuple[Floats, Floats, list[Floats]]:
        """Derivatives of all gradients along a solution by a central difference with step t."""
        place, w = self.place, self.ghost.weights(along)
        ahead, behind = (
            place.model.at(place.y + s * along.d, place.weights + s * w, leaves) for s in (t, -t)
        )
        bend, values = ((a - b) / (2.0 * t) for a, b in zip(ahead[:2], behind[:2], strict=True))
        return bend, values, [(a - b) / (2.0 * t) for a, b in zip(ahead[2], behind[2], strict=True)]

    def _left(self) -> tuple[float, tuple[Floats, Floats, Floats]]:
        """What the ghost problem leaves: its largest entry, relatively; v, w of both rows."""
        place, ghost, given = self.place, self.ghost, self.given
        free = ghost.held[2]
        v = np.where(free, given.y + self.bend, 0.0)
        k, m = ghost.active_rows, place.m
        ineq, eq = np.zeros(m), self.values[1 + m :].copy()
        ineq[k] = self.values[1 + k]
        if given.ineq is not None:
            ineq[k] += given.ineq[k]
        if given.eq is not None:
            eq += given.eq
        left = float(np.abs(place.units * v).max(initial=0.0))
        return (left if np.isfinite(left) else np.inf) / self.size, (v, ineq, eq)

    def _add(self, step: Solved) -> float:
        """Correct all by one difference along a further step; its relative size in the leaves, or
        in the solution without them."""
        place, w = self.place, self.ghost.weights(step)
        wide = _span(step, place)
        t = self.step * _span(self.solved, place) / wide if wide else _weight_step(place, w)
        if not np.isfinite(t):
            t = 1.0
        bend, values, more = self._difference(step, t, bool(self.leaves))
        self.bend, self.values = self.bend + bend, self.values + values
        change, size = (more, self.leaves) if self.leaves else ([step.d], [self.solved.d])
        largest = _largest(size)
        self.leaves = [a + b for a, b in zip(self.leaves, more, strict=True)]
        self.solved = self.solved.plus(step)
        return _largest(change) / largest if largest else 0.0


def _weight_step(place: Place, w: Floats) -> float:
    """That changes the multipliers by as much as they are."""
    size = float(np.abs(w).max(initial=0.0))
    return float(np.abs(place.weights).max()) / size if size else 1.0


def _largest(arrays: Sequence[Floats]) -> float:
    return max((float(np.abs(v).max(initial=0.0)) for v in arrays), default=0.0)


def _span(solved: Solved, place: Place) -> float:
    """The largest change of a variable along d, beside the variable."""
    size = np.abs(place.y)
    if place.typical is None:
        sizes = np.maximum(size, 1e-2 * max(1.0, float(size.max(initial=0.0))))
    else:
        sizes = np.maximum(size, place.typical)
    return float((np.abs(solved.d) / sizes).max(initial=0.0))
