"""What HiGHS is given of a program: with other numbers it writes beyond its memory.

With a quadratic objective that happens where curvature of 1e15 stands beside the 1e-7 that it adds,
and where active rows all but depend on each other, above all rows of very different sizes: its
basis is found singular too late. So the largest curvature is at most `CURVATURE`, rows have entries
near 1, and rows that follow from equalities, or repeat a row with tighter bounds, up to
`DEPENDENT`, are left out: their multipliers are 0, and whether the point satisfies them is for the
caller to judge, as it is of every row.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

from ffoadapt import BoxForm

CURVATURE = 1e8

DEPENDENT = 1e-7
"""A row follows from others where less than this share of it is orthogonal to them."""

WORK = 1e8
"""Beyond this product of n, the equalities and all rows none is compared with the equalities."""


class Given(NamedTuple):
    """The lower triangle of P, q, the entries of A and the bounds as HiGHS gets them; its
    multipliers times ``rows`` are those of the program; ``weight`` is what it adds to P."""

    P: sparse.csc_matrix
    q: np.ndarray
    entries: np.ndarray
    l: np.ndarray
    u: np.ndarray
    rows: np.ndarray | float
    weight: float


def given(p: BoxForm, weight: float) -> Given:
    """Linear programs stay as they are."""
    P, A = sparse.tril(p.P, format="csc"), p.A
    if not P.nnz:
        return Given(P, p.q, A.data, p.l, p.u, 1.0, 0.0)
    unit = max(1.0, P.data.max(initial=0.0) / CURVATURE)  # the largest is on the diagonal
    largest = np.zeros(len(p.l))
    np.maximum.at(largest, A.indices, np.abs(A.data))
    scale = np.exp2(-np.rint(np.log2(largest, where=largest > 0.0, out=np.zeros(largest.size))))
    entries, l, u = scale[A.indices] * A.data, scale * p.l, scale * p.u
    left_out = _left_out(sparse.csc_matrix((entries, A.indices, A.indptr), A.shape).tocsr(), l, u)
    l[left_out], u[left_out] = -np.inf, np.inf
    return Given(P / unit, p.q / unit, entries, l, u, unit * scale, weight)


def _left_out(A: sparse.csr_matrix, l: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The numbers of the rows that say nothing more."""
    norms = np.sqrt(np.asarray(A.multiply(A).sum(axis=1)).reshape(-1))
    some = np.flatnonzero(norms)
    rows, l, u = (
        sparse.diags(1.0 / norms[some]) @ A[some],
        l[some] / norms[some],
        u[some] / norms[some],
    )
    out = _repeated(rows, l, u)
    return some[out | _implied(rows, (l == u) & ~out)]


def _repeated(rows: sparse.csr_matrix, l: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(k,) which of these rows of length 1 are parallel to one with tighter bounds."""
    along = rows @ np.random.default_rng(0).standard_normal(rows.shape[1])
    turned = along < 0.0
    rows = sparse.diags(np.where(turned, -1.0, 1.0)) @ rows
    l, u = np.where(turned, -u, l), np.where(turned, -l, u)
    order, out = np.argsort(np.abs(along)), np.zeros(len(l), dtype=bool)
    while True:
        kept = order[~out[order]]
        apart = rows[kept[1:]] - rows[kept[:-1]]
        near = np.asarray(apart.multiply(apart).sum(axis=1)).reshape(-1) <= DEPENDENT**2
        a, b = kept[:-1][near], kept[1:][near]
        room = DEPENDENT * (1.0 + np.minimum(np.abs(l[a]), np.abs(u[a])))
        first = (l[a] >= l[b] - room) & (u[a] <= u[b] + room)
        second = (l[b] >= l[a] - room) & (u[b] <= u[a] + room)
        if not (first | second).any():
            return out
        out[np.where(first, b, a)[first | second]] = True


def _implied(rows: sparse.csr_matrix, equal: np.ndarray) -> np.ndarray:
    """(k,) which of these rows of length 1 follow from equalities that stay."""
    out, at = np.zeros(len(equal), dtype=bool), np.flatnonzero(equal)
    if not at.size or at.size * rows.shape[0] * rows.shape[1] > WORK:
        return out
    Q, R, order = linalg.qr(
        rows[at].toarray().T, mode="economic", pivoting=True, check_finite=False
    )
    rank = np.count_nonzero(np.abs(R.diagonal()) > DEPENDENT)
    basis = Q[:, :rank]
    along = rows @ basis
    near = np.flatnonzero(np.square(along).sum(axis=1) > 0.5)
    left = rows[near].toarray() - along[near] @ basis.T
    out[near] = np.linalg.norm(left, axis=1) <= DEPENDENT
    out[at[order[:rank]]] = False
    return out
