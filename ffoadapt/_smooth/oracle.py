"""Derivatives of the solution of a smooth program, from gradients alone.

With (d, eta) from the ghost problem for cotangents v on y and w on multipliers, the gradient in the
parameters is the derivative of grad_th L along (d, eta), which a table of differences gives; the
same calls give grad_y L and the constraints along (d, eta), so what the ghost problem's solution
leaves, and steps of refinement that make up for it. Forward mode is the ghost problem for the
change of grad_y L and of the constraints with the parameters. See docs/smooth.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._oracle.report import ERROR, Finding, GradientReport, shift_of
from .._types import Floats
from . import differences
from .bounds import Bounds, sizes_of
from .duals import Duals
from .ghost import Ghost
from .place import Place
from .refinement import Along, Cotangents, Refinement

__all__ = ["SmoothOracle"]


POOR = 1e-2
"""Above this relative residual the step of the differences is measured, and all is done again."""


class SmoothOracle:
    """The derivatives at a place; what it has found out once serves further cotangents."""

    def __init__(self, place: Place, bounds: Bounds, how: str) -> None:
        self.place, self.bounds, self.how = place, bounds, how
        self.error, self.residual, self.calls = 0.0, 0.0, 0
        self.asked = False
        near = None if how == "exact" else place.curvature  # what another place leaves is measured
        self.ghost = Ghost(place, how, near=near, measured=how == "cg")

    def vjp(self, given: Cotangents) -> list[Any]:
        """Gradients in the leaves."""
        model = self.place.model
        before = model.calls
        along = self._solution(given, True)
        leaves, solved = along.leaves, along.solved
        if self.bounds.pull is not None:
            parts = self.bounds.pull(solved.lower, -solved.upper)
            leaves = [a if b is None else a + b for a, b in zip(leaves, parts, strict=True)]
        self.asked = True
        self.calls = model.calls - before if not self.calls else self.calls
        self._note(along)
        return leaves

    def _note(self, along: Along) -> None:
        self.error = max(self.error, along.error)
        self.residual = max(self.residual, along.residual)

    def _solution(self, given: Cotangents, leaves: bool) -> Along:
        solved = self.ghost.solve(given.y, given.ineq, given.eq, given.lower, given.upper)
        if self.how == "exact":
            place, w = self.place, self.ghost.weights(solved)
            moved = place.model.along(place.y, place.weights, solved.d, w)[2]
            return Along(solved, moved, place.residual, solved.residual)
        refinement = Refinement(self.ghost, given, solved, leaves)
        if refinement.relative > POOR and not self.ghost.curvature.measured:
            self.ghost = Ghost(self.place, self.how)
            return self._solution(given, leaves)
        return refinement.refined()

    def jvp(self, tangents: Sequence[Floats | None]) -> tuple[Floats, Duals]:
        """Tangents on y and on the multipliers from those on the leaves."""
        place = self.place
        v, values = self._moved(tangents)
        lower = upper = None
        if self.bounds.push is not None:
            lower, upper = self.bounds.push(tangents)
            upper = -upper
        m = place.m
        given = Cotangents(v, values[1 : 1 + m], values[1 + m :], lower, upper)
        along = self._solution(given, False)
        self._note(along)
        ineq, solved = np.zeros(m), along.solved
        ineq[self.ghost.active_rows] = solved.ineq
        return solved.d, Duals(ineq, solved.eq, solved.lower, solved.upper)

    def _moved(self, tangents: Sequence[Floats | None]) -> tuple[Floats, Floats]:
        """How grad_y L (n,) and the values (1 + rows,) change along tangents of the leaves."""
        place, numbers = self.place, self.place.model.numbers
        v, values = np.zeros(place.n), np.zeros(place.weights.size)
        ratio = max(
            (
                float((np.abs(t) / sizes_of(x)).max(initial=0.0))
                for t, x in zip(tangents, numbers, strict=True)
                if t is not None
            ),
            default=0.0,
        )
        if ratio == 0.0:
            return v, values
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
        (v, values), errors, _ = differences.line_derivatives([bends, tables], at)
        size = float(np.abs(v).max(initial=0.0))
        self.error = max(self.error, float(errors[0]) / size if size else 0.0)
        return v, values

    def report(self) -> GradientReport:
        if not self.asked:
            self.vjp(Cotangents(np.ones(self.place.n)))
        place, ghost = self.place, self.ghost
        verdict = Finding(
            place.residual,
            place.margin,
            self.residual,
            limit=ERROR,
            dependent=bool(ghost.dependent),
            free=bool(ghost.flat),
            shift=shift_of(place.residual, place.margin),
            errors=(self.error,),
            unclear=ghost.negative,
        ).verdict
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
