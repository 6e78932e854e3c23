"""Seeded programs of every class that the benchmarks measure, most with a known solution.

A quadratic program is built from its solution: x, the duals and the slacks are drawn, then q, h and
b follow from the optimality conditions, so that the active set is known and well apart. Sizes are
near 1 throughout. Imports no solver, no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["QP", "cvxpy_problem", "cvxpy_values", "dense_lp", "dense_qp", "sparse_lp", "sparse_qp"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QP:
    """1/2 x'Px + q'x, Gx <= h, Ax = b, and its solution; dense ones may have a batch axis."""

    P: Any
    q: Floats
    G: Any
    h: Floats
    A: Any
    b: Floats
    x: Floats
    z: Floats
    y: Floats

    @property
    def data(self) -> tuple[Any, ...]:
        """P, q, G, h, A, b."""
        return self.P, self.q, self.G, self.h, self.A, self.b

    @property
    def n(self) -> int:
        return self.q.shape[-1]

    @property
    def batch(self) -> int:
        """The batch size; 1 where there is no batch axis."""
        return self.q.shape[0] if self.q.ndim == 2 else 1

    def element(self, i: int) -> QP:
        """Element i of a batch."""
        if self.q.ndim == 1:
            return self
        return QP(*(v[i] for v in (*self.data, self.x, self.z, self.y)))


def dense_qp(n: int, batch: int = 1, seed: int = 0) -> QP:
    """n inequalities of which half are active, n // 5 equalities; batch 1 has no batch axis."""
    rng = np.random.default_rng([seed, n, batch])
    k, p = n, n // 5
    M = rng.standard_normal((batch, n, n))
    P = M @ M.swapaxes(-1, -2) / n + 0.1 * np.eye(n)
    G, A = rng.standard_normal((batch, k, n)), rng.standard_normal((batch, p, n))
    return _around(P, G, A, k // 2, rng, squeeze=batch == 1)


def dense_lp(n: int, seed: int = 0) -> QP:
    """P = 0: a vertex where n // 5 equalities and n - n // 5 of 2 n inequalities meet."""
    rng = np.random.default_rng([seed, n, 77])
    k, p = 2 * n, n // 5
    G, A = rng.standard_normal((1, k, n)), rng.standard_normal((1, p, n))
    return _around(np.zeros((1, n, n)), G, A, n - p, rng, squeeze=True)


def _around(
    P: Floats, G: Floats, A: Floats, active: int, rng: np.random.Generator, squeeze: bool
) -> QP:
    batch, k, n = G.shape
    p = A.shape[1]
    x, y = rng.standard_normal((batch, n)), rng.standard_normal((batch, p))
    on = np.argsort(rng.random((batch, k)), axis=-1) < active
    z = np.where(on, rng.uniform(0.5, 1.5, (batch, k)), 0.0)
    s = np.where(on, 0.0, rng.uniform(0.5, 1.5, (batch, k)))
    q = -(_times(P, x) + _times(G.swapaxes(-1, -2), z) + _times(A.swapaxes(-1, -2), y))
    parts = (P, q, G, _times(G, x) + s, A, _times(A, x), x, z, y)
    return QP(*(v[0] for v in parts)) if squeeze else QP(*parts)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    return (matrices @ vectors[..., None])[..., 0]


def sparse_qp(n: int, pattern: str = "local", seed: int = 0) -> QP:
    """Projection (P = I) onto n // 2 inequalities, half active, and n // 5 equalities.

    7 nonzeros a row, 4.9 n in all: in a window of 11 columns (``"local"``: little fill) or
    anywhere (``"random"``).
    """
    rng = np.random.default_rng([seed, n, pattern == "local"])
    k, p = n // 2, n // 5
    M = _rows(k + p, n, pattern, rng)
    G, A = sparse.csc_matrix(M[:k]), sparse.csc_matrix(M[k:])
    return _sparse_around(sparse.identity(n, format="csc"), G, A, k // 2, rng)


def sparse_lp(n: int, seed: int = 0) -> QP:
    """P = 0, Ax = b, x >= 0 with n // 2 rows of 8 nonzeros: a vertex with n // 2 positive x.

    The columns of the positive x dominate their rows, so that the vertex is the only solution.
    """
    rng = np.random.default_rng([seed, n, 78])
    p = n // 2
    A = _rows(p, n, "local", rng)
    basic = np.linspace(0, n - 1, p).astype(int)
    order = np.argsort(A.indices.reshape(p, 7).min(axis=1), kind="stable")
    A = A + sparse.csr_matrix((np.full(p, 6.0), (order, basic)), shape=(p, n))
    A, G = sparse.csc_matrix(A), sparse.csc_matrix(-sparse.identity(n))
    x = np.zeros(n)
    x[basic] = rng.uniform(0.5, 1.5, p)
    z = np.where(x > 0.0, 0.0, rng.uniform(0.5, 1.5, n))
    y = rng.standard_normal(p)
    q = -(G.T @ z + A.T @ y)
    return QP(sparse.csc_matrix((n, n)), q, G, np.zeros(n), A, A @ x, x, z, y)


def _rows(rows: int, n: int, pattern: str, rng: np.random.Generator) -> Any:
    """(rows, n) with 7 distinct entries a row, CSR."""
    width = n if pattern == "random" else min(n, 11)
    if pattern == "random":
        columns = rng.integers(0, n, (rows, 7))
        while (same := np.diff(np.sort(columns, axis=1), axis=1).min(axis=1) == 0).any():
            columns[same] = rng.integers(0, n, (int(same.sum()), 7))
    else:
        # Rows in random order, so that no solver gets the band for free.
        start = rng.permutation(np.linspace(0, n - width, rows).astype(int))
        columns = start[:, None] + np.argsort(rng.random((rows, width)), axis=1)[:, :7]
    values = rng.standard_normal((rows, 7))
    indptr = np.arange(rows + 1) * 7
    return sparse.csr_matrix((values.ravel(), columns.ravel(), indptr), shape=(rows, n))


def _sparse_around(P: Any, G: Any, A: Any, active: int, rng: np.random.Generator) -> QP:
    k, n = G.shape
    x, y = rng.standard_normal(n), rng.standard_normal(A.shape[0])
    on = rng.permutation(k) < active
    z = np.where(on, rng.uniform(0.5, 1.5, k), 0.0)
    s = np.where(on, 0.0, rng.uniform(0.5, 1.5, k))
    q = -(P @ x + G.T @ z + A.T @ y)
    return QP(P, q, G, G @ x + s, A, A @ x, x, z, y)


def cvxpy_values(kind: str, n: int, batch: int) -> list[list[Floats]]:
    """The parameter values of ``batch`` such problems."""
    return [cvxpy_problem(kind, n, seed)[3] for seed in range(batch)]


def cvxpy_problem(kind: str, n: int, seed: int = 0) -> tuple[Any, list[Any], Any, list[Floats]]:
    """(problem, parameters, variable, parameter values) of a cone program or of the dense QP.

    ``soc``: projection of c onto the ball ||F x + f|| <= 1 in n // 2 dimensions.
    ``entropy``: maximal entropy with n // 5 moments given. ``sdp``: the nearest correlation matrix.
    ``robust``: a linear program whose rows hold for all x within 10 %. ``qp``: the dense QP with
    P = L'L.
    """
    import cvxpy as cp

    rng = np.random.default_rng([seed, n, len(kind)])
    if kind == "soc":
        x, c = cp.Variable(n), cp.Parameter(n)
        F, f = cp.Parameter((n // 2, n)), cp.Parameter(n // 2)
        problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x - c)), [cp.norm(F @ x + f) <= 1])
        values = [
            rng.standard_normal(n),
            rng.standard_normal((n // 2, n)) / np.sqrt(n),
            rng.standard_normal(n // 2),
        ]
        return problem, [c, F, f], x, values
    if kind == "entropy":
        x, c = cp.Variable(n), cp.Parameter(n)
        A, b = cp.Parameter((n // 5, n)), cp.Parameter(n // 5)
        problem = cp.Problem(cp.Minimize(-cp.sum(cp.entr(x)) + c @ x), [A @ x == b])
        matrix = rng.standard_normal((n // 5, n)) / np.sqrt(n)
        point = rng.uniform(0.2, 1.0, n)
        return problem, [c, A, b], x, [rng.standard_normal(n), matrix, matrix @ point]
    if kind == "sdp":
        X, C = cp.Variable((n, n), PSD=True), cp.Parameter((n, n))
        problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(X - C)), [cp.diag(X) == 1])
        noise = rng.standard_normal((n, n))
        return problem, [C], X, [(noise + noise.T) / 2 + np.eye(n)]
    if kind == "robust":
        x, c, A = cp.Variable(n), cp.Parameter(n), cp.Parameter((2 * n, n))
        rows = [A[i] @ x + 0.1 * cp.norm(x) <= 1 for i in range(2 * n)]
        problem = cp.Problem(cp.Minimize(c @ x), [*rows, cp.norm(x, "inf") <= 10])
        return problem, [c, A], x, [rng.standard_normal(n), rng.standard_normal((2 * n, n))]
    program = dense_qp(n, seed=seed)
    x = cp.Variable(n)
    shapes = [v.shape for v in program.data]
    L, q, G, h, A, b = (cp.Parameter(shape) for shape in shapes)
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(L @ x) + q @ x), [G @ x <= h, A @ x == b])
    values = [np.linalg.cholesky(program.P).T.copy(), *program.data[1:]]
    return problem, [L, q, G, h, A, b], x, values
