"""The programs of functions of the conformance kit: ten families, and a few that have an answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._program.points import Status
from .._types import Floats
from ._smooth_families import FAMILIES, MAKERS
from ._smooth_problem import SmoothProblem

__all__ = ["FAMILIES", "smooth_problems"]


def smooth_problems(seed: int = 0) -> list[SmoothProblem]:
    """All programs, their numbers drawn from the seed."""
    makers = (
        *MAKERS,
        *(_box, _ball, _plane, _infeasible, _unbounded),
    )
    rngs = (np.random.default_rng([seed, 17, k]) for k in range(len(makers)))
    return [make(rng) for make, rng in zip(makers, rngs, strict=True)]


def _box(rng: np.random.Generator) -> SmoothProblem:
    n = 6
    d, t = rng.uniform(0.5, 1.5, n), np.array([-1.8, -0.5, 0.2, 0.6, 1.7, 2.0])
    low, high = np.full(n, -1.0), np.array([1.0, 1.0, 1.0, 1.0, 1.2, np.inf])
    y = np.clip(t, low, high)
    slope = np.sinh(d * (y - t)) / d
    duals = {
        "z_ineq": np.zeros(0),
        "z_eq": np.zeros(0),
        "z_lower": np.maximum(slope, 0.0),
        "z_upper": np.maximum(-slope, 0.0),
    }

    def objective(y: Floats) -> tuple[Any, Floats]:
        at = d * (y - t)
        return (np.cosh(at) / d**2).sum(), np.sinh(at) / d

    return SmoothProblem(
        "box",
        "bounds alone, of which some hold",
        objective,
        np.zeros(n),
        lower=low,
        upper=high,
        y=y,
        duals=duals,
    )


def _ball(rng: np.random.Generator) -> SmoothProblem:
    t, r = 2.0 + rng.uniform(size=5), 1.5
    far = float(np.linalg.norm(t))
    duals = {"z_ineq": np.array([(far / r - 1.0) / 2.0])}
    duals |= {"z_eq": np.zeros(0), "z_lower": np.zeros(5), "z_upper": np.zeros(5)}
    return SmoothProblem(
        "ball",
        "an inequality alone: the projection onto a ball",
        lambda y: (0.5 * (y - t) @ (y - t), y - t),
        np.zeros(5),
        lambda y: (np.array([y @ y - r * r]), 2.0 * y[None]),
        y=r * t / far,
        duals=duals,
    )


def _plane(rng: np.random.Generator) -> SmoothProblem:
    t, a = rng.normal(size=5), rng.normal(size=5)
    z = np.array([(a @ t + 1.0) / (a @ a)])
    return SmoothProblem(
        "plane",
        "an equality alone: the projection onto a plane",
        lambda y: (0.5 * (y - t) @ (y - t), y - t),
        np.zeros(5),
        equalities=lambda y: (np.array([a @ y + 1.0]), a[None]),
        y=t - z * a,
        duals={"z_ineq": np.zeros(0), "z_eq": z, "z_lower": np.zeros(5), "z_upper": np.zeros(5)},
    )


def _infeasible(rng: np.random.Generator) -> SmoothProblem:
    t = rng.normal(size=3)
    return SmoothProblem(
        "infeasible",
        "positive numbers whose sum is below -1",
        lambda y: ((y - t) @ (y - t), 2.0 * (y - t)),
        np.ones(3),
        lambda y: (np.array([y.sum() + 1.0]), np.ones((1, 3))),
        lower=np.zeros(3),
        status=Status.PRIMAL_INFEASIBLE,
    )


def _unbounded(rng: np.random.Generator) -> SmoothProblem:
    a = rng.uniform(0.5, 1.5, 2)
    return SmoothProblem(
        "unbounded",
        "a linear objective that falls without end",
        lambda y: (a @ y, a),
        np.zeros(2),
        upper=np.array([1.0, 2.0]),
        status=Status.DUAL_INFEASIBLE,
    )
