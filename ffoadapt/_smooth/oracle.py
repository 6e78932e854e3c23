"""Derivatives of the solution of a smooth program, from gradients alone.

With (d, eta) from the ghost problem for cotangents v on y and w on multipliers, the gradient in the
parameters is the derivative of grad_th L along (d, eta), which a table of differences gives; the
same calls give grad_y L and the constraints along (d, eta), so how well the ghost problem is solved
and, of the least of its errors, one step of refinement. Forward mode is the ghost problem for the
change of grad_y L and of the constraints with the parameters. See docs/smooth.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._oracle.active_set import KINK
from .._oracle.report import ERROR, GHOST, INACCURATE, GradientReport, Verdict
from .._runtime.lazy import lazy
from . import differences
from .ghost import Ghost, Solved
from .point import DENSE, Duals, Place

__all__ = ["Bounds", "Cotangents", "SmoothOracle", "polished", "sizes_of"]

Floats = NDArray[np.float64]

SWEEPS, ENOUGH, ENOUGH_OF_MANY = 5, 1e-13, 1e-10
"""Polishing takes so many steps at most, and none from below this residual; the second where the
curvature is no matrix."""

INEXACT = 1e-4
"""The relative residual of a step of polishing by conjugate gradients: a few of them make up."""

REFINE = 1e-9, 1e-14
"""From this relative residual of the ghost problem on, its solution is corrected once; the second
where solving costs no gradient."""

FALL = 0.5
"""A step of polishing is followed by another where the residual fell to this share at least."""


class Bounds:
    """The bounds of one element, and their gradients in the leaves."""

    def __init__(self, lower: Floats, upper: Floats, pull: Any = None, push: Any = None) -> None:
        """``pull(lower_bar, upper_bar)`` gives gradients in the leaves, ``push(tangents)`` the
        tangents of both; None where they are constants."""
        self.lower, self.upper, self.pull, self.push = lower, upper, pull, push


@dataclass
class Cotangents:
    """Of one backward pass: on y (n,), and on each of the multipliers or None."""

    y: Floats
    ineq: Floats | None = None
    eq: Floats | None = None
    lower: Floats | None = None
    upper: Floats | None = None


class SmoothOracle:
    """The derivatives at a place; what it has found out once serves further cotangents."""

    def __init__(self, place: Place, bounds: Bounds, how: str) -> None:
        self.place, self.bounds, self.how = place, bounds, how
        self.error, self.residual, self.calls = 0.0, 0.0, 0
        self.asked = False

    @lazy
    def ghost(self) -> Ghost:
        return Ghost(self.place, self.how)

    def vjp(self, given: Cotangents) -> list[Any]:
        """Gradients in the leaves."""
        model = self.place.model
        before = model.calls
        found = self.ghost.solve(given.y, given.ineq, given.eq, given.lower, given.upper)
        leaves, error, residual = self._along(given, found)
        if self.bounds.pull is not None:
            parts = self.bounds.pull(found.lower, -found.upper)
            leaves = [a if b is None else a + b for a, b in zip(leaves, parts, strict=True)]
        self.asked = True
        self.calls = model.calls - before if not self.calls else self.calls
        self.error, self.residual = max(self.error, error), max(self.residual, residual)
        return leaves

    def _along(self, given: Cotangents, found: Solved) -> tuple[list[Any], float, float]:
        """Gradients in the leaves, their relative error, and the residual of the ghost problem."""
        place, ghost = self.place, self.ghost
        if self.how == "exact":
            moved = place.model.along(place.y, place.weights, found.d, self._weights(found))
            return moved[2], 0.0, found.residual
        (bend, values, leaves), (bent, *errors), t = self._table(found)
        left = self._left(given, found, bend, values)
        size = self._size(given, found)
        residual = left[0] / size if size else left[0]
        blur, doubt = bent / size if size else 0.0, residual
        least = REFINE[1] if self.how == "dense" else max(REFINE[0], 10.0 * ghost.goal)
        if least < residual < 0.5:
            step = ghost.solve(left[1], *left[2:])
            if np.abs(step.d).max(initial=0.0) <= np.abs(found.d).max(initial=0.0):
                ratio = _relative(step, found)
                more = self._difference(step, t * _span(found, place) / _span(step, place))
                leaves = [a + b for a, b in zip(leaves, more, strict=True)]
                for name in ("d", "ineq", "eq", "lower", "upper"):
                    setattr(found, name, getattr(found, name) + getattr(step, name))
                doubt, residual = ratio * residual, residual * residual
        scale = max((float(np.abs(g).max(initial=0.0)) for g in leaves), default=0.0)
        error = max(errors, default=0.0) / scale if scale else 0.0
        return leaves, max(error, doubt, blur, place.residual), max(residual, found.residual)

    def _weights(self, found: Solved) -> Floats:
        weights = np.zeros_like(self.place.weights)
        weights[1 + self.ghost.active_rows] = found.ineq
        weights[1 + self.place.m :] = found.eq
        return weights

    def _table(self, found: Solved) -> tuple[Any, list[float], float]:
        """Derivatives of all gradients along the solution, and the errors of that in u and of those
        in the leaves."""
        place, d, w = self.place, found.d, self._weights(found)
        span = _span(found, place)
        if span == 0.0:  # the Lagrangian is linear in the weights: one difference is exact
            ahead = place.model.at(place.y, place.weights + w, True)
            behind = place.model.at(place.y, place.weights - w, True)
            half = [0.5 * (a - b) for a, b in zip(ahead[2], behind[2], strict=True)]
            bend, values = ((a - b) / 2.0 for a, b in zip(ahead[:2], behind[:2], strict=True))
            return (bend, values, half), [0.0, 0.0], 1.0
        at = differences.steps(span)
        signed = np.concatenate((at, -at))[:, None]
        y, weights = place.y + signed * d, place.weights + signed * w
        bends, values, leaves = place.model.each(y, weights, True)
        every = (bends * place.units, values, *leaves)
        tables = [differences.line_derivative(v, at) for v in every]
        derivatives = [table[0] for table in tables]
        errors = [tables[0][1], *(table[1] for table in tables[2:])]
        bend = derivatives[0] / place.units
        return (bend, derivatives[1], derivatives[2:]), errors, tables[0][2]

    def _difference(self, found: Solved, t: float) -> list[Any]:
        """The leaves' derivative along a correction, by one difference."""
        place, w = self.place, self._weights(found)
        t = min(t, 1.0) if np.isfinite(t) else 1.0
        ahead, behind = (
            place.model.at(place.y + s * found.d, place.weights + s * w, True)[2] for s in (t, -t)
        )
        return [(a - b) / (2.0 * t) for a, b in zip(ahead, behind, strict=True)]

    def _left(
        self, given: Cotangents, found: Solved, bend: Floats, values: Floats
    ) -> tuple[float, Floats, Floats, Floats]:
        """What the ghost problem leaves: its largest entry in u's units, v, w of both rows."""
        place, ghost = self.place, self.ghost
        free = ghost.held[2]
        v = np.where(free, given.y + bend, 0.0)
        k, m = ghost.active_rows, place.m
        ineq, eq = np.zeros(m), values[1 + m :].copy()
        ineq[k] = values[1 + k]
        if given.ineq is not None:
            ineq[k] += given.ineq[k]
        if given.eq is not None:
            eq += given.eq
        left = float(np.abs(place.units * v)[free].max(initial=0.0))
        if not np.isfinite(left):
            left = np.inf
        return left, v, ineq, eq

    def _size(self, given: Cotangents, found: Solved) -> float:
        place, free = self.place, self.ghost.held[2]
        terms = [np.abs(place.units * given.y)[free], np.abs(found.curved)[free]]
        return max(float(t.max(initial=0.0)) for t in terms)

    def jvp(self, tangents: Sequence[Floats | None]) -> tuple[Floats, Duals]:
        """Tangents on y and on the multipliers from those on the leaves."""
        place, ghost = self.place, self.ghost
        v, values = np.zeros(place.n), np.zeros(place.weights.size)
        numbers = place.model.numbers
        ratio = max(
            (
                float((np.abs(t) / sizes_of(x)).max(initial=0.0))
                for t, x in zip(tangents, numbers, strict=True)
                if t is not None
            ),
            default=0.0,
        )
        if ratio > 0.0:
            at = differences.steps(ratio)
            signed = np.concatenate((at, -at))
            moved = [
                np.broadcast_to(x, (len(signed), *x.shape))
                if t is None
                else x + signed.reshape(-1, *(1,) * x.ndim) * t
                for t, x in zip(tangents, numbers, strict=True)
            ]
            y = np.broadcast_to(place.y, (len(signed), place.n))
            w = np.broadcast_to(place.weights, (len(signed), values.size))
            bends, tables, _ = place.model.each(y, w, moved=moved)
            v, error, _ = differences.line_derivative(bends, at)
            values, _, _ = differences.line_derivative(tables, at)
            size = float(np.abs(v).max(initial=0.0))
            self.error = max(self.error, error / size if size else 0.0)
        lower = upper = None
        if self.bounds.push is not None:
            lower, upper = self.bounds.push(tangents)
            upper = -upper
        m = place.m
        found = ghost.solve(v, values[1 : 1 + m], values[1 + m :], lower, upper)
        ineq = np.zeros(m)
        ineq[ghost.active_rows] = found.ineq
        return found.d, Duals(ineq, found.eq, found.lower, found.upper)

    def report(self) -> GradientReport:
        if not self.asked:
            self.vjp(Cotangents(np.ones(self.place.n)))
        place, ghost = self.place, self.ghost
        verdict: Verdict = "differentiable"
        if place.margin < max(KINK, 10.0 * place.residual):
            verdict = "weakly_active"
        if ghost.dependent:
            verdict = "dependent_constraints"
        if ghost.flat or not self.residual <= GHOST * 1e2:
            verdict = "not_unique"
        if ghost.negative or not self.error <= ERROR or not place.residual <= INACCURATE:
            verdict = "inaccurate_solution"
        active = len(ghost.rows) + int((~ghost.held[2]).sum())
        return GradientReport(
            verdict,
            self.residual,
            active,
            ghost.dependent + ghost.flat,
            place.margin,
            place.residual,
            self.calls,
            self.error,
        )


