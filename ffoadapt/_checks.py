"""What a value must be before anything is computed with it, and the words when it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import qdldl
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from ._exceptions import ProblemError, ShapeError
from ._pattern import Pattern

__all__ = ["check_convex", "check_finite", "split_batch"]

Floats = NDArray[np.float64]

ASYMMETRY = 1e-5
"""|P - P'| above this fraction of max |P| is an error (float32 products come out at 1e-7)."""

STACKED = 64
"""Up to this size, numpy's stacked Cholesky beats one LAPACK call a matrix."""

INDEFINITE = 1e-8
"""P + this * max |P| * I must have a Cholesky factor (float64)."""


def split_batch(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], values: Sequence[Floats]
) -> list[tuple[int, ...]]:
    """The batch axes of each value, checked against its core shape."""
    lead = []
    for name, core, value in zip(names, shapes, values, strict=True):
        split = value.ndim - len(core)
        if split < 0 or value.shape[split:] != core:
            raise ShapeError(
                f"{name} has shape {value.shape}; expected {_shape(core)}, or with batch axes in "
                f"front {_shape(('batch', *core))}"
            )
        lead.append(value.shape[:split])
    return lead


def _shape(core: Sequence[object]) -> str:
    inside = ", ".join(map(str, core))
    return f"({inside},)" if len(core) == 1 else f"({inside})"


def check_finite(name: str, value: Floats, core: int, infinite: bool) -> None:
    """Raise unless all entries are finite; with ``infinite``, infinities pass and NaN does not."""
    # The sum of finite numbers is finite unless it overflows: a cheap first look.
    if np.isfinite(value.sum()):
        return
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


def check_convex(P: Floats, pattern: Pattern | None) -> None:
    """Raise unless each P of (B or 1, n, n), or (B or 1, nnz), is symmetric and semidefinite."""
    if pattern is None:
        if P.shape[-1] == 0:
            return
        size = np.abs(P).max(axis=(1, 2))
        asymmetry = np.abs(P - P.swapaxes(-1, -2)).max(axis=(1, 2))
        if (asymmetry <= ASYMMETRY * size).all() and _all_semidefinite(P, size):
            return
    for i, values in enumerate(P):
        where = f" of batch element {i}" if P.shape[0] > 1 else ""
        largest = float(np.abs(values).max(initial=0.0))
        if largest == 0.0:
            continue
        matrix = values if pattern is None else pattern.matrix(values)
        difference = float(abs(matrix - matrix.T).max())
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


def _all_semidefinite(P: Floats, size: Floats) -> bool:
    """A quick look at all of (B, n, n): whether each P + shift * I has a Cholesky factor."""
    if not size.any():
        return True
    if P.shape[0] == 1 or P.shape[-1] > STACKED:
        return all(
            s == 0.0 or _semidefinite(p, None, INDEFINITE * s)
            for p, s in zip(P, size.tolist(), strict=True)
        )
    shifted = P.copy()
    np.einsum("bii->bi", shifted)[...] += np.where(size > 0.0, INDEFINITE * size, 1.0)[:, None]
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    return True


def _semidefinite(values: Floats, pattern: Pattern | None, shift: float) -> bool:
    """Whether P + shift * I is positive definite."""
    if pattern is None:
        if (values.diagonal() < -shift).any():
            return False
        shifted = values.T.copy(order="K")
        np.einsum("ii->i", shifted)[...] += shift
        return bool(lapack.dpotrf(shifted, lower=1, clean=0, overwrite_a=1)[1] == 0)
    n = pattern.shape[0]
    if pattern.nnz == 0 or (pattern.indices == pattern.columns).all():
        return bool((values >= -shift).all())
    shifted = sparse.csc_matrix(pattern.matrix(values) + sparse.identity(n, format="csc") * shift)
    _, pivots, _ = qdldl.Solver(shifted).factors()
    return bool((np.asarray(pivots) > 0.0).all())
