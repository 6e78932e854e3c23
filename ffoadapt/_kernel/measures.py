"""What `measure` says of points of dense programs, in NumPy; `c/point.c` is its compiled twin.

The figures of an element are, in this order: the four of `polyhedral.Scales`; the residuals of all
conditions and of feasibility alone, and the margin; the sum over the rows of what s and z lack of
being complementary; the length and the steepness of the data, the largest violation of a row beside
its size and the duality gap beside the objective's; the largest share of what is allowed of an
optimal point; and whether the program is near one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .._types import Floats
from . import polyhedral
from .polyhedral import Limits, largest

__all__ = [
    "FIGURES",
    "duality_gap",
    "largest_row_violation",
    "measure",
    "rounding_gap",
    "row_distances",
    "unmet_rows",
]

FIGURES = 14
"""How many figures an element has."""


@np.errstate(all="ignore")  # as where it is compiled
def measure(
    n: int,
    m: int,
    begin: int,
    end: int,
    P: Floats,
    q: Floats,
    A: Floats,
    b: Floats,
    squares: Floats,
    x: Floats,
    s: Floats,
    z: Floats,
    kinds: NDArray[np.int8],
    exact: bool,
    limits: Limits,
    active: NDArray[np.bool_],
    figures: Floats,
) -> None:
    """Writes ``active`` (B, m) and ``figures`` (B, 14) of elements ``begin`` to ``end - 1``."""
    part = slice(begin, end)
    P, q, A, b, squares = (v[part] if len(v) > 1 else v for v in (P, q, A, b, squares))
    points = _Points(P, q, A, b, squares, x[part], s[part], z[part], kinds, limits)
    active[part] = points.active()
    gradient = np.matmul(points.P, points.x[..., None])[..., 0] + points.q
    gap = None if exact else points.gap()
    length, steepness = (v[:, 0] for v in points.data_scales)
    kkt, *others = points.residuals(gradient, gap)
    row = points.row_violation(gap)
    between = points.duality_gap(np.sum(points.x * (gradient - points.q), axis=-1))
    primal, steep = points.scale.primal[:, 0], points.scale.gradient[:, 0]
    grown = np.maximum(np.maximum(primal / length, steep / steepness), 1.0)
    doubt = np.maximum(np.maximum(row, between) / limits.row, kkt * grown / limits.data)
    doubt = np.where((primal < limits.beyond) & (steep < limits.beyond), doubt, np.inf)
    scales = [v[:, 0] for v in points.scale]
    all_of_them = *scales, kkt, *others, length, steepness, row, between, doubt, points.near_one()
    for k, values in enumerate(all_of_them):
        figures[part, k] = values


class _Points:
    """Points of dense programs: x (B, n), s and z (B, m), and data with a leading axis B or 1."""

    def __init__(
        self,
        P: Floats,
        q: Floats,
        A: Floats,
        b: Floats,
        squares: Floats,
        x: Floats,
        s: Floats,
        z: Floats,
        kinds: NDArray[np.int8],
        limits: Limits,
    ) -> None:
        self.P, self.q, self.A, self.b, self.squares = P, q, A, b, squares
        self.x, self.s, self.z, self.limits = x, s, z, limits
        self.nonnegative, self.equality, self.curved = (kinds == k for k in range(3))
        self.norms, self.free = np.sqrt(squares), np.isposinf(b)
        self.held, self.diagonal = np.where(np.isfinite(b), b, 0.0), P.diagonal(axis1=-2, axis2=-1)
        data = np.abs(self.held) / self.norms, self.nonnegative, q, self.diagonal
        self.sizes = polyhedral.data_sizes(np, *data)
        size_x, size_z = largest(np, x), largest(np, z * self.norms)
        self.scale = polyhedral.scales(np, self.sizes, size_x, size_z)
        at = self.sizes, self.scale.primal, self.scale.gradient
        self.data_scales = polyhedral.data_scales(np, *at)

    def active(self) -> NDArray[np.bool_]:
        at = self.s, self.z, self.squares, self.scale, self.equality
        active: NDArray[np.bool_] = polyhedral.active_rows(np, *at) & ~self.curved
        return active

    def gap(self) -> Floats:
        """(B, m) Ax + s - b."""
        product = np.matmul(self.A, self.x[..., None])[..., 0]
        s, b = np.where(self.free, 0.0, self.s), np.where(self.free, 0.0, self.b)
        return np.where(self.free, 0.0, product + s - b)

    def residuals(self, gradient: Floats, gap: Floats | None) -> list[Floats]:
        """The residuals, and the sum of what s and z lack of being complementary; ``gradient`` is
        Px + q."""
        unit, rate = self.norms * self.scale.primal, self.norms / self.scale.gradient
        left = gradient + np.matmul(self.z[:, None], self.A)[:, 0]
        s, z, bounds = self.s / unit, self.z * rate, self.nonnegative & ~self.free
        at = s, z, None if gap is None else gap / unit, bounds, self.equality
        known = polyhedral.residuals(np, largest(np, left) / self.scale.gradient, *at)
        unpaired = np.where(self.equality, s, np.where(bounds, np.minimum(s, z), z))
        return [*known, np.abs(np.where(self.curved, 0.0, unpaired)).sum(axis=-1)]

    def row_violation(self, gap: Floats | None) -> Floats:
        far = unmet_rows(self.s, gap, self.free, self.nonnegative, self.equality)

        def terms() -> Floats:
            return np.matmul(np.abs(self.A), self._columns()[..., None])[..., 0]

        at = self.norms, self.b, self.data_scales[0]
        return largest_row_violation(far, *at, terms, self.limits)

    def duality_gap(self, bent: Floats) -> Floats:
        apart = np.where(np.isfinite(self.b), self.s, 0.0) * self.z
        terms = bent, self.q * self.x, self.held * self.z, apart
        steepness, curvature = self.sizes.steepness[:, 0], self.sizes.curvature[:, 0]

        def size() -> Floats:
            linear = np.sum(np.abs(self.q) * self._columns(), axis=-1)
            bent = self.diagonal * np.square(self._columns(held=True))
            return linear + np.sum(bent, axis=-1)

        known = not self.curved.any(), rounding_gap(steepness, curvature, self.limits)
        return duality_gap(*terms, *known, size, self.limits)

    def near_one(self) -> NDArray[np.bool_]:
        entries = np.maximum.reduce(np.abs(self.A), axis=-2, initial=0.0)
        rows = np.where(self.squares == 1.0, 0.0, self.norms)  # as of empty rows
        columns = np.where(entries > 0.0, entries, self.diagonal)
        near: NDArray[np.bool_] = polyhedral.near_one(np, self.sizes, rows, columns)
        return near

    def _columns(self, held: bool = False) -> Floats:
        """(B, n) the size of each variable, or, where ``held``, that which equalities say alone."""
        at = row_distances(self.held, self.sizes.farthest, self.norms, self.nonnegative)
        at = np.where(self.equality, at, 0.0) if held else at
        said = np.abs(self.A * (at / self.squares)[..., None])
        return np.maximum(np.abs(self.x), np.maximum.reduce(said, axis=-2, initial=0.0))


def row_distances(
    b: Floats, farthest: Floats, norms: Floats, nonnegative: NDArray[np.bool_]
) -> Floats:
    """(B, m) the finite |b|, as far away as bounds count."""
    far = np.abs(b)
    return np.where(nonnegative, np.minimum(far, farthest * norms), far)


def rounding_gap(steepness: Floats, curvature: Floats, limits: Limits) -> Floats:
    """(B,) the duality gap that is rounding, of programs of these sizes (B,)."""
    own = np.divide(steepness, curvature, out=np.zeros_like(steepness), where=curvature > 0.0)
    with np.errstate(over="ignore"):
        rounding: Floats = limits.rounding * (steepness * own)
    return rounding


def unmet_rows(
    s: Floats,
    gap: Floats | None,
    free: NDArray[np.bool_],
    nonnegative: NDArray[np.bool_],
    equality: NDArray[np.bool_],
) -> Floats:
    """(B, m) how far each row is from being satisfied; of curved cones, whose rows are not
    satisfied one by one, what Ax + s lacks of b: ``gap`` (B, m), None where that is 0."""
    far = np.where(equality, np.abs(s), np.where(nonnegative, np.maximum(-s, 0.0), 0.0))
    if gap is not None:
        far = np.maximum(far, np.abs(gap))
    return np.where(free, 0.0, far)


def largest_row_violation(
    far: Floats,
    norms: Floats,
    b: Floats,
    length: Floats,
    terms: Callable[[], Floats],
    limits: Limits,
) -> Floats:
    """(B,) the largest of these violations (B, m) beside the size of its row, 0 where none matters.

    ``terms`` gives the sums (B, m) of the magnitudes of the terms of each row; the size of a row is
    at most ``length`` (B, 1) times its norm, and at least |b|.
    """
    size = np.abs(b)
    matters = (far > limits.unseen * norms * length) & (far > limits.small * size)
    if not matters.any():
        return np.zeros(len(far))
    size = np.maximum(np.minimum(terms(), norms * length), size)
    beside = np.divide(far, size, out=np.zeros_like(far), where=matters)
    return np.maximum.reduce(beside, axis=-1, initial=0.0)


def duality_gap(
    bent: Floats,
    linear: Floats,
    pushed: Floats,
    apart: Floats,
    rows_pair: bool,
    rounding: Floats,
    terms: Callable[[], Floats],
    limits: Limits,
) -> Floats:
    """(B,) the duality gap |x'Px + q'x + b'z|, or sum |s_i z_i| where that is larger and rows pair
    up, beside the size of the objective; 0 where it is rounding.

    Given are x'Px (B,) and the terms q_j x_j (B, n), b_i z_i and s_i z_i (B, m); ``terms`` gives
    the size (B,) of the objective's terms where that of a solution may be 0, as that of |t|^2 with
    t = z - a is at z = a: bounds may be far away, so that of curvature equalities alone say it.
    """
    gap = np.abs(bent + linear.sum(axis=-1) + pushed.sum(axis=-1))
    if rows_pair:
        gap = np.maximum(gap, np.abs(apart).sum(axis=-1))
    size = np.abs(bent) + np.abs(linear).sum(axis=-1)
    matters = (gap > limits.small * size) & (gap > rounding)
    if not matters.any():
        return np.zeros(len(gap))
    size = size + terms()
    # Without an objective there is nothing that the gap could be of.
    return np.divide(gap, size, out=np.zeros_like(gap), where=matters & (size > 0.0))
