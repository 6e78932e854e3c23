"""Whether P is symmetric and positive semidefinite, up to what rounding of its numbers explains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse import csgraph

from .._exceptions import ProblemError
from .._kernel.boxes import ASYMMETRY, INDEFINITE
from .._oracle.workspace import Lease, Workspace
from .._program.batch import EPS, ProgramBatch
from .._program.pattern import Pattern
from .._runtime.costs import CONVEXITY_VARIABLES
from .._types import Floats

__all__ = ["ASYMMETRY", "check_convex"]


def check_convex(
    batch: ProgramBatch,
    refuse: Callable[[Iterable[int], ProblemError], None],
    refused: Collection[int],
) -> None:
    """Refuse the elements whose P is not symmetric and positive semidefinite, if they are not
    ``refused`` already.

    An eigenvalue may be negative by what rounding of the numbers explains: relative to the diagonal
    entries, so that units do not matter. A matrix of coarser numbers than float64 that is
    indefinite by their rounding becomes the nearest one that is not.
    """
    P, pattern = batch.P, batch.structure.P
    coarse, nearest = batch.precision > EPS, dict[int, Floats]()
    for i, values in enumerate(P if P.size else ()):
        where = f" of batch element {i}" if P.shape[0] > 1 else ""
        elements = [i] if P.shape[0] > 1 else range(batch.size)
        largest = float(np.abs(values).max())
        if largest == 0.0 or i in refused:
            continue
        difference = _asymmetry(values, pattern)
        if difference > max(ASYMMETRY, 8 * batch.precision) * largest:
            error = ProblemError(
                f"P{where} is not symmetric: |P - P'| is up to {difference:.3g}. The objective is "
                "1/2 x'Px, so give (P + P')/2, which states the same problem"
                + _triangle(values, pattern)
            )
            refuse(elements, error)
            continue
        if _semidefinite(values, pattern, _least_shift(values, pattern, largest)):
            continue
        n = batch.structure.n
        share = max(INDEFINITE, (8 + n) * batch.precision) if coarse else INDEFINITE
        shift = _shift(values, pattern, share, batch.precision)
        if not _semidefinite(values, pattern, shift):
            refuse(elements, _indefinite(values, pattern, where, share))
        elif coarse:
            nearest[i] = _nearest_semidefinite(values, pattern)
    if nearest:
        batch.P = np.stack([nearest.get(i, values) for i, values in enumerate(P)])


def _least_shift(values: Floats, pattern: Pattern | None, largest: float) -> Floats:
    """(n,) no more than `_shift` allows, and sooner found."""
    diagonal = _diagonal(values, pattern)
    return np.where(diagonal == 0.0, 8 * EPS * largest, INDEFINITE * np.maximum(diagonal, 0.0))


def _diagonal(values: Floats, pattern: Pattern | None) -> Floats:
    if pattern is None:
        return values.diagonal()
    diagonal = np.zeros(pattern.shape[0])
    diagonal[pattern.indices[pattern.diagonal]] = values[pattern.diagonal]
    return diagonal


def _shift(values: Floats, pattern: Pattern | None, share: float, precision: float) -> Floats:
    """(n,) what rounding explains of a negative eigenvalue, entry by entry of the diagonal.

    That is a share of the entry, and rounding of the largest entry that it is connected with: what
    blocks of others hold says nothing of a block.
    """
    diagonal = _diagonal(values, pattern)
    if pattern is None:
        rows, columns = np.nonzero(values)
        sizes = np.abs(values[rows, columns])
    else:
        on = values != 0.0
        rows, columns, sizes = pattern.indices[on], pattern.columns[on], np.abs(values[on])
    n = len(diagonal)
    ones = np.ones(len(rows), dtype=np.int8)
    graph = sparse.coo_matrix((ones, (rows, columns)), shape=(n, n))
    count, block = csgraph.connected_components(graph, directed=False)
    most = np.zeros(count)
    np.maximum.at(most, block[rows], sizes)
    shift = share * np.maximum(diagonal, 0.0) + 8 * precision * most[block]
    # A diagonal entry alone is exact.
    alone = np.bincount(block, minlength=count)[block] == 1
    return np.where(alone, share * np.abs(diagonal) * (diagonal > 0.0), shift)


def _indefinite(values: Floats, pattern: Pattern | None, where: str, share: float) -> ProblemError:
    """The error, with the most negative eigenvalue where the matrix is not large."""
    said = ""
    n = len(values) if pattern is None else pattern.shape[0]
    if n <= CONVEXITY_VARIABLES:
        P = values if pattern is None else pattern.matrix(values).toarray()
        with contextlib.suppress(np.linalg.LinAlgError):  # where numbers are beyond all bounds
            least = float(np.linalg.eigvalsh(0.5 * (P + P.T))[0])
            said = (
                f": its least eigenvalue is {least:.3g}, and rounding explains {share:.0e} of "
                "the diagonal at most"
            )
    return ProblemError(
        f"P{where} is not positive semidefinite{said}. So the problem is not convex. "
        "Give P = L L', or add a multiple of the identity"
    )


def _nearest_semidefinite(values: Floats, pattern: Pattern | None) -> Floats:
    """The values without their negative eigenvalues; of a sparse matrix, shifted by the least."""
    P = values if pattern is None else pattern.matrix(values).toarray()
    P = 0.5 * (P + P.T)
    if pattern is None:
        eigenvalues, vectors = np.linalg.eigh(P)
        if eigenvalues[0] >= 0.0:
            return values
        return (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
    if len(P) > CONVEXITY_VARIABLES:
        return values
    least = float(np.linalg.eigvalsh(P)[0])
    return np.where(pattern.diagonal, values - min(least, 0.0), values)


def _asymmetry(values: Floats, pattern: Pattern | None) -> float:
    """The largest entry of |P - P'|."""
    if pattern is None:
        return float(np.abs(values - values.T).max())
    if pattern.transposition is not None:
        return float(np.abs(values - values[pattern.transposition]).max(initial=0.0))
    matrix = pattern.matrix(values)
    return float(abs(matrix - matrix.T).max())


