"""What a value must be before anything is computed with it, and the words when it is not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse import csgraph

from .._exceptions import FFOAdaptError, ProblemError
from .._oracle.batched import definite
from .._oracle.workspace import Lease, Workspace
from .._plugins.modeler import ParametricProgram
from .._program.batch import EPS, FAINT, ProgramBatch
from .._program.pattern import Pattern
from .._types import Floats

__all__ = [
    "Refused",
    "check_finite",
    "check_sizes",
    "checked_program",
    "finite_values",
    "too_large",
]


ASYMMETRY = 1e-5
"""|P - P'| above this fraction of max |P| is an error (float32 products come out at 1e-7)."""

INDEFINITE = 1e-8
"""P + this * diag(P) must have a Cholesky factor, where rounding of its numbers allows no more."""

RANGE = 1e100
"""The largest numbers of P, q, constraint matrices and right-hand sides are within this factor of
1."""

WHERE = {
    "P": "P",
    "q": "the linear objective q",
    "A": "the constraint matrix",
    "b": "the right-hand side of the constraints",
}

LOOKED_AT = 1000
"""Up to so many variables the eigenvalues of P are worth their time."""


@dataclass(eq=False)
class Refused:
    """The elements of a batch that state no program, each with the error that says why.

    Without ``contain`` the first error is raised. A contained element is not solved; where its
    numbers are not finite others take their place, so that nothing is computed with them.
    """

    contain: bool
    errors: dict[int, FFOAdaptError] = field(default_factory=dict)

    def add(self, elements: Iterable[int], error: FFOAdaptError) -> None:
        """Those elements are refused because of this error."""
        if not self.contain:
            raise error
        for i in elements:
            self.errors.setdefault(i, error)


def check_finite(name: str, value: Floats, core: int, infinite: bool) -> None:
    """Raise unless all entries are finite; with ``infinite``, infinities pass and NaN does not."""
    bad = np.isnan(value) if infinite else ~np.isfinite(value)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        element = ""
        if value.ndim > core:
            element = f" of batch element {', '.join(map(str, where[: value.ndim - core]))}"
        raise ProblemError(
            f"{name} holds {value[where]} at index {where[value.ndim - core :]}{element}; "
            f"expected {'numbers or infinite bounds' if infinite else 'finite numbers'}. "
            "Check the values that go into the layer (a diverged model gives NaN)"
        )


def finite_values(
    names: Sequence[str], values: Sequence[Floats], unbounded: Collection[str], refused: Refused
) -> list[Floats]:
    """Values (B or 1, ...) of which those of refused elements are those of another element, or 0.

    What is not finite refuses its element; a value that all elements share refuses all.
    """
    leads = [len(value) for value in values]
    size = max(leads, default=1) if 0 not in leads else 0
    for name, value in zip(names, values, strict=True):
        bad = np.isnan(value) if name in unbounded else ~np.isfinite(value)
        for i in np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim)))).tolist():
            what = "holds what is no number" if name in unbounded else "is not finite"
            error = ProblemError(f"{name} {what}")
            refused.add([i] if len(value) > 1 else range(size), error)
    return _replaced(values, refused, size)


def _replaced(values: Sequence[Floats], refused: Refused, size: int) -> list[Floats]:
    good = next((i for i in range(size) if i not in refused.errors), None)
    if good is None:
        return [np.zeros_like(value) for value in values]
    bad = list(refused.errors)
    found = []
    for value in values:
        if bad and len(value) > 1:
            value = value.copy()
            value[bad] = value[good]
        found.append(value)
    return found


def checked_program(
    model: ParametricProgram,
    values: Sequence[Floats],
    size: int,
    precisions: Sequence[float] | None = None,
    refused: Refused | None = None,
    attributes: bool = True,
) -> ProgramBatch:
    """The programs for these values; those that state no convex one are ``refused``.

    ``precisions`` are those of the types in which the values came, see `ProgramBatch`; None is that
    of float64. Without ``attributes``, values are not held to what parameters declare.
    """
    refused = refused or Refused(contain=False)
    if attributes or not getattr(model, "declares", False):
        values = _entering(model, values, size, precisions, refused)
    batch = model.program(values, size)
    batch.precision = max(precisions, default=EPS) if precisions else EPS
    if not getattr(model, "convex", True):
        check_convex(batch, refused)
    return batch


