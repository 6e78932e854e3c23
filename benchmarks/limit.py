"""The limit: the fastest bare solver through its own API, plus one factorization and one solve of
the KKT system of the active set, on one core. No batching, no checks, no framework.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from problems import QP
from scipy import sparse
from scipy.linalg import blas, lapack

__all__ = ["bare_cone_solver", "bare_solvers", "cone_kkt", "kkt"]


def bare_solvers(problem: QP) -> dict[str, Callable[[], Any]]:
    """What solves one element, by the name of the solver; all arrays are prepared beforehand."""
    is_sparse = sparse.issparse(problem.G)
    makers = (
        {"piqp": _piqp, "clarabel": _clarabel, "proxqp": _proxqp}
        if is_sparse
        else {"daqp": _daqp, "piqp": _piqp, "proxqp": _proxqp}
    )
    modules = {"proxqp": "proxsuite"}
    return {
        name: make(problem)
        for name, make in makers.items()
        if importlib.util.find_spec(modules.get(name, name)) is not None
    }


def _daqp(problem: QP) -> Callable[[], Any]:
    import daqp

    rows = np.ascontiguousarray(np.vstack([problem.A, problem.G]))
    upper = np.concatenate((problem.b, problem.h))
    lower = np.concatenate((problem.b, np.full(problem.h.size, -np.inf)))
    sense = np.zeros(upper.size, dtype=np.int32)
    sense[: problem.b.size] = 5  # equalities: active and immutable
    P, q = np.ascontiguousarray(problem.P), problem.q.copy()
    return lambda: daqp.solve(P, q, rows, upper, lower, sense)


def _piqp(problem: QP) -> Callable[[], Any]:
    import piqp

    P, q, G, h, A, b = problem.data
    lower = np.full(h.size, -np.inf)
    kind = piqp.SparseSolver if sparse.issparse(G) else piqp.DenseSolver

    def run() -> Any:
        solver = kind()
        solver.setup(P, q, A, b, G, lower, h)
        return solver.solve()

    return run


def _proxqp(problem: QP) -> Callable[[], Any]:
    from proxsuite import proxqp

    P, q, G, h, A, b = problem.data
    lower = np.full(h.size, -1e20)
    kind = proxqp.sparse if sparse.issparse(G) else proxqp.dense
    return lambda: kind.solve(P, q, A, b, G, lower, h)


def _clarabel(problem: QP) -> Callable[[], Any]:
    import clarabel

    P, A = sparse.triu(problem.P, format="csc"), sparse.vstack([problem.A, problem.G], format="csc")
    b = np.concatenate((problem.b, problem.h))
    cones = [clarabel.ZeroConeT(problem.b.size), clarabel.NonnegativeConeT(problem.h.size)]
    return bare_cone_solver(P, problem.q, A, b, cones)


def bare_cone_solver(P: Any, q: Any, A: Any, b: Any, cones: Any) -> Callable[[], Any]:
    """Clarabel on one thread, otherwise with its own settings."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    return lambda: clarabel.DefaultSolver(P, q, A, b, cones, settings).solve()


def kkt(problem: QP, v: Any) -> Callable[[], Any]:
    """Factorizes and solves [P C'; C 0] w = (v, 0) for the active rows C of one element.

    Dense: Cholesky of P and of the Schur complement. Sparse: LDL' (qdldl) with shifts of 1e-8.
    """
    on = problem.z > 0.0
    if sparse.issparse(problem.G):
        C = sparse.vstack([problem.G.tocsr()[on], problem.A], format="csc")
        return _sparse_kkt(problem.P, C, v, 1e-8)
    C = np.vstack([problem.G[on], problem.A])
    P, Ct = np.asfortranarray(problem.P), np.asfortranarray(C.T)

    def run() -> Any:
        L, _ = lapack.dpotrf(P, lower=1, clean=0)
        Y = blas.dtrsm(1.0, L, Ct, lower=1)
        S, _ = lapack.dpotrf(blas.dsyrk(1.0, Y, trans=1, lower=1), lower=1, clean=0)
        t = lapack.dtrtrs(L, v, lower=1)[0]
        mu = lapack.dpotrs(S, Y.T @ t, lower=1)[0]
        return lapack.dtrtrs(L, t - Y @ mu, lower=1, trans=1)[0], mu

    return run


def cone_kkt(P: Any, A: Any) -> Callable[[], Any]:
    """LDL' of [P A'; A -I], the least that a derivative of a cone program factorizes; one solve.

    A lower bound: the blocks of the cones' curvature, which add entries, are left out.
    """
    whole = P + sparse.triu(P, 1).T
    return _sparse_kkt(whole, sparse.csc_matrix(A), np.ones(A.shape[1]), 1.0)


def _sparse_kkt(P: Any, C: Any, v: Any, shift: float) -> Callable[[], Any]:
    import qdldl

    n, m = C.shape[1], C.shape[0]
    K = sparse.csc_matrix(
        sparse.bmat([[P + 1e-8 * sparse.identity(n), C.T], [C, -shift * sparse.identity(m)]])
    )
    upper, right = sparse.triu(K, format="csc"), np.concatenate((v, np.zeros(m)))
    return lambda: qdldl.Solver(upper, upper=True).solve(right)