def _triangle(values: Floats, pattern: Pattern | None) -> str:
    """What to say besides of a matrix with nothing on one side of its diagonal."""
    if pattern is None:
        rows, columns = np.nonzero(values)
    else:
        rows, columns = pattern.indices[values != 0.0], pattern.columns[values != 0.0]
    side = "upper" if (rows <= columns).all() else "lower" if (rows >= columns).all() else ""
    if not side:
        return ""
    return (
        f". It is the {side} triangle alone, as some solvers take it: if it stands for the whole "
        "matrix, give P + P' - diag(P)"
    )


def _semidefinite(values: Floats, pattern: Pattern | None, shift: Floats) -> bool:
    """Whether P + diag(shift) is positive definite, but for rows of zeros."""
    if pattern is None:
        diagonal = values.diagonal()
        if (diagonal < -shift).any():
            return False
        shifted = values.T.copy(order="K")
        empty = (diagonal == 0.0) & (shift == 0.0)
        np.einsum("ii->i", shifted)[...] += np.where(empty, 1.0, shift)
        return bool(lapack.dpotrf(shifted, lower=1, clean=0, overwrite_a=1)[1] == 0)
    if pattern.diagonal.all():
        return bool((values >= -shift[pattern.indices]).all())
    none = np.zeros(1, np.int32)
    lease = Lease(pattern.key, lambda: Workspace.of(pattern.key, pattern, none, none[:0]))
    data = lease.space.filled(values, np.zeros(0))
    diagonal = _diagonal(values, pattern)
    empty = (diagonal == 0.0) & (shift == 0.0)
    data[lease.space.last] = diagonal + np.where(empty, 1.0, shift)
    try:
        lease.factorize(data)
    except RuntimeError:  # a pivot is 0
        return False
    return bool((lease.pivots() > 0.0).all())
