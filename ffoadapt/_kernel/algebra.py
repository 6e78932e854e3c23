"""What numerical code written once for all array libraries asks of one: its `Algebra`.

Arrays have any number of batch axes in front, and no value decides a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

__all__ = ["Algebra", "NumpyAlgebra"]

SHIFTS = (1e-14, 1e-12, 1e-10, 1e-8)
"""What is added to a diagonal, beside the largest entry, until the matrix is positive definite."""


class Algebra(Protocol):
    """What a library has that its array namespace ``xp`` does not; all numbers are float64."""

    xp: Any

    def eye(self, like: Any) -> Any:
        """The identity (n, n) for vectors (..., n), on their device."""

    def numbers(self, like: Any) -> Any:
        """0, 1, ..., n - 1 for vectors (..., n), on their device."""

    def factor(self, matrix: Any) -> tuple[Any, Any]:
        """Factors (..., n, n) of symmetric matrices, and which of these are positive definite
        (...); of the others the factors may be anything."""

    def substitute(self, factors: Any, columns: Any) -> Any:
        """What `factor` factorized, inverted, times columns (..., n, k), which may have more axes
        in front."""

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        """``carry = step(k, carry)`` for k = 0, ..., count - 1; the carry is a tuple of arrays,
        whose shapes and types stay."""

    def until(
        self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any, limit: int
    ) -> Any:
        """``carry = step(carry)`` as long as ``goes_on(carry)`` (...) holds for an element, and at
        most ``limit`` times. The step leaves alone what is done: it may be called more often, up
        to the limit, where to look is to wait for a device."""

    def seldom(
        self, needed: Any, function: Callable[..., Any], given: tuple[Any, ...], otherwise: Any
    ) -> Any:
        """``function(*given)`` for the elements that are ``needed`` (...), of which hardly ever
        there is one: what it gives for the others is not looked at."""


class NumpyAlgebra:
    """NumPy's."""

    xp: Any = np

    def eye(self, like: Any) -> Any:
        return np.eye(like.shape[-1])

    def numbers(self, like: Any) -> Any:
        return np.arange(float(like.shape[-1]))

    def factor(self, matrix: Any) -> tuple[Any, Any]:
        lower, fine = _lower(matrix)
        return np.linalg.inv(lower), fine

    def substitute(self, factors: Any, columns: Any) -> Any:
        return np.swapaxes(factors, -1, -2) @ (factors @ columns)

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        for k in range(count):
            carry = step(k, carry)
        return carry

    def until(
        self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any, limit: int
    ) -> Any:
        with np.errstate(all="ignore"):
            for _ in range(limit):
                if not np.any(goes_on(carry)):
                    break
                carry = step(carry)
        return carry

    def seldom(
        self, needed: Any, function: Callable[..., Any], given: tuple[Any, ...], otherwise: Any
    ) -> Any:
        if not np.any(needed):
            return otherwise
        result = np.array(otherwise)
        result[needed] = function(*(v[needed] for v in given))
        return result


def _lower(matrix: Any) -> tuple[Any, Any]:
    """Cholesky factors, and of which matrices they are. Of one that rounding has made indefinite,
    as iterates that run to infinity do, that of the nearest multiple of the identity added; its
    neighbours keep theirs."""
    try:
        return np.linalg.cholesky(matrix), np.ones(matrix.shape[:-2], dtype=bool)
    except np.linalg.LinAlgError:
        if matrix.ndim > 2:
            lower, fine = zip(*map(_lower, matrix), strict=True)
            return np.stack(lower), np.stack(fine)
    eye = np.eye(len(matrix)) * np.abs(matrix).max()
    for shift in SHIFTS if np.isfinite(eye).all() else ():
        try:
            return np.linalg.cholesky(matrix + shift * eye), np.asarray(False)
        except np.linalg.LinAlgError:
            continue
    return np.full_like(matrix, np.nan), np.asarray(False)
