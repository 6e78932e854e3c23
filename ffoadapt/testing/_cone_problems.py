"""The problems with cones: projections and closed forms, and mixtures by construction."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._cones import (
    Cone,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)
from .._types import Floats
from ._problem import Problem

__all__ = ["cone_problems", "matrix_of", "triangle"]


def cone_problems(seed: int) -> list[Problem]:
    """The conic problems of the kit."""
    polyhedral = (NonnegativeCone(3), ZeroCone(1), NonnegativeCone(2), ZeroCone(1))
    curved = (
        ExponentialCone(),
        SecondOrderCone(3),
        NonnegativeCone(2),
        PSDCone(3),
        ZeroCone(1),
        PowerCone(0.3),
        SecondOrderCone(4),
    )
    return [
        _mixed("scrambled", "rows of zero and nonnegative cones in turn", polyhedral, seed),
        _mixed(
            "scrambled_soc",
            "second-order cones before linear rows",
            (SecondOrderCone(4), *polyhedral, SecondOrderCone(3)),
            seed,
        ),
        _mixed("scrambled_all", "all cones, in no order that any solver has", curved, seed),
        _soc_projection(seed),
        _psd_projection(seed),
        _entropy(seed),
        _power(seed),
    ]


def triangle(matrix: Floats, upper: bool = False, scale: float = np.sqrt(2.0)) -> Floats:
    """The scaled triangle of a symmetric matrix, stacked by columns: ours is the lower one."""
    entries = [
        matrix[i, j] * (1.0 if i == j else scale)
        for j in range(len(matrix))
        for i in (range(j + 1) if upper else range(j, len(matrix)))
    ]
    return np.array(entries)


def matrix_of(vector: Floats, upper: bool = False, scale: float = np.sqrt(2.0)) -> Floats:
    """The inverse of `triangle`."""
    n = round((np.sqrt(8 * vector.size + 1) - 1) / 2)
    basis = [triangle(m, upper, scale) for m in _symmetric_basis(n)]
    coordinates = np.linalg.solve(np.array(basis).T, vector)
    made: Floats = np.tensordot(coordinates, _symmetric_basis(n), 1)
    return made


def _symmetric_basis(n: int) -> Floats:
    pairs = [(i, j) for j in range(n) for i in range(j, n)]
    basis = np.zeros((len(pairs), n, n))
    for matrix, (i, j) in zip(basis, pairs, strict=True):
        matrix[i, j] = matrix[j, i] = 1.0
    return basis


def _orthogonal(rng: np.random.Generator, n: int) -> Floats:
    made: Floats = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return made


def _projection(name: str, about: str, cone: Cone, p: Floats, x: Floats, J: Floats) -> Problem:
    """minimize 1/2 |x - p|^2, x in the cone; J is the derivative of the projection."""
    n = p.size
    data = {"P": np.eye(n), "q": -p, "A": -np.eye(n), "b": np.zeros(n)}
    return Problem(name, about, "cone", data, (cone,), x=x, dual={"z": x - p}, jacobian={"q": -J})


def _soc_projection(seed: int) -> Problem:
    rng = np.random.default_rng([seed, 20])
    u = rng.standard_normal(3)
    u /= np.linalg.norm(u)
    t, r = 0.4, 1.7  # |t| < r: outside the cone and its polar
    x = 0.5 * (t + r) * np.r_[1.0, u]
    J = np.zeros((4, 4))
    J[0, 0], J[0, 1:], J[1:, 0] = 0.5, 0.5 * u, 0.5 * u
    J[1:, 1:] = 0.5 * ((1 + t / r) * np.eye(3) - (t / r) * np.outer(u, u))
    about = "projection onto the second-order cone"
    return _projection("soc_projection", about, SecondOrderCone(4), np.r_[t, r * u], x, J)


def _psd_projection(seed: int) -> Problem:
    """X = U max(L, 0) U'; its derivative by Daleckii and Krein."""
    rng = np.random.default_rng([seed, 21])
    values = np.array([-1.3, -0.6, 0.8, 1.9])
    U = _orthogonal(rng, 4)
    above = np.maximum(values, 0.0)
    gap = values[:, None] - values
    np.fill_diagonal(gap, 1.0)
    ratio = (above[:, None] - above) / gap
    np.fill_diagonal(ratio, values > 0)
    columns = [triangle(U @ (ratio * (U.T @ matrix_of(e) @ U)) @ U.T) for e in np.eye(10)]
    about = "projection onto the semidefinite matrices: order and scale of the triangle"
    p, x = (triangle(U @ np.diag(v) @ U.T) for v in (values, above))
    return _projection("psd_projection", about, PSDCone(4), p, x, np.array(columns).T)


