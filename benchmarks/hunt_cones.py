"""Single cones for `hunt`: complementary pairs, and projections with their derivatives.

The derivatives are textbook formulas for the projection Pi, never the ghost rows of the oracle. All
is in extended precision (np.longdouble), so that the truth is exact to double precision also where
a program is ill-conditioned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffoadapt import (
    Cone,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)

__all__ = ["Exact", "log_uniform", "pair", "project"]

Exact = np.longdouble


def log_uniform(rng: np.random.Generator, low: float, high: float, size: Any = None) -> Any:
    return 10.0 ** rng.uniform(low, high, size)


def pair(rng: np.random.Generator, cone: Cone, how: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Complementary s, z of one block and the distance to the nearest kink of the projection.

    ``how``: strict; weak, at a kink; or near, at 1e-12 to 1e-2 of one.
    """
    small = {"strict": None, "weak": 0.0, "near": log_uniform(rng, -12, -2)}[how]
    a, c = rng.uniform(0.5, 1.5, 2)
    match cone:
        case ZeroCone():
            return np.zeros(cone.dim), rng.standard_normal(cone.dim), np.inf
        case NonnegativeCone():
            on, size = rng.uniform(size=cone.dim) < 0.5, rng.uniform(0.5, 1.5, cone.dim)
            if small is not None and cone.dim:
                size[rng.integers(cone.dim)] = small
            return np.where(on, 0.0, size), np.where(on, size, 0.0), size.min(initial=np.inf)
        case SecondOrderCone():
            u = rng.standard_normal(cone.dim - 1)
            u /= np.linalg.norm(u)
            low = rng.choice([-c, c]) if small is None else rng.choice([-1.0, 1.0]) * small
            high = rng.choice([1.0, 1.0, -1.0]) * a  # the eigenvalues t - |v| <= t + |v| of p
            low, high = min(low, high), max(low, high)
            p, margin = 0.5 * np.r_[high + low, (high - low) * u], min(abs(low), abs(high))
            if low > 0 or high < 0:  # exactly: the rounding of a zero dual would be an objective
                return np.maximum(np.sign(low), 0) * p, np.minimum(np.sign(low), 0) * p, margin
            s = 0.5 * (max(high, 0) * np.r_[1.0, u] + max(low, 0) * np.r_[1.0, -u])
            return s, s - p, margin
        case PSDCone():
            n = cone.n
            Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
            values = rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n)
            if small is not None:
                values[rng.integers(n)] = small * rng.choice([-1.0, 1.0])
            S, Z = (Q * np.maximum(values, 0)) @ Q.T, (Q * np.maximum(-values, 0)) @ Q.T
            return svec(S), svec(Z), float(np.abs(values).min())
    # the 3-d curves: s on the boundary with its normal, or in a region where Pi is linear
    z_size = c if small is None else small
    where = rng.choice(["curve", "curve", "inside", "apex", "face"]) if small is None else "curve"
    if isinstance(cone, ExponentialCone):
        x, y = rng.uniform(-1, 1), a
        e = np.exp(x / y)
        s, normal = np.array([x, y, y * e]), np.array([-e, -e * (1 - x / y), 1.0])
        if where == "inside":
            return s + np.array([0, 0, 1.0]), np.zeros(3), 0.1
        if where == "apex":  # u < 0, -u exp(v/u) < e w
            v = rng.uniform(-1, 1)
            return np.zeros(3), np.array([-a, v, a * np.exp(-v / a - 1) + c]), 0.1
        if where == "face":
            return np.array([-a, 0.0, c]), np.array([0.0, rng.uniform(0.5, 1.5), 0.0]), 0.1
    else:
        assert isinstance(cone, PowerCone)
        p, (x, y), sign = cone.alpha, rng.uniform(0.5, 1.5, 2), rng.choice([-1.0, 1.0])
        f = x**p * y ** (1 - p)
        s = np.array([x, y, sign * f])
        normal = np.array([p * f / x, (1 - p) * f / y, -sign])
        if where == "inside":
            return s * np.array([1, 1, 0.2]), np.zeros(3), 0.1
        if where == "apex":
            return np.zeros(3), np.array([a, c, 0.1 * sign]), 0.1
    return s, z_size * normal, (1.0 if small is None else small) * 0.1


