"""The cone of positive semidefinite matrices, in scaled-triangle (svec) coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ffoadapt._cones._base import CURVATURE_CAP, Cone, Floats, GhostRows, checked_size
from ffoadapt._exceptions import ShapeError

__all__ = ["PSDCone", "curvatures", "smat", "svec"]

Indices = NDArray[np.intp]


@lru_cache(maxsize=64)
def _triangle(n: int) -> tuple[Indices, Indices, Floats]:
    """Return row, column and factor (1 on the diagonal, sqrt 2 off it) of each svec entry."""
    column, row = np.triu_indices(n)  # upper by rows = lower by columns
    factor = np.where(row == column, 1.0, np.sqrt(2.0))
    for array in (row, column, factor):
        array.setflags(write=False)
    return row, column, factor


def svec(matrix: Floats) -> Floats:
    """Stack the lower triangles of (..., n, n) by columns, off-diagonals times sqrt 2.

    The upper triangle is not read. For symmetric matrices svec(X)'svec(Y) = trace(XY).
    Returns (..., n(n+1)/2).
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(f"svec: expected square matrices (..., n, n), got shape {matrix.shape}.")
    row, column, factor = _triangle(matrix.shape[-1])
    vector: Floats = matrix[..., row, column] * factor
    return vector


def smat(vector: Floats, n: int) -> Floats:
    """Return the symmetric matrices (..., n, n) whose ``svec`` is ``vector`` (..., n(n+1)/2)."""
    row, column, factor = _triangle(n)
    if vector.ndim < 1 or vector.shape[-1] != len(row):
        raise ShapeError(
            f"smat: expected vectors (..., {len(row)}) for n = {n}, got shape {vector.shape}."
        )
    entries = vector / factor
    matrix = np.empty((*vector.shape[:-1], n, n))
    matrix[..., row, column] = entries
    matrix[..., column, row] = entries
    return matrix