def _entropy(seed: int) -> Problem:
    """minimize c'x + sum x log x, sum x = 1: x = softmax(-c). Variables (x, t), t >= x log x."""
    rng = np.random.default_rng([seed, 22])
    n = 3
    c = rng.standard_normal(n)
    x = np.exp(-c) / np.exp(-c).sum()
    A, b = np.zeros((1 + 3 * n, 2 * n)), np.zeros(1 + 3 * n)
    A[0, :n], b[0] = 1.0, 1.0
    for i in range(n):  # (-t_i, x_i, 1) in the cone: x_i exp(-t_i/x_i) <= 1
        A[1 + 3 * i, n + i], A[2 + 3 * i, i], b[3 + 3 * i] = 1.0, -1.0, 1.0
    full = np.r_[x, x * np.log(x)]
    # z_i = r_i (-1, x_i stuff, ...): stationarity in t gives u = -1, in x the rest.
    y = np.log(np.exp(-c).sum()) - 1.0
    z = np.zeros_like(b)
    z[0] = y
    z[1::3], z[2::3], z[3::3] = -1.0, c + y, x
    by_c = np.outer(x, x) - np.diag(x)
    J = np.zeros((2 * n, 2 * n))
    J[:n, :n] = by_c
    J[n:, :n] = (1.0 + np.log(x))[:, None] * by_c
    # A cost w on t asks for x = softmax(-c/w): to first order a change of c by -(w - 1) c.
    J[:n, n:] = _temperature(x)
    J[n:, n:] = (1.0 + np.log(x))[:, None] * J[:n, n:]
    return Problem(
        "entropy",
        "entropy on the simplex, the solution is softmax(-c)",
        "cone",
        {"P": None, "q": np.r_[c, np.ones(n)], "A": A, "b": b},
        (ZeroCone(1), *[ExponentialCone()] * n),
        x=full,
        dual={"z": z},
        jacobian={"q": J},
    )


def _temperature(x: Floats) -> Floats:
    """dx_i/dw_j for minimize c'x + sum w_j x_j log x_j on the simplex, at w = 1.

    Stationarity: c_j + w_j (1 + log x_j) + y = 0, so dx_j/x_j = -(1 + log x_j) dw_j - dy.
    """
    pull = np.diag(x * (1.0 + np.log(x)))
    made: Floats = np.outer(x, pull.sum(axis=0)) - pull
    return made


def _power(seed: int) -> Problem:
    """maximize x^a y^(1-a), p'(x, y) = w: x = a w/p_1, y = (1 - a) w/p_2 (Cobb and Douglas)."""
    rng = np.random.default_rng([seed, 23])
    a, w = 0.4, 2.0
    p = rng.uniform(0.5, 2.0, 2)
    share = np.array([a, 1.0 - a])
    best = np.prod((share / p) ** share)  # of one unit of w
    A = np.vstack([np.r_[p, 0.0], -np.eye(3)])
    xy = share * w / p
    return Problem(
        "power",
        "a Cobb-Douglas utility under a budget",
        "cone",
        {"P": None, "q": np.array([0.0, 0.0, -1.0]), "A": A, "b": np.r_[w, np.zeros(3)]},
        (ZeroCone(1), PowerCone(a)),
        x=np.r_[xy, best * w],
        dual={"z": np.r_[best, best * p, -1.0]},
        jacobian={},
    )


# ------------------------------------------------------------------------------ by construction


def _mixed(name: str, about: str, cones: tuple[Cone, ...], seed: int) -> Problem:
    rng = np.random.default_rng([seed, 24, len(cones)])
    pairs = [_boundary(cone, rng) for cone in cones]
    s, z = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    n = 9 if s.size < 20 else 18
    root = rng.standard_normal((n, n)) / np.sqrt(n)
    P, A, x = root @ root.T + np.eye(n), rng.standard_normal((s.size, n)) / np.sqrt(n), None
    x = rng.standard_normal(n)
    data: dict[str, Any] = {"P": P, "q": -P @ x - A.T @ z, "A": A, "b": A @ x + s}
    return Problem(name, about, "cone", data, cones, x=x, dual={"z": z})


def _boundary(cone: Cone, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Complementary s and z, strictly so: both on the boundary where the cone is curved."""
    size = rng.uniform(0.5, 1.5)
    if isinstance(cone, ZeroCone):
        return np.zeros(cone.dim), rng.standard_normal(cone.dim)
    if isinstance(cone, NonnegativeCone):
        free = np.arange(cone.dim) % 2 == 0
        both = rng.uniform(0.5, 1.5, cone.dim)
        return np.where(free, both, 0.0), np.where(free, 0.0, both)
    if isinstance(cone, SecondOrderCone):
        u = rng.standard_normal(cone.dim - 1)
        u /= np.linalg.norm(u)
        return size * np.r_[1.0, u], rng.uniform(0.5, 1.5) * np.r_[1.0, -u]
    if isinstance(cone, PSDCone):
        U, values = _orthogonal(rng, cone.n), rng.uniform(0.5, 1.5, cone.n)
        first = np.arange(cone.n) < (cone.n + 1) // 2
        s, z = (U @ np.diag(np.where(on, values, 0.0)) @ U.T for on in (first, ~first))
        return triangle(s), triangle(z)
    if isinstance(cone, ExponentialCone):
        x, y = rng.uniform(-1.0, 1.0), size
        e = np.exp(x / y)
        return np.array([x, y, y * e]), size * np.array([-e, -e * (1.0 - x / y), 1.0])
    assert isinstance(cone, PowerCone)
    a, (x, y) = cone.alpha, rng.uniform(0.5, 1.5, 2)
    f = x**a * y ** (1.0 - a)
    return np.array([x, y, f]), size * np.array([a * f / x, (1.0 - a) * f / y, -1.0])
