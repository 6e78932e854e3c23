"""What a point of a program violates and which rows are active there, on the arrays of any library.

``xp`` is the namespace of the arrays: NumPy, or one that traces and compiles. Functions work along
the last axis, any axes before it are batches, and no value decides a shape. Products with P and A
are the caller's, so that dense and sparse matrices are served alike. `c/point.c` is the compiled
twin, element by element.

Rows are canonical, Ax + s = b with s in a cone: ``nonnegative`` and ``equality`` (..., m) say which
rows are in nonnegative and in zero cones; rows of curved cones are not judged one by one.
Slacks and multipliers are compared without units: with r_i the norm of row i, X the size of x and g
the size of the objective's gradient (`scales`), s_i / (r_i X) against z_i r_i / g.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "LIMITS",
    "Limits",
    "Residuals",
    "Scales",
    "Sizes",
    "active_rows",
    "data_scales",
    "data_sizes",
    "largest",
    "near_one",
    "residuals",
    "scales",
]


class Limits(NamedTuple):
    """What decides whether a point is optimal, beside the numbers of its program.

    Attributes
    ----------
    unseen
        Violations below this share of r_i X are rounding.
    small
        So are those below this share of |b_i|: no limit is so small.
    rounding
        A duality gap of this share of the objective's size without constraints, |q|^2 / P, is
        rounding: 64 times the distance from 1 to the next number.
    row
        An optimal point violates no row by more than this share of the row's size, and its duality
        gap is no larger than this share of the objective's.
    data
        An optimal point violates no condition by more than this share of the data.
    near
        Programs whose numbers are within this factor of 1 are solved in their own units.
    far
        Bounds count as no further from 0 than this many times the furthest other row.
    beyond
        With points of this size products overflow: they solve nothing.
    """

    unseen: float = 1e-13
    small: float = 1e-7
    rounding: float = 64 * 2.0**-52
    row: float = 1e-7
    data: float = 3e-6
    near: float = 1e4
    far: float = 1e2
    beyond: float = 1e120


LIMITS = Limits()


class Sizes(NamedTuple):
    """How large the data are, each (..., 1); see `ffoadapt._program.batch.DataSizes`."""

    reach: Any
    farthest: Any
    steepness: Any
    curvature: Any


class Scales(NamedTuple):
    """X and g, and the shares that the largest |x_i| and |z_i| r_i have in them, each (..., 1)."""

    primal: Any
    gradient: Any
    x: Any
    z: Any


class Residuals(NamedTuple):
    """Relative violations, each (...,): of all conditions; of feasibility alone; the least margin
    max(s_i, z_i) of a row, inf where there is none."""

    kkt: Any
    infeasibility: Any
    margin: Any


def largest(xp: Any, values: Any) -> Any:
    """(..., 1) the largest magnitude along the last axis, 0 without any."""
    magnitudes = xp.abs(values)
    reduce = xp.max if values.shape[-1] else xp.sum
    return reduce(magnitudes, axis=-1, keepdims=True)


def data_sizes(xp: Any, distances: Any, nonnegative: Any, q: Any, diagonal: Any) -> Sizes:
    """Those of |b_i| / r_i (..., m), 0 where b is infinite, of q and of the diagonal of P."""
    held = largest(xp, xp.where(nonnegative, 0.0, distances))
    nearest = smallest(xp, xp.where(nonnegative & (distances > 0.0), distances, xp.inf))
    farthest = LIMITS.far * xp.where(held > 0.0, held, nearest)
    reach = largest(xp, xp.where(nonnegative, xp.minimum(distances, farthest), distances))
    return Sizes(reach, farthest, largest(xp, q), largest(xp, diagonal))


def smallest(xp: Any, values: Any) -> Any:
    """(..., 1) the smallest value along the last axis, inf without any."""
    if values.shape[-1]:
        return xp.min(values, axis=-1, keepdims=True)
    return xp.sum(values, axis=-1, keepdims=True) + xp.inf


def scales(xp: Any, sizes: Sizes, size_x: Any, size_z: Any) -> Scales:
    """X and g at a point, from the data and the largest |x_i| and |z_i| r_i (..., 1).

    X counts the distances of the constraints from 0 and g over the curvature of the objective, and
    g the change of gradient over X, so that neither is 0 where the solution or its gradient happens
    to be. Data without a length (or a gradient) of their own say that x (or z) is 0 up to the
    solver's noise, or anything at all: that counts as 1.
    """
    reach, _, steepness, curvature = sizes
    primal, gradient = xp.maximum(size_x, reach), xp.maximum(steepness, size_z)
    curved, flat, centred = curvature > 0.0, steepness == 0.0, reach == 0.0
    length = xp.where(curved, gradient / xp.where(curved, curvature, 1.0), 0.0)
    gradient = xp.maximum(gradient, curvature * primal)
    primal = xp.maximum(primal, length)
    primal = xp.maximum(primal, xp.where(centred & (flat | ~curved), 1.0, 0.0))
    gradient = xp.maximum(gradient, xp.where(flat & (centred | ~curved), 1.0, 0.0))
    return Scales(primal, gradient, size_x / primal, size_z / gradient)


def data_scales(xp: Any, sizes: Sizes, primal: Any, gradient: Any) -> tuple[Any, Any]:
    """The length and the steepness (..., 1) of the data alone, whatever the point; X and g of the
    point where the data have none."""
    reach, _, steepness, curvature = sizes
    curved = curvature > 0.0
    own = xp.where(curved, steepness / xp.where(curved, curvature, 1.0), 0.0)
    length = xp.maximum(reach, own)
    steep = xp.maximum(steepness, curvature * length)
    return xp.where(length > 0.0, length, primal), xp.where(steep > 0.0, steep, gradient)


def active_rows(xp: Any, s: Any, z: Any, squares: Any, scale: Any, equality: Any) -> Any:
    """(..., m) whether z_i r_i / g > s_i / (r_i X), multiplied out, at a `Scales`, or equal."""
    return (z * (squares * (scale.primal / scale.gradient)) > s) | equality


def residuals(
    xp: Any, stationarity: Any, s: Any, z: Any, gap: Any, nonnegative: Any, equality: Any
) -> Residuals:
    """Of slacks and multipliers (..., m) without units.

    ``stationarity`` (..., 1) is the size of Px + q + A'z over g, and ``gap`` (..., m) is Ax + s - b
    without units, None where it is 0. ``nonnegative`` has no rows that constrain nothing.
    Complementarity of a row is |min(s_i, z_i)|, which unlike s_i z_i does not hide a point half way
    to a kink.
    """
    # Outside where positive, not complementary where negative.
    violation = xp.where(equality, xp.abs(s), xp.where(nonnegative, -xp.minimum(s, z), 0.0))
    kkt = xp.maximum(stationarity, largest(xp, violation))
    outside = -smallest(xp, -violation) if violation.shape[-1] else xp.zeros_like(stationarity)
    if gap is not None:
        outside = xp.maximum(outside, largest(xp, gap))
    margin = smallest(xp, xp.where(nonnegative, xp.maximum(s, z), xp.inf))
    return Residuals(*(v[..., 0] for v in (xp.maximum(kkt, outside), outside, margin)))


def near_one(xp: Any, sizes: Sizes, rows: Any, columns: Any) -> Any:
    """(...,) whether norms of rows, largest entries of columns, distances of constraints and the
    objective are all within ``LIMITS.near`` of 1, or 0."""
    least, most = 1.0 / LIMITS.near, LIMITS.near
    # Curvature may be small beside q, but not so small that its square is 0.
    near = (sizes.curvature == 0.0) | (sizes.curvature > 1e-100)
    for values in (rows, columns, sizes.reach, xp.maximum(sizes.steepness, sizes.curvature)):
        within = (values == 0.0) | ((values >= least) & (values <= most))
        near = near & xp.all(within, axis=-1, keepdims=True)
    return near[..., 0]
