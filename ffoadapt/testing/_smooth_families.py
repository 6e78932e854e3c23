"""Ten families of programs of functions, with their gradients written by hand.

So no framework is needed. See `_smooth_problems` for all that the kit runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Floats
from ._smooth_problem import SmoothProblem

__all__ = ["FAMILIES", "MAKERS"]


def _logistic(rng: np.random.Generator) -> SmoothProblem:
    m, n = 60, 12
    X, t, w = rng.normal(size=(m, n)), np.sign(rng.normal(size=m)), np.exp(0.3 * rng.normal(size=n))

    def objective(y: Floats) -> tuple[Any, Floats]:
        margin = -t * (X @ y)
        value = np.logaddexp(0.0, margin).mean() + 0.5 * (w * y * y).mean()
        share = 1.0 / (1.0 + np.exp(-margin))
        return value, X.T @ (-t * share) / m + w * y / n

    return SmoothProblem("logistic", "no constraints", objective, np.zeros(n))


def _ellipsoid(rng: np.random.Generator) -> SmoothProblem:
    n = 9
    B = rng.normal(size=(n, n))
    B = B @ B.T / n + np.eye(n)
    a, c, start = 2.0 * rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)

    def objective(y: Floats) -> tuple[Any, Floats]:
        return ((y - a) ** 2).sum() + 0.1 * (y**4).sum(), 2.0 * (y - a) + 0.4 * y**3

    def equalities(y: Floats) -> tuple[Any, Floats]:
        return np.array([y @ B @ y - 3.0, y @ c - 0.2]), np.stack((2.0 * B @ y, c))

    return SmoothProblem(
        "ellipsoid", "a nonlinear and a linear equality", objective, start, equalities=equalities
    )


def _inequalities(rng: np.random.Generator) -> SmoothProblem:
    n = 10
    A, q, m = rng.normal(size=(3, n)), 1.0 + rng.normal(size=n), 0.1 * rng.normal(size=n)

    def objective(y: Floats) -> tuple[Any, Floats]:
        value = np.exp(y).sum() - q @ y + 0.05 * (y @ y) ** 2 / n
        return value, np.exp(y) - q + 0.2 * (y @ y) * y / n

    def inequalities(y: Floats) -> tuple[Any, Floats]:
        Ay = A @ y
        values = np.append(Ay**2 - 0.15, (y - m) @ (y - m) - 1.0)
        return values, np.vstack((2.0 * Ay[:, None] * A, 2.0 * (y - m)))

    return SmoothProblem(
        "inequalities",
        "inequalities and bounds of which many hold",
        objective,
        np.zeros(n),
        inequalities,
        lower=np.full(n, -0.4),
        upper=np.full(n, 0.5),
    )


def _sphere(rng: np.random.Generator) -> SmoothProblem:
    n = 8
    M = rng.normal(size=(n, n))
    M = (M + M.T) / 2.0
    q, start = 0.3 * rng.normal(size=n), 0.3 * rng.normal(size=n)

    def objective(y: Floats) -> tuple[Any, Floats]:
        return 0.5 * y @ M @ y + q @ np.sin(y), M @ y + q * np.cos(y)

    def equalities(y: Floats) -> tuple[Any, Floats]:
        return np.array([y @ y - 1.0]), 2.0 * y[None]

    return SmoothProblem(
        "sphere",
        "an objective that is not convex, on a sphere",
        objective,
        start,
        equalities=equalities,
        upper=np.full(n, 0.45),
    )


def _vertex(rng: np.random.Generator) -> SmoothProblem:
    A = rng.uniform(0.3, 2.0, (3, 3))
    y = np.append(rng.uniform(0.5, 2.0, 2), 0.0)
    z, z_lower = np.append(rng.uniform(0.5, 1.5, 2), 0.0), np.array([0.0, 0.0, 0.7])
    b = A @ y + np.array([0.0, 0.0, 1.0])
    q = z_lower - A.T @ z
    duals = {"z_ineq": z, "z_eq": np.zeros(0), "z_lower": z_lower, "z_upper": np.zeros(3)}
    return SmoothProblem(
        "vertex",
        "a linear program: the point is a vertex",
        lambda y: (q @ y, q),
        np.full(3, 0.1),
        lambda y: (A @ y - b, A),
        lower=np.zeros(3),
        y=y,
        duals=duals,
    )


def _dependent(rng: np.random.Generator) -> SmoothProblem:
    n = 6
    t, a = rng.normal(size=n), rng.normal(size=n)
    rows = np.stack((a, -3.0 * a, np.ones(n)))

    def objective(y: Floats) -> tuple[Any, Floats]:
        return 0.5 * ((y - t) ** 2).sum() + 0.1 * np.cosh(y).sum(), y - t + 0.1 * np.sinh(y)

    return SmoothProblem(
        "dependent",
        "equalities that depend on each other",
        objective,
        np.zeros(n),
        equalities=lambda y: (rows @ y - np.array([0.3, -0.9, 0.2]), rows),
        regular=False,
    )


def _simplex(rng: np.random.Generator) -> SmoothProblem:
    n, tau, c = 8, 0.3, 1e-3
    q = rng.normal(size=n)

    def objective(y: Floats) -> tuple[Any, Floats]:
        with np.errstate(all="ignore"):
            log = np.log(y + c)
            value = q @ y + 0.25 * y @ y + tau * (y * log).sum()
            return value, q + 0.5 * y + tau * (log + y / (y + c))

    return SmoothProblem(
        "simplex",
        "a logarithm that ends right below the bounds",
        objective,
        np.full(n, 1.0 / n),
        equalities=lambda y: (np.array([y.sum() - 1.0]), np.ones((1, n))),
        lower=np.zeros(n),
    )


def _scaled(rng: np.random.Generator) -> SmoothProblem:
    n = 7
    s, a = 10.0 ** np.linspace(-3, 3, n), 1.0 + rng.normal(size=n)

    def objective(y: Floats) -> tuple[Any, Floats]:
        u = y / s
        return ((u - a) ** 2).sum() + 0.1 * (u**4).sum(), (2.0 * (u - a) + 0.4 * u**3) / s

    def equalities(y: Floats) -> tuple[Any, Floats]:
        u, gradient = y / s, np.zeros(n)
        gradient[:2] = u[1] / s[0], u[0] / s[1]
        return np.array([1e-3 * (u[0] * u[1] - 0.4)]), 1e-3 * gradient[None]

    return SmoothProblem(
        "scaled",
        "variables from 1e-3 to 1e3, rows times 1e4 and 1e-3",
        objective,
        0.5 * s,
        lambda y: (np.array([1e4 * ((y / s).sum() - 2.0)]), 1e4 / s[None]),
        equalities,
        typical=s,
    )


def _hs071(rng: np.random.Generator) -> SmoothProblem:
    k, area, r = rng.uniform(0.8, 1.2), rng.uniform(22.0, 26.0), rng.uniform(38.0, 42.0)

    def objective(y: Floats) -> tuple[Any, Floats]:
        total = y[:3].sum()
        value = k * y[0] * y[3] * total + y[2]
        gradient = k * y[0] * y[3] * np.array([1.0, 1.0, 1.0, 0.0])
        gradient += k * total * np.array([y[3], 0.0, 0.0, y[0]]) + np.array([0.0, 0.0, 1.0, 0.0])
        return value, gradient

    def inequalities(y: Floats) -> tuple[Any, Floats]:
        others = [np.delete(y, i).prod() for i in range(4)]
        return np.array([area - y.prod()]), -np.array([others])

    return SmoothProblem(
        "hs071",
        "Hock and Schittkowski's problem 71",
        objective,
        np.array([1.0, 5.0, 5.0, 1.0]),
        inequalities,
        lambda y: (np.array([y @ y - r]), 2.0 * y[None]),
        np.ones(4),
        np.full(4, 5.0),
    )


def _rosenbrock(rng: np.random.Generator) -> SmoothProblem:
    n, c, r = 8, rng.uniform(40.0, 100.0), rng.uniform(3.5, 5.0)

    def objective(y: Floats) -> tuple[Any, Floats]:
        ahead, behind = y[1:], y[:-1]
        gap = ahead - behind**2
        gradient = np.zeros(n)
        gradient[1:] += 2.0 * c * gap
        gradient[:-1] -= 4.0 * c * gap * behind + 2.0 * (1.0 - behind)
        return (c * gap**2 + (1.0 - behind) ** 2).sum(), gradient

    return SmoothProblem(
        "rosenbrock",
        "a curved valley that a ball cuts",
        objective,
        np.full(n, 0.5),
        lambda y: (np.array([y @ y - r]), 2.0 * y[None]),
    )


MAKERS = (
    *(_logistic, _ellipsoid, _inequalities, _sphere, _vertex, _dependent, _simplex, _scaled),
    *(_hs071, _rosenbrock),
)

FAMILIES = tuple(make.__name__.removeprefix("_") for make in MAKERS)
"""Their names."""