def polished(place: Place, how: str) -> Place:
    """The best point of a few Newton steps on the optimality conditions from this one."""
    best = place
    for _ in range(SWEEPS):
        enough = ENOUGH if how != "cg" or place.n <= DENSE else ENOUGH_OF_MANY
        if not enough < best.residual < np.inf:
            return best
        moved = _swept(best, how)
        if not moved.residual < best.residual:
            return best
        if moved.infeasibility > max(best.infeasibility, moved.residual):
            return best
        fell = moved.residual <= FALL * best.residual
        best = moved
        if not fell:
            return best
    return best


def _swept(place: Place, how: str) -> Place:
    ghost = Ghost(place, how, INEXACT if place.n > DENSE else 0.0)
    low, high, _ = ghost.held
    finite = [np.where(np.isfinite(b), b, 0.0) for b in (place.lower, place.upper)]
    # Multipliers of what does not hold are dropped before, so that the step makes up for them.
    ineq = np.zeros(place.m)
    ineq[ghost.active_rows] = place.duals.ineq[ghost.active_rows]
    duals = Duals(
        ineq,
        place.duals.eq,
        np.where(low, place.duals.lower, 0.0),
        np.where(high, place.duals.upper, 0.0),
    )
    bare = place.moved(place.y, duals)
    step = ghost.solve(
        bare.stationarity, place.h, place.e, finite[0] - place.y, place.y - finite[1]
    )
    y = place.y + step.d
    y = np.where(low, finite[0], np.where(high, finite[1], y))
    ineq = ineq.copy()
    ineq[ghost.active_rows] += step.ineq
    moved = replace(
        duals,
        ineq=np.maximum(ineq, 0.0),
        eq=duals.eq + step.eq,
        lower=np.maximum(duals.lower + step.lower, 0.0),
        upper=np.maximum(duals.upper + step.upper, 0.0),
    )
    return place.moved(np.clip(y, place.lower, place.upper), moved)


def sizes_of(x: Floats) -> Floats:
    """Of numbers, no smaller than a share of the largest."""
    size = np.abs(x)
    found: Floats = np.maximum(size, 1e-2 * (float(size.max(initial=0.0)) or 1.0))
    return found


def _span(found: Solved, place: Place) -> float:
    """The largest change of a variable along d, beside the variable."""
    size = np.abs(place.y)
    if place.typical is None:
        sizes = np.maximum(size, 1e-2 * max(1.0, float(size.max(initial=0.0))))
    else:
        sizes = np.maximum(size, place.typical)
    return float((np.abs(found.d) / sizes).max(initial=0.0))


def _relative(step: Solved, found: Solved) -> float:
    size = float(np.abs(found.d).max(initial=0.0))
    return float(np.abs(step.d).max(initial=0.0)) / size if size else 0.0