def svec(S: np.ndarray) -> np.ndarray:
    columns, rows = np.triu_indices(len(S))
    return S[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def project(
    cone: Cone, p: np.ndarray, s: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pi(p) and its Jacobian, in extended precision, for p near s - z.

    The pair s, z in double precision says in which region of a 3-d curve p is.
    """
    p, m = p.astype(Exact), p.size
    match cone:
        case ZeroCone():
            return 0 * p, np.zeros((m, m), Exact)
        case NonnegativeCone():
            return np.maximum(p, 0), np.diag((p > 0).astype(Exact))
        case SecondOrderCone():
            return project_second_order(p)
        case PSDCone():
            return project_psd(cone.n, p)
    if not z.any():
        return p, np.eye(m, dtype=Exact)
    if not s.any():
        return 0 * p, np.zeros((m, m), Exact)
    if isinstance(cone, ExponentialCone) and s[1] == 0:  # the face y = 0
        D = np.diag(np.array([1, 0, 1], Exact))
        return D @ p, D
    return project_curve(cone, p, s, z)


def project_second_order(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    m, t, r = p.size, p[0], np.sqrt(np.sum(p[1:] ** 2))
    if t >= r:
        return p, np.eye(m, dtype=Exact)
    if t <= -r:
        return 0 * p, np.zeros((m, m), Exact)
    u, D = p[1:] / r, np.empty((m, m), Exact)
    D[0, 0], D[0, 1:], D[1:, 0] = 0.5, 0.5 * u, 0.5 * u
    D[1:, 1:] = 0.5 * ((1 + t / r) * np.eye(m - 1) - (t / r) * np.outer(u, u))
    return 0.5 * (t + r) * np.concatenate((np.ones(1), u)), D


def project_psd(n: int, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.triu_indices(n)
    factor = np.where(rows == columns, Exact(1), np.sqrt(Exact(2)))
    M = np.zeros((n, n), Exact)
    M[rows, columns] = M[columns, rows] = p / factor
    values, U = eigh(M)
    plus = np.maximum(values, 0)
    gap = values[:, None] - values
    positive = (values > 0).astype(Exact)
    same = np.sign(values)[:, None] == np.sign(values)
    ratio = np.where(same, positive[:, None], 0)
    ratio = np.where(same, ratio, (plus[:, None] - plus) / np.where(same, 1, gap))
    D = np.empty((p.size, p.size), Exact)
    for k in range(p.size):
        E = np.outer(U[rows[k]], U[columns[k]]) / factor[k]  # U'EU, half of it off the diagonal
        E = E + E.T if rows[k] != columns[k] else E
        D[k] = svec(U @ (ratio * E) @ U.T)
    return svec((U * plus) @ U.T), (D + D.T) / 2


def eigh(M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors in extended precision (Ogita and Aishima, 2018)."""
    U = np.linalg.eigh(M.astype(float))[1].astype(Exact)
    for _ in range(3):
        R, S = np.eye(len(M), dtype=Exact) - U.T @ U, U.T @ M @ U
        values = np.diag(S) / (1 - np.diag(R))
        gap = values - values[:, None]
        size = np.abs(M).max()
        close = np.abs(gap) <= 1e-10 * (size or 1)  # of one sign: any basis of them will do
        U = U + U @ np.where(close, R / 2, (S + values * R) / np.where(close, 1, gap))
    return values, U


def project_curve(
    cone: Cone, p: np.ndarray, s: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Onto the smooth surface f(s) = 0: Newton's method on s + k f'(s) = p, f(s) = 0 in s, k."""
    s = s.astype(Exact)
    k = np.sqrt(np.sum(z.astype(Exact) ** 2) / np.sum(surface(cone, s)[1] ** 2))
    for _ in range(6):
        f, gradient, hessian = surface(cone, s)
        K = np.zeros((4, 4), Exact)
        K[:3, :3], K[:3, 3], K[3, :3] = np.eye(3) + k * hessian, gradient, gradient
        wrong = np.concatenate((s + k * gradient - p, [f]))
        step = refined_solve(K, wrong)
        s, k = s - step[:3], k - step[3]
    D = refined_solve(K, np.eye(4, 3, dtype=Exact))[:3]
    return s, (D + D.T) / 2


def surface(cone: Cone, s: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """f, its gradient and its Hessian, where the cone is f <= 0 nearby."""
    x, y, t = s
    if isinstance(cone, ExponentialCone):
        e = np.exp(x / y)
        u = np.array([1, -x / y, 0], Exact)
        return y * e - t, np.array([e, e * (1 - x / y), -1], Exact), e / y * np.outer(u, u)
    assert isinstance(cone, PowerCone)
    a, sign = Exact(cone.alpha), np.sign(t)
    f, u = x**a * y ** (1 - a), np.array([1 / x, -1 / y, 0], Exact)
    gradient = np.array([-a * f / x, -(1 - a) * f / y, sign], Exact)
    return abs(t) - f, gradient, a * (1 - a) * f * np.outer(u, u)


def refined_solve(M: np.ndarray, right: np.ndarray, rounds: int = 4) -> np.ndarray:
    """M^-1 right to extended precision: LAPACK's solution, refined."""
    inverse = np.linalg.inv(M.astype(float)).astype(Exact)
    found = inverse @ right
    for _ in range(rounds):
        found = found + inverse @ (right - M @ found)
    return found
