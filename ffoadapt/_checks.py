"""What a value must be before anything is computed with it, and the words when it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ._exceptions import ProblemError
from ._interfaces import ParametricProgram
from ._oracle.batched import definite
from ._oracle.workspace import Lease, Workspace
from ._pattern import Pattern
from ._program import ProgramBatch

__all__ = ["check_finite", "checked_program"]

Floats = NDArray[np.float64]

ASYMMETRY = 1e-5
"""|P - P'| above this fraction of max |P| is an error (float32 products come out at 1e-7)."""

INDEFINITE = 1e-8
"""P + this * max |P| * I must have a Cholesky factor (float64)."""


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


def checked_program(model: ParametricProgram, values: Sequence[Floats], size: int) -> ProgramBatch:
    """The programs for these values; raises `ProblemError` where they state no convex one."""
    model.check(values)
    batch = model.program(values, size)
    if not getattr(model, "convex", True):
        check_convex(batch)
    return batch


def check_convex(batch: ProgramBatch) -> None:
    """Raise unless each P is symmetric and positive semidefinite.

    Where all are definite beyond doubt their factors stay with the batch, for the oracle.
    """
    P, pattern = batch.P, batch.structure.P
    if pattern is None:
        if P.shape[-1] == 0:
            return
        batch.P_factor = definite(P, ASYMMETRY)
        if batch.P_factor is not None:
            return
    for i, values in enumerate(P):
        where = f" of batch element {i}" if P.shape[0] > 1 else ""
        largest = float(np.abs(values).max(initial=0.0))
        if largest == 0.0:
            continue
        difference = _asymmetry(values, pattern)
        if difference > ASYMMETRY * largest:
            raise ProblemError(
                f"P{where} is not symmetric: |P - P'| is up to {difference:.3g}. The objective is "
                "1/2 x'Px, so give (P + P')/2, which states the same problem"
            )
        if not _semidefinite(values, pattern, INDEFINITE * largest):
            raise ProblemError(
                f"P{where} is not positive semidefinite, so the problem is not convex. "
                "Give P = L L', or add a multiple of the identity"
            )


def _asymmetry(values: Floats, pattern: Pattern | None) -> float:
    """The largest entry of |P - P'|."""
    if pattern is None:
        return float(np.abs(values - values.T).max())
    if pattern.transposition is not None:
        return float(np.abs(values - values[pattern.transposition]).max(initial=0.0))
    matrix = pattern.matrix(values)
    return float(abs(matrix - matrix.T).max())


def _semidefinite(values: Floats, pattern: Pattern | None, shift: float) -> bool:
    """Whether P + shift * I is positive definite."""
    if pattern is None:
        if (values.diagonal() < -shift).any():
            return False
        shifted = values.T.copy(order="K")
        np.einsum("ii->i", shifted)[...] += shift
        return bool(lapack.dpotrf(shifted, lower=1, clean=0, overwrite_a=1)[1] == 0)
    if pattern.diagonal.all():
        return bool((values >= -shift).all())
    none = np.zeros(1, np.int32)
    lease = Lease(pattern.key, lambda: Workspace.of(pattern.key, pattern, none, none[:0]))
    data = lease.space.filled(values, np.zeros(0))
    diagonal = np.zeros(pattern.shape[0])
    diagonal[pattern.indices[pattern.diagonal]] = values[pattern.diagonal]
    data[lease.space.last] = diagonal + shift
    try:
        lease.factorize(data)
    except RuntimeError:  # a pivot is 0
        return False
    return bool((lease.pivots() > 0.0).all())
