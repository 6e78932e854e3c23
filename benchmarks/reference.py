"""Gradients at the known solution of a quadratic program, by one LU of its KKT matrix.

Shares nothing with the library: what every contestant of a run is held against.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from problems import QP
from scipy import sparse
from scipy.sparse import linalg

__all__ = ["NAMES", "gradient_error", "reference"]

Floats = NDArray[np.float64]

NAMES = ("P", "q", "G", "h", "A", "b")


def reference(problem: QP, v: Floats) -> dict[str, Any]:
    """Gradients of <v, x> with respect to all data; of sparse matrices on their patterns (COO)."""
    if problem.q.ndim == 2:
        parts = [reference(problem.element(i), v[i]) for i in range(problem.batch)]
        return {name: np.stack([part[name] for part in parts]) for name in NAMES}
    n, on, k = problem.n, problem.z > 0.0, problem.h.size
    if sparse.issparse(problem.G):
        C = sparse.vstack([problem.G.tocsr()[on], problem.A], format="csc")
        K = sparse.csc_matrix(sparse.bmat([[problem.P, C.T], [C, None]]))
        solved = linalg.splu(K).solve(np.concatenate((v, np.zeros(C.shape[0]))))
    else:
        C = np.vstack([problem.G[on], problem.A])
        K = np.block([[problem.P, C.T], [C, np.zeros((C.shape[0], C.shape[0]))]])
        solved = np.linalg.solve(K, np.concatenate((v, np.zeros(C.shape[0]))))
    w, zeta, eta = solved[:n], np.zeros(k), solved[n + int(on.sum()) :]
    zeta[on] = solved[n : n + int(on.sum())]
    x, z, y = problem.x, problem.z, problem.y
    return {
        "P": _outer(problem.P, -0.5, w, x, x, w),
        "q": -w,
        "G": _outer(problem.G, -1.0, z, w, zeta, x),
        "h": zeta,
        "A": _outer(problem.A, -1.0, y, w, eta, x),
        "b": eta,
    }


def _outer(like: Any, scale: float, a: Floats, b: Floats, c: Floats, d: Floats) -> Any:
    """scale (a b' + c d'), on the pattern of a sparse matrix: its values in COO order."""
    if not sparse.issparse(like):
        return scale * (np.outer(a, b) + np.outer(c, d))
    coo = like.tocoo()
    return scale * (a[coo.row] * b[coo.col] + c[coo.row] * d[coo.col])


def gradient_error(gradients: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest error of a gradient relative to the largest entry of the true one.

    P's gradient counts by its symmetric part: conventions differ beyond that.
    """
    worst = 0.0
    for name, got in gradients.items():
        want, have = expected[name], np.asarray(got)
        if name == "P" and have.ndim > 1:
            have = (have + have.swapaxes(-1, -2)) / 2.0
        scale = float(np.abs(want).max(initial=0.0)) or 1.0
        error = float(np.abs(have - want).max(initial=0.0)) / scale if have.size else 0.0
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst
