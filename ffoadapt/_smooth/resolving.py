"""``curvature="resolve"``: the derivative from two further solves of a tilted program."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._exceptions import DifferentiationError
from .bounds import Bounds
from .element import curvature_of, kinds
from .evaluation import Evaluation
from .model import Shifted
from .place import Place
from .refinement import Cotangents
from .settings import SmoothSettings
from .solving import solve, solvers_for

__all__ = ["resolved"]


TILT = 1e-4
"""How far the objective is tilted, beside its own gradient."""


def resolved(
    place: Place, bounds: Bounds, settings: SmoothSettings, given: Cotangents
) -> list[Any]:
    """[grad_th L(y+, mu+) - grad_th L(y-, mu-)] / 2 delta, of the programs with the cotangents
    times plus and minus delta added: an error of O(delta^2), and no active set."""
    n = place.n
    low, high = (np.zeros(n) if v is None else v for v in (given.lower, given.upper))
    ineq = np.zeros(place.m) if given.ineq is None else given.ineq
    eq = np.zeros(place.e.size) if given.eq is None else given.eq
    rows = np.concatenate((ineq, eq))
    size = max(float(np.abs(v).max(initial=0.0)) for v in (given.y * place.units, rows, low, high))
    delta = settings.step if settings.step is not None else TILT * place.steepness / size
    ends = []
    for sign in (delta, -delta):
        model = Shifted(place.model, sign * given.y, sign * rows)
        moved = Bounds(bounds.lower + sign * low, bounds.upper - sign * high)
        start = np.clip(place.y, moved.lower, moved.upper)
        runs = solvers_for(
            settings.solver, kinds(model.functions, moved), n, settings.solver_options
        )
        how, typical = curvature_of(settings, n), settings.typical_of(n)
        answer = solve(Evaluation(model, start), moved, runs, how, True, typical)
        if answer.place is None:
            raise DifferentiationError(
                f"curvature='resolve' could not solve the program with cotangents times "
                f"{sign:.1e} added: {answer.info.get('message', answer.status.value)}"
            )
        ends.append(answer.place)
    ahead, behind = ends
    parts = [place.model.at(p.y, p.weights, True)[2] for p in ends]
    leaves = [(a - b) / (2.0 * delta) for a, b in zip(*parts, strict=True)]
    if bounds.pull is not None:
        low = (ahead.duals.lower - behind.duals.lower) / (2.0 * delta)
        high = (ahead.duals.upper - behind.duals.upper) / (2.0 * delta)
        extra = bounds.pull(low, -high)
        leaves = [a if b is None else a + b for a, b in zip(leaves, extra, strict=True)]
    return leaves