@dataclass(frozen=True)
class PSDCone(Cone):
    """{svec(S): S an n x n positive semidefinite matrix}, its own dual.

    Parameters
    ----------
    n
        The order of the matrices, an integer >= 1; the cone takes n(n+1)/2 rows.
    """

    n: int

    kind: ClassVar[str] = "psd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", checked_size("PSDCone", "n", self.n, 1))

    @property
    def dim(self) -> int:
        """The number of rows, n(n+1)/2."""
        return self.n * (self.n + 1) // 2

    @property
    def inner(self) -> Floats:
        """The identity."""
        return svec(np.eye(self.n))

    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """Clip the eigenvalues at 0, (N, dim)."""
        values, vectors = np.linalg.eigh(self._matrices(p))
        clipped = vectors * np.maximum(values, 0.0)[:, None, :]
        return svec(clipped @ vectors.transpose(0, 2, 1))

    def _matrices(self, p: Floats) -> Floats:
        """The rows of p as matrices; 0 in the place of those that have no eigenvalues."""
        if not np.abs(p).max(initial=0.0) < BEYOND:
            p = np.where((np.abs(p) < BEYOND).all(axis=1, keepdims=True), p, 0.0)
        return smat(p, self.n)

    def violation(self, s: Floats) -> Floats:
        """Return the Frobenius norm of the negative part, (N,)."""
        values = np.linalg.eigvalsh(self._matrices(s))
        norm: Floats = np.linalg.norm(np.minimum(values, 0.0), axis=1)
        if not np.abs(s).max(initial=0.0) < BEYOND:
            norm[~(np.abs(s) < BEYOND).all(axis=1)] = np.inf
        return norm

    def dual_violation(self, z: Floats) -> Floats:
        """Return the Frobenius norm of the negative part, (N,)."""
        return self.violation(z)

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Classify S - Z = sum_i l_i u_i u_i' by the signs of its eigenvalues.

        In the orthonormal basis B_ij = svec(sym(u_i u_j')), i <= j: an equality row for each pair
        with both l <= 0, curvature -l_i/l_j (at most CURVATURE_CAP) for l_i <= 0 < l_j, nothing
        for both l > 0. Where no l > 0, the unit rows stand for the whole basis. Rows that no
        block uses are left out. The margin is the smallest |l|.
        """
        return self.rows(*self.spectrum(s - z))

    def spectrum(self, p: Floats) -> tuple[Floats, Floats]:
        """Eigenvalues (N, n), ascending, and eigenvectors (N, n, n) of the rows of p (N, dim)."""
        values, vectors = np.linalg.eigh(self._matrices(p))
        return values, vectors

    def rows(self, values: Floats, vectors: Floats, whole: bool = True) -> GhostRows:
        """The ghost rows where S - Z has this spectrum; unit rows only for the ``whole`` basis."""
        apex, pairs = whole & (values[:, -1] <= 0), curvatures(values)
        second, first, _ = _triangle(self.n)  # pairs first <= second, so l_first <= l_second
        equal = np.isinf(pairs) & ~apex[:, None]
        mixed = np.isfinite(pairs) & (values[:, first] <= 0)
        rows_g, rows_r = np.flatnonzero(equal.any(axis=0)), np.flatnonzero(mixed.any(axis=0))
        rows = GhostRows.empty(len(values), self.dim, 0, 0)
        rows.active[:] = apex[:, None]
        mixed = mixed[:, rows_r]
        ratio = np.where(mixed, pairs[:, rows_r], 0.0)
        return GhostRows(
            active=rows.active,
            G=_basis(vectors, first[rows_g], second[rows_g]),
            has=equal[:, rows_g],
            weight=rows.weight,
            R=_basis(vectors, first[rows_r], second[rows_r], np.sqrt(ratio)),
            sigma=mixed.astype(np.float64),
            margin=np.abs(values).min(axis=1),
        )


def curvatures(values: Floats) -> Floats:
    """The curvature (..., dim) along each entry of svec in the eigenbasis of S - Z, from its
    ascending eigenvalues (..., n): that of `PSDCone.linearize`, and inf in equality rows."""
    second, first, _ = _triangle(values.shape[-1])
    below, above = values[..., first], values[..., second]
    mixed = (below <= 0) & (above > 0)
    size = np.where(mixed, above, 1.0)
    ratio = np.where(mixed, np.minimum(-below, CURVATURE_CAP * size), 0.0) / size
    weights: Floats = np.where(above > 0, ratio, np.inf)
    return weights


BEYOND = 1e120
"""Matrices with entries of this size, or with none that are numbers, have no eigenvalues here."""

CHUNK = 50_000
"""Numbers that `_basis` makes at once, few enough to stay in the cache."""


def _basis(vectors: Floats, i: Indices, j: Indices, weight: Floats | None = None) -> Floats:
    """Return the orthonormal svec(sym(u_i u_j')) of eigenvector columns, (N, len(i), dim), times
    the ``weight`` (N, len(i)) of each."""
    row, column, factor = _triangle(vectors.shape[-1])
    u = vectors.transpose(0, 2, 1)
    sizes = np.where(i == j, 0.5, np.sqrt(0.5))
    left = u[:, i] * (sizes if weight is None else sizes * weight)[..., None]
    right = u[:, j]
    basis: Floats = np.empty((*left.shape[:2], row.size))
    step = max(1, CHUNK // row.size)
    together = max(1, step // max(1, i.size))
    for k in range(0, len(u), together):
        for start in range(0, i.size, step):
            part = slice(k, k + together), slice(start, start + step)
            out, other = basis[part], np.take(left[part], column, axis=-1)
            np.take(left[part], row, axis=-1, out=out, mode="clip")
            out *= np.take(right[part], column, axis=-1)
            other *= np.take(right[part], row, axis=-1)
            out += other
            out *= factor
    return basis
