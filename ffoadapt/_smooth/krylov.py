"""Linear systems with operators whose products are differences of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._types import Floats

__all__ = ["CG_TOLERANCE", "NEGATIVE", "STALLED", "Conjugate", "cgls", "conjugate_gradients"]


CG_TOLERANCE = 1e-12
"""The relative residual at which they stop."""

NEGATIVE = 1e-6
"""Curvatures below minus this share of the largest are no rounding."""

NOISE, SETTLED, PATIENCE = 1e-7, 12, 6
"""From that residual on, and after so many steps, they stop where it has not halved in so many: it
is in the noise of the differences."""

STALLED = 1e-3
"""Where they end above this residual, there is no solution, or another method finds it."""

LIMIT = 2_000
"""Their steps, at most."""


@dataclass
class Conjugate:
    """How conjugate gradients went.

    Attributes
    ----------
    x
        The solution.
    product
        The full product at x.
    residual
        Relative, of the sum of products.
    trouble
        ``""``, ``"negative"`` curvature, or ``"stalled"``.
    lowest, largest
        The curvatures p'Ap / p'p met on the way.
    """

    x: Floats
    product: Floats
    residual: float = 1.0
    trouble: str = ""
    lowest: float = np.inf
    largest: float = 0.0


def conjugate_gradients(
    apply: Callable[[Floats], tuple[Floats, Floats]],
    b: Floats,
    project: Callable[[Floats], Floats],
    tolerance: float,
    limit: int = LIMIT,
) -> Conjugate:
    """A x = b; ``apply`` gives A x, and a product of which it is a part.

    M. R. Hestenes and E. Stiefel, Journal of Research of the National Bureau of Standards 49
    (1952).
    """
    # In units of b, which is not 0: squares of tiny numbers would be 0, of large ones infinite.
    exponent = math.frexp(float(np.abs(b).max()))[1]
    b = np.ldexp(b, -exponent)
    size = float(np.linalg.norm(b))
    result = Conjugate(np.zeros_like(b), np.zeros(0))
    r, p, rr = b.copy(), b.copy(), size * size
    history = [1.0]
    for step in range(limit):
        Ap, whole = apply(p)
        curvature = float(p @ Ap)
        if not step:
            result.product = np.zeros_like(whole)
        share = curvature / float(p @ p)
        result.lowest, result.largest = min(result.lowest, share), max(result.largest, share)
        if not curvature > 0.0:
            scale = float(np.linalg.norm(p) * np.linalg.norm(Ap))
            result.trouble = "negative" if curvature < -NEGATIVE * scale else "stalled"
            break
        alpha = rr / curvature
        result.x, result.product = result.x + alpha * p, result.product + alpha * whole
        r = project(r - alpha * Ap)
        new = float(r @ r)
        result.residual = np.sqrt(new) / size
        history.append(result.residual)
        if history[-1] < tolerance:
            break
        stuck = step >= SETTLED and min(history[-PATIENCE:]) > 0.5 * min(history[:-PATIENCE])
        if stuck and min(history) < NOISE:
            break
        p, rr = r + (new / rr) * p, new
    if not result.trouble and result.residual > max(STALLED, tolerance):
        result.trouble = "stalled"
    result.x, result.product = (np.ldexp(v, exponent) for v in (result.x, result.product))
    return result


def cgls(apply: Callable[[Floats], Floats], b: Floats) -> tuple[Floats, float]:
    """The least-squares solution of A x = b with A symmetric, and its relative residual.

    Conjugate gradients on A A x = A b: right also where A is singular or indefinite.
    """
    x, r = np.zeros_like(b), b.copy()
    s = apply(r)
    p, gamma, first = s.copy(), float(s @ s), float(s @ s)
    size = float(np.linalg.norm(b))
    for _ in range(LIMIT):
        if gamma <= CG_TOLERANCE**2 * first or gamma == 0.0:
            break
        q = apply(p)
        qq = float(q @ q)
        if qq == 0.0:
            break
        alpha = gamma / qq
        x, r = x + alpha * p, r - alpha * q
        s = apply(r)
        new = float(s @ s)
        p, gamma = s + (new / gamma) * p, new
    return x, float(np.linalg.norm(r)) / size