def _entering(
    model: ParametricProgram,
    values: Sequence[Floats],
    size: int,
    precisions: Sequence[float] | None,
    refused: Refused,
) -> Sequence[Floats]:
    """The values that enter the program; those of elements that state none are others'."""
    try:
        found = model.check(values, precisions)
    except FFOAdaptError as error:
        elements = getattr(error, "elements", None)
        refused.add(range(size) if elements is None else elements, error)
        values = _replaced(values, refused, size)
        # What is left is in order, but need not be what enters.
        found = model.check(values, precisions) if len(refused.errors) < size else None
    return values if found is None else found


def too_large(value: Floats) -> bool:
    """Whether a finite number is beyond `RANGE`."""
    size = np.abs(value)
    return bool(((size > RANGE) & (size < np.inf)).any())


def check_sizes(batch: ProgramBatch, refused: Refused) -> None:
    """Refuse the elements whose numbers are so large or so small that products of a few of them
    leave what a float64 holds; single entries may be as small as they like."""
    least, most = 1.0 / RANGE, RANGE
    for name, what in WHERE.items():
        values: Floats = np.abs(getattr(batch, name))
        counts = np.isfinite(values)
        if name == "b":  # a bound may be as far away as it likes
            counts &= ~(batch.structure.nonnegative & (batch.b > RANGE))
        values = np.where(counts, values, 0.0).reshape(len(values), math.prod(values.shape[1:]))
        largest = np.maximum.reduce(values, axis=-1, initial=0.0)
        odd = (largest != 0.0) & ~((least <= largest) & (largest <= most))
        for i in range(batch.size) if odd.any() else ():
            k = i if len(largest) > 1 else 0
            size = float(largest[k])
            if odd[k]:
                where = f" of batch element {i}" if batch.size > 1 else ""
                error = ProblemError(
                    f"the largest number in {what}{where} is {size:.3g}; expected one between "
                    f"{least:.0e} and {most:.0e}. State the problem in other units (and a missing "
                    "bound as inf)"
                )
                refused.add([i], error)
    if batch.faint:
        _check_faint(batch, refused)


def _check_faint(batch: ProgramBatch, refused: Refused) -> None:
    """Refuse the elements in which a row asks for something of numbers that are as good as 0."""
    dense = batch.as_dense() if not batch.structure.dense else batch
    size = np.abs(dense.A).max(axis=-1, initial=0.0)
    asks = np.where(batch.structure.equality, batch.b != 0.0, batch.b < 0.0)
    faint = (size > 0.0) & (size < FAINT) & asks
    for i in range(batch.size):
        row = faint[i if len(faint) > 1 else 0]
        if row.any():
            where = f" of batch element {i}" if batch.size > 1 else ""
            error = ProblemError(
                f"row {int(np.flatnonzero(row)[0])} of the constraint matrix{where} has no number "
                f"above {FAINT:.0e}, and its right-hand side is not 0. State it in other units"
            )
            refused.add([i], error)


def check_convex(batch: ProgramBatch, refused: Refused) -> None:
    """Refuse the elements whose P is not symmetric and positive semidefinite.

    An eigenvalue may be negative by what rounding of the numbers explains: relative to the diagonal
    entries, so that units do not matter. Where all are definite beyond doubt their factors stay
    with the batch, for the oracle. A matrix of coarser numbers than float64 that is indefinite by
    their rounding becomes the nearest one that is not.
    """
    P, pattern = batch.P, batch.structure.P
    if pattern is None:
        if P.shape[-1] == 0:
            return
        batch.P_factor = definite(P, ASYMMETRY)
        if batch.P_factor is not None:
            return
    coarse, nearest = batch.precision > EPS, dict[int, Floats]()
    for i, values in enumerate(P):
        where = f" of batch element {i}" if P.shape[0] > 1 else ""
        elements = [i] if P.shape[0] > 1 else range(batch.size)
        largest = float(np.abs(values).max(initial=0.0))
        if largest == 0.0 or i in refused.errors:
            continue
        difference = _asymmetry(values, pattern)
        if difference > max(ASYMMETRY, 8 * batch.precision) * largest:
            error = ProblemError(
                f"P{where} is not symmetric: |P - P'| is up to {difference:.3g}. The objective is "
                "1/2 x'Px, so give (P + P')/2, which states the same problem"
                + _triangle(values, pattern)
            )
            refused.add(elements, error)
            continue
        if _semidefinite(values, pattern, _least_shift(values, pattern, largest)):
            continue
        n = batch.structure.n
        share = max(INDEFINITE, (8 + n) * batch.precision) if coarse else INDEFINITE
        shift = _shift(values, pattern, share, batch.precision)
        if not _semidefinite(values, pattern, shift):
            refused.add(elements, _indefinite(values, pattern, where, share))
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
    if n <= LOOKED_AT:
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
    if len(P) > LOOKED_AT:
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
