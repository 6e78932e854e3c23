"""The cones against their definitions, and their ghost rows against the derivative of a projection.

The projection of p onto K is s with z = s - p in K* and s'z = 0 (Moreau). It is the smallest
program with a cone: minimize 1/2 |x - p|^2 subject to -x + s = 0, s in K. Its ghost problem must
give the derivative of the projection, which finite differences of a reference give as well. The
references of the curved cones solve for a scalar by brentq, and each of their results is
certified by the definitions of K and K*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq

import ffoadapt._cones as cones_module
from ffoadapt._cones import (
    Cone,
    ExponentialCone,
    GhostRows,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
    smat,
    svec,
)
from ffoadapt._exceptions import ProblemError

EXP = ExponentialCone()
POWERS = [PowerCone(a) for a in (0.1, 0.3, 0.5, 0.7, 0.9)]
CONES: list[Cone] = [
    *(ZeroCone(1), ZeroCone(3), NonnegativeCone(1), NonnegativeCone(4)),
    *(SecondOrderCone(m) for m in (1, 2, 3, 6)),
    *(PSDCone(n) for n in (1, 2, 3, 4)),
    *(EXP, *POWERS),
]
CURVED = [EXP, *POWERS]
every_cone = pytest.mark.parametrize("cone", CONES, ids=repr)
every_curved = pytest.mark.parametrize("cone", CURVED, ids=repr)


# --- definitions, references --------------------------------------------------------------------


def slack_in(cone: Cone, s: np.ndarray, dual: bool = False) -> float:
    """Return a number >= 0 exactly where a vector s is in the cone (its dual) by definition."""
    if cone.kind == "zero":
        return 0.0 if dual else -float(np.abs(s).sum())
    if cone.kind == "nonnegative":
        return float(s.min())
    if cone.kind == "second_order":
        return float(s[0] - np.linalg.norm(s[1:]))
    if cone.kind == "psd":
        return float(np.linalg.eigvalsh(smat(s, cone.n)).min())
    x, y, t = map(float, s)
    if cone.kind == "power":
        a, b = cone.alpha, 1 - cone.alpha
        if min(x, y) < 0:
            return min(x, y)
        return ((x / a) ** a * (y / b) ** b if dual else x**a * y**b) - abs(t)
    if dual:  # u < 0, -u exp(v/u) <= e w is the primal cone of (-v, -u, e w) with -v = x', -u = y'
        x, y, t = -y, -x, np.e * t
    if y > 0:
        return t - y * np.exp(min(x / y, 700.0))
    return min(y, t, -x)


def project(cone: Cone, p: np.ndarray) -> np.ndarray:
    """Project one vector p onto the cone, to about 1e-15 |p|."""
    if cone.kind == "zero":
        return np.zeros_like(p)
    if cone.kind == "nonnegative":
        return np.maximum(p, 0.0)
    if cone.kind == "psd":
        values, vectors = np.linalg.eigh(smat(p, cone.n))
        return svec((vectors * np.maximum(values, 0.0)) @ vectors.T)
    if slack_in(cone, p) >= 0:
        return p.copy()
    if slack_in(cone, -p, dual=True) >= 0:
        return np.zeros_like(p)
    if cone.kind == "second_order":
        norm = np.linalg.norm(p[1:])
        return 0.5 * (p[0] + norm) * np.concatenate(([1.0], p[1:] / norm))
    return project_exponential(p) if cone.kind == "exponential" else project_power(cone.alpha, p)


def project_exponential(p: np.ndarray) -> np.ndarray:
    """Solve Friberg's (2021) monotone equation in rho = x/y of the projection."""
    x, y, t = map(float, p)
    if x <= 0 and y <= 0:
        return np.array([x, 0.0, max(t, 0.0)])

    def primal(rho: float) -> float:
        return ((rho - 1) * x + y) / (rho**2 - rho + 1)

    def dual(rho: float) -> float:
        return (x - rho * y) / (rho**2 - rho + 1) * np.exp(-rho)

    def gap(rho: float) -> float:
        return primal(rho) * np.exp(rho) - dual(rho) - t

    low, high = -300.0, 300.0
    if x != 0:
        low, high = (1 - y / x, high) if x > 0 else (low, 1 - y / x)
    if y != 0:
        low, high = (low, min(high, x / y)) if y > 0 else (max(low, x / y), high)
    if low > 300 or high < -300:  # exp(-300) from that end
        low = high = low if low > 300 else high
    low, high = (low, high) if low == high else (max(low, -300.0), min(high, 300.0))
    if low == high:
        rho = low
    elif gap(low) >= 0 or gap(high) <= 0:  # within rounding of an end
        rho = low if gap(low) >= 0 else high
    else:
        rho = brentq(gap, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000)
    if rho > 0:  # y is a small difference there, t is not
        return (t + dual(rho)) * np.array([rho * np.exp(-rho), np.exp(-rho), 1.0])
    return primal(rho) * np.array([rho, 1.0, np.exp(rho)])


def project_power(a: float, p: np.ndarray) -> np.ndarray:
    """Solve Hien's (2015) equation in r = |t| of the projection."""
    height = abs(float(p[2]))
    axis = np.array([max(p[0], 0.0), max(p[1], 0.0), 0.0])
    if height == 0:
        return axis

    def base(odds: float) -> np.ndarray:
        # 4 a r (|t| - r) where r/(|t| - r) = exp(odds): neither factor loses digits near its end
        weight = height**2 * np.array([a, 1 - a]) / (2 + 2 * np.cosh(odds))
        root = np.sqrt(p[:2] ** 2 + 4 * weight)
        # x = (p + root)/2 or, for p < 0 without cancellation, its conjugate
        return np.where(p[:2] >= 0, 0.5 * (p[:2] + root), 2 * weight / (root + np.abs(p[:2])))

    def gap(odds: float) -> float:
        x, y = base(odds)
        return a * np.log(x) + (1 - a) * np.log(y) - np.log(height) + np.log1p(np.exp(-odds))

    if gap(-300.0) <= 0:
        return axis
    odds = brentq(gap, -300.0, 300.0, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000)
    return np.array([*base(odds), np.copysign(height / (1 + np.exp(-odds)), p[2])])


def complementary(cone: Cone, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs s, z (N, dim) with s - z = p, certified by the definitions."""
    s = np.array([project(cone, point) for point in p]).reshape(p.shape)
    z = s - p
    for left, right, point in zip(s, z, p, strict=True):
        size = 1e-13 * np.linalg.norm(point)
        assert slack_in(cone, left) >= -size
        # A component of z that is 0 but for rounding makes v/u noise: allow the dual that noise.
        assert cone.dual_violation(right[None])[0] <= size
        assert abs(left @ right) <= size * np.linalg.norm(point)
    return s, z


def jacobian_of_projection(cone: Cone, p: np.ndarray, step: float = 2e-4) -> np.ndarray:
    """Return d project / d p (dim, dim) by central differences of fourth order."""
    columns = []
    for e in np.eye(len(p)):
        near = project(cone, p + step * e) - project(cone, p - step * e)
        far = project(cone, p + 2 * step * e) - project(cone, p - 2 * step * e)
        columns.append((8 * near - far) / (12 * step))
    return np.array(columns).T


# --- the ghost problem of the projection --------------------------------------------------------


def equalities(rows: GhostRows, block: int) -> np.ndarray:
    unit = np.eye(rows.active.shape[1])[rows.active[block]]
    return np.vstack((unit, rows.G[block][rows.has[block]]))


def curvatures(rows: GhostRows, block: int) -> tuple[np.ndarray, np.ndarray]:
    kept, weighted = rows.sigma[block] != 0, rows.weight[block] > 0
    unit = np.diag(np.sqrt(rows.weight[block]))[weighted]
    sigma = np.concatenate((np.ones(len(unit)), rows.sigma[block][kept]))
    return np.vstack((unit, rows.R[block][kept])), sigma


def curvature_matrix(rows: GhostRows, block: int) -> np.ndarray:
    r, sigma = curvatures(rows, block)
    return (r.T * sigma) @ r


def jacobian_of_ghost(rows: GhostRows, block: int) -> np.ndarray:
    """Solve K w = (v, 0, 0) with P = I, A = -I for every unit v; return the transposed w_x."""
    g = equalities(rows, block)
    r, sigma = curvatures(rows, block)
    n, m = g.shape[1], len(g)
    system = np.zeros((n + m + len(r),) * 2)
    system[:n, :n] = np.eye(n)
    system[n : n + m, :n], system[n + m :, :n] = -g, -r
    system[:n, n:] = system[n:, :n].T
    system[n + m :, n + m :] = -np.diag(sigma)
    right = np.eye(len(system))[:, :n]
    return np.linalg.solve(system, right)[:n].T


def assert_derivative(
    cone: Cone, p: np.ndarray, expected: np.ndarray | None = None, step: float = 2e-4
) -> GhostRows:
    """Compare the ghost's Jacobian at the points p (N, dim) with finite differences."""
    s, z = complementary(cone, p)
    rows = cone.linearize(s, z)
    check_sane(rows)
    for block, point in enumerate(p):
        ghost = jacobian_of_ghost(rows, block)
        true = jacobian_of_projection(cone, point, step)
        np.testing.assert_allclose(ghost, true, rtol=0, atol=1e-6, err_msg=f"{cone} at {point}")
        if expected is not None:
            np.testing.assert_allclose(ghost, expected, rtol=0, atol=1e-6)
    return rows


def check_sane(rows: GhostRows) -> None:
    for array in (rows.G, rows.weight, rows.R, rows.sigma):
        assert np.isfinite(array).all()
    assert not np.isnan(rows.margin).any() and (rows.margin >= 0).all()
    assert (rows.weight >= 0).all() and np.isin(rows.sigma, (-1.0, 0.0, 1.0)).all()
    for block in range(len(rows.active)):
        w, g = curvature_matrix(rows, block), equalities(rows, block)
        # The terms of W that cancel have the size of the weights and rows.
        size = max(rows.weight[block].max(initial=0), (rows.R[block] ** 2).max(initial=0))
        assert np.linalg.eigvalsh(w).min() >= -1e-14 * size
        np.testing.assert_allclose(g @ g.T, np.eye(len(g)), rtol=0, atol=1e-12)


def random_points(cone: Cone, count: int, seed: int, clear: float = 0.05) -> np.ndarray:
    """Return points p at least ``clear`` from where the projection is not differentiable."""
    rng = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    while len(points) < count:
        p = rng.normal(size=cone.dim) * np.exp(rng.normal(size=cone.dim))
        s = project(cone, p)
        if cone.kind == "psd":
            kinks = np.abs(np.linalg.eigvalsh(smat(p, cone.n)))
        elif cone.kind == "second_order":
            kinks = np.abs(p[0] + np.array([-1, 1]) * np.linalg.norm(p[1:]))
        elif cone.kind == "nonnegative":
            kinks = np.abs(p)
        elif cone.kind == "zero":
            kinks = np.array([1.0])
        elif not s.any() or not (s - p).any():  # interior of K or of -K*: how deep
            rest = p if s.any() else -p
            kinks = np.array([slack_in(cone, rest, dual=not s.any()), np.abs(p).min()])
        else:  # between K and -K*; the exponential cone has kinks on the axes as well
            kinks = np.array([np.linalg.norm(s), np.linalg.norm(s - p), *np.abs(p)])
        if kinks.min() > clear:
            points.append(p)
    return np.array(points)


@every_cone
def test_ghost_rows_give_the_derivative_of_the_projection(cone: Cone) -> None:
    assert_derivative(cone, random_points(cone, 60, seed=1))


@every_curved
def test_random_points_land_in_every_open_region(cone: Cone) -> None:
    p = random_points(cone, 300, seed=2)
    rows = cone.linearize(*complementary(cone, p))
    cases = {
        (*active, bool(has)) for active, has in zip(rows.active.tolist(), rows.has, strict=True)
    }
    expected = {(False,) * 4, (True, True, True, False), (False, False, False, True)}
    if cone == EXP:
        expected |= {(False, True, False, False), (False, True, True, False)}
    assert cases == expected


@pytest.mark.parametrize("cone", CONES[2:], ids=repr)  # {0} has no interior
def test_interior_and_apex(cone: Cone) -> None:
    inner = {
        "nonnegative": np.ones(cone.dim),
        "second_order": np.r_[2.0, np.full(cone.dim - 1, 0.5)],
        "psd": np.full(cone.dim, 0.3) + 2 * svec(np.eye(getattr(cone, "n", 1))),
        "exponential": np.array([0.5, 1.0, 4.0]),
        "power": np.array([1.0, 2.0, -0.3]),
    }[cone.kind]
    rows = assert_derivative(cone, inner[None], np.eye(cone.dim))
    assert not rows.active.any() and not rows.has.any() and not rows.sigma.any()
    outer = -np.array([-1.0, 0.5, 2.0]) if cone == EXP else -inner
    rows = assert_derivative(cone, outer[None], np.zeros((cone.dim, cone.dim)))
    assert rows.active.all() and not rows.has.any() and not rows.weight.any()
    assert rows.margin[0] > 0.1


# --- faces of the exponential and power cones ---------------------------------------------------


@pytest.mark.parametrize(
    ("p", "diagonal", "active"),
    [
        ((-1.0, -0.5, 2.0), (1, 0, 1), (False, True, False)),  # s = (x, 0, t), z = (0, v, 0)
        ((-1.0, -0.5, -2.0), (1, 0, 0), (False, True, True)),  # s = (x, 0, 0), z = (0, v, w)
        ((0.04, -1.0, 1.0), (0, 0, 1), None),  # s = (0, 0, t), z = (u, v, 0), rho = 26
        ((-1.0, 0.04, -1.0), (1, 1, 0), None),  # s = (x, y, 0), z = (0, 0, w), rho = -25
    ],
)
def test_exponential_faces(
    p: tuple[float, ...], diagonal: tuple[int, ...], active: tuple[bool, ...] | None
) -> None:
    rows = assert_derivative(EXP, np.array([p]), np.diag(diagonal).astype(float))
    assert rows.active[0].tolist() == list(active or (False,) * 3)
    assert rows.has[0, 0] == (active is None)


def test_exponential_faces_do_not_need_what_a_solver_cannot_resolve() -> None:
    # The exact y is exp(-26): a solver returns noise of either sign, or 0.
    for noise in (0.0, 1e-9, -1e-9, 1e-6, -1e-6):
        s, z = np.array([[noise, noise, 1.0]]), np.array([[-0.04, 1.0, 0.0]])
        ghost = jacobian_of_ghost(EXP.linearize(s, z), 0)
        np.testing.assert_allclose(ghost, np.diag([0.0, 0, 1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cone", POWERS, ids=repr)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [0.25, 1.0, 4.0])
def test_power_axis_rays(cone: PowerCone, axis: int, size: float) -> None:
    # s = e_axis, z = size on the other: fixed there; t is free where the boundary x^a y^b is
    # steeper than a line's square root, fixed where it is flatter, curved at a = 1/2.
    exponent = (1 - cone.alpha, cone.alpha)[axis]
    free = 1.0 if exponent < 0.5 else 0.0 if exponent > 0.5 else 1 / (1 + 2 * size)
    p = np.zeros((1, 3))
    p[0, axis], p[0, 1 - axis] = 1.0, -size
    expected = np.diag([1.0 - axis, float(axis), free])
    rows = assert_derivative(cone, p, expected, step=1e-6)
    assert rows.has[0, 0] and not rows.active.any()


@every_curved
def test_curved_rows_are_the_gradient_rows_of_the_design(cone: Cone) -> None:
    p = random_points(cone, 200, seed=3)
    s, z = complementary(cone, p)
    rows = cone.linearize(s, z)
    # Where the curvature is huge, the gradient rows are differences of powers of a tiny number.
    curved = np.flatnonzero(rows.has[:, 0] & ((rows.R[:, 0] ** 2).sum(axis=1) < 1e3))
    assert len(curved) > 40
    for block in curved:
        x, y, t = s[block]
        if cone == EXP:
            e = np.exp(x / y)
            g = np.array([e, e * (1 - x / y), -1])
            r = -(z[block] @ g) / (g @ g)
            row = np.sqrt(r * e / y) * np.array([1, -x / y, 0])
        else:
            a, f = cone.alpha, x**cone.alpha * y ** (1 - cone.alpha)
            g = np.array([-a * f / x, -(1 - a) * f / y, np.sign(t)])
            r = -(z[block] @ g) / (g @ g)
            row = np.sqrt(r * a * (1 - a) * f) * np.array([1 / x, -1 / y, 0])
        unit = g / np.linalg.norm(g)
        tangent = row - unit * (unit @ row)
        np.testing.assert_allclose(abs(rows.G[block, 0] @ unit), 1, rtol=1e-12)
        np.testing.assert_allclose(
            curvature_matrix(rows, block), np.outer(tangent, tangent), rtol=1e-7, atol=1e-9
        )


# --- positive semidefinite ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "eigenvalues",
    [
        (2, 2, -1, -1),  # both repeated
        (1, 1, 1, -3),
        (2, -1, -1, -1),  # S of rank one
        (3, 0.5, 0.5, 0.5),
        (1e-3, 1, -1, -1e-3),
    ],
)
def test_psd_repeated_eigenvalues_and_low_rank(eigenvalues: tuple[float, ...]) -> None:
    rng = np.random.default_rng(4)
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    p = svec(q @ np.diag(eigenvalues) @ q.T)[None]
    rows = assert_derivative(PSDCone(4), p, step=2e-5)
    negative = sum(value < 0 for value in eigenvalues)
    assert rows.has.sum() == negative * (negative + 1) // 2
    assert rows.sigma.sum() == negative * (4 - negative)
    np.testing.assert_allclose(rows.margin, np.abs(eigenvalues).min(), rtol=1e-12)


def test_svec_keeps_the_inner_product_and_stacks_the_lower_triangle_by_columns() -> None:
    rng = np.random.default_rng(5)
    x, y = (m + m.swapaxes(-1, -2) for m in rng.normal(size=(2, 2, 5, 4, 4)))
    trace = np.einsum("...ij,...ij->...", x, y)
    np.testing.assert_allclose((svec(x) * svec(y)).sum(axis=-1), trace)
    np.testing.assert_allclose(smat(svec(x), 4), x)
    order = svec(np.array([[1.0, 9, 9], [2, 4, 9], [3, 5, 6]]))
    np.testing.assert_allclose(order / [1, 2**0.5, 2**0.5, 1, 2**0.5, 1], [1, 2, 3, 4, 5, 6])
    with pytest.raises(ProblemError, match="square"):
        svec(np.zeros((3, 2)))
    with pytest.raises(ProblemError, match=r"\(\.\.\., 6\).*n = 3"):
        smat(np.zeros(5), 3)


# --- membership ---------------------------------------------------------------------------------


def member(cone: Cone, seed: int, dual: bool) -> np.ndarray:
    """Draw one vector of the cone or its dual from the definition, on or near faces at times."""
    rng = np.random.default_rng(seed)
    extra = rng.exponential() * rng.integers(0, 2)
    d = cone.dim
    if cone.kind == "zero":
        return rng.normal(size=d) if dual else np.zeros(d)
    if cone.kind == "nonnegative":
        return rng.exponential(size=d) * rng.integers(0, 2, size=d)
    if cone.kind == "second_order":
        v = rng.normal(size=d - 1)
        return np.r_[np.linalg.norm(v) + extra, v]
    if cone.kind == "psd":
        root = rng.normal(size=(cone.n, rng.integers(0, cone.n + 1)))
        return svec(root @ root.T)
    x, y = rng.exponential(size=2) * (rng.integers(0, 4, size=2) > 0)
    if cone.kind == "power":
        a, b = cone.alpha, 1 - cone.alpha
        top = (x / a) ** a * (y / b) ** b if dual else x**a * y**b
        return np.array([x, y, top * rng.choice([-1, 1, rng.uniform(-1, 1)])])
    rho = 3 * rng.normal()
    if y == 0:
        return np.array([0.0, abs(rho), extra]) if dual else np.array([-abs(rho), 0.0, extra])
    if dual:
        return np.array([-y, rho * y, y * np.exp(-rho - 1) + extra])
    return np.array([rho * y, y, y * np.exp(rho) + extra])


seeds = st.integers(0, 2**32 - 1)


@every_cone
@settings(max_examples=60, deadline=None)
@given(seed=seeds, other=seeds)
def test_members_have_no_violation_and_pair_nonnegatively(
    cone: Cone, seed: int, other: int
) -> None:
    s, z = member(cone, seed, dual=False), member(cone, other, dual=True)
    assert cone.violation(s[None])[0] <= 1e-14 * np.linalg.norm(s)
    assert cone.dual_violation(z[None])[0] <= 1e-14 * np.linalg.norm(z)
    assert s @ z >= -1e-13 * np.linalg.norm(s) * np.linalg.norm(z)


@every_cone
def test_violation_is_the_distance_and_zero_exactly_inside(cone: Cone) -> None:
    rng = np.random.default_rng(6)
    p = rng.normal(size=(300, cone.dim)) * np.exp(2 * rng.normal(size=(300, cone.dim)))
    inside = np.array([slack_in(cone, point) >= 0 for point in p])
    inside_dual = np.array([slack_in(cone, point, dual=True) >= 0 for point in p])
    violation, dual_violation = cone.violation(p), cone.dual_violation(p)
    assert violation.shape == dual_violation.shape == (300,)
    np.testing.assert_array_equal(violation == 0, inside)
    np.testing.assert_array_equal(dual_violation == 0, inside_dual)
    assert (violation >= 0).all() and (dual_violation >= 0).all()
    s = np.array([project(cone, point) for point in p])
    for found, true in [(violation, p - s), (cone.dual_violation(-p), s)]:
        error = np.abs(found - np.linalg.norm(true, axis=1))
        assert (error <= 1e-13 * np.linalg.norm(p, axis=1)).all()


entries = st.floats(-1e3, 1e3).map(lambda x: x if abs(x) > 1e-9 else 0.0)


@every_cone
@settings(max_examples=60, deadline=None)
@given(data=st.data(), factor=st.floats(1e-6, 1e6))
def test_violations_are_homogeneous_and_split_the_norm(
    cone: Cone, data: st.DataObject, factor: float
) -> None:
    p = data.draw(arrays(np.float64, (1, cone.dim), elements=entries))
    norm = np.linalg.norm(p)
    for violation in (cone.violation, cone.dual_violation):
        np.testing.assert_allclose(
            violation(factor * p), factor * violation(p), rtol=1e-7, atol=1e-13 * factor * norm
        )
    # Moreau: |p|^2 = dist(p, K)^2 + dist(-p, K*)^2.
    squares = cone.violation(p)[0] ** 2 + cone.dual_violation(-p)[0] ** 2
    np.testing.assert_allclose(squares, norm**2, rtol=1e-12, atol=0)


# --- laws of linearize --------------------------------------------------------------------------


@every_cone
def test_curvature_scales_like_z_over_s(cone: Cone) -> None:
    s, z = complementary(cone, random_points(cone, 40, seed=7))
    one = cone.linearize(s, z)
    largest = [np.abs(curvature_matrix(one, block)).max() for block in range(len(s))]
    assert np.median(largest) < 1e5  # the law ends at CURVATURE_CAP
    for a, b in [(3.0, 0.5), (1e-3, 1.0), (1e3, 20.0)]:
        other = cone.linearize(a * s, b * z)
        np.testing.assert_array_equal(other.active, one.active)
        np.testing.assert_array_equal(other.has, one.has)
        for block in np.flatnonzero(np.array(largest) < 1e5):
            left, right = equalities(one, block), equalities(other, block)
            np.testing.assert_allclose(left.T @ left, right.T @ right, rtol=0, atol=1e-9)
            w = curvature_matrix(one, block)
            np.testing.assert_allclose(
                curvature_matrix(other, block) * (a / b), w, rtol=1e-7, atol=1e-9 * np.abs(w).max()
            )


@every_cone
def test_blocks_do_not_see_each_other(cone: Cone) -> None:
    s, z = complementary(cone, random_points(cone, 30, seed=8))
    together = cone.linearize(s, z)
    for block in range(len(s)):
        alone = cone.linearize(s[block : block + 1], z[block : block + 1])
        np.testing.assert_array_equal(alone.active[0], together.active[block])
        np.testing.assert_allclose(alone.margin[0], together.margin[block], rtol=1e-12)
        np.testing.assert_allclose(equalities(alone, 0), equalities(together, block), atol=1e-12)
        np.testing.assert_allclose(
            curvature_matrix(alone, 0), curvature_matrix(together, block), rtol=1e-9, atol=1e-12
        )
    empty = cone.linearize(s[:0], z[:0])
    assert empty.active.shape == (0, cone.dim) and empty.margin.shape == (0,)
    assert cone.violation(s[:0]).shape == cone.dual_violation(z[:0]).shape == (0,)


@every_cone
@pytest.mark.parametrize("noise", [1e-7, 1e-4])
def test_an_inexact_solution_has_the_same_rows(cone: Cone, noise: float) -> None:
    rng = np.random.default_rng(9)
    s, z = complementary(cone, random_points(cone, 40, seed=10))
    exact = cone.linearize(s, z)
    close = cone.linearize(
        s + noise * rng.uniform(-1, 1, size=s.shape), z + noise * rng.uniform(-1, 1, size=s.shape)
    )
    np.testing.assert_array_equal(close.active, exact.active)
    np.testing.assert_array_equal(close.has, exact.has)
    np.testing.assert_array_equal(close.sigma, exact.sigma)
    for block in range(len(s)):
        ghost, truth = jacobian_of_ghost(close, block), jacobian_of_ghost(exact, block)
        np.testing.assert_allclose(ghost, truth, rtol=0, atol=200 * noise)


def test_margin_vanishes_at_kinks_and_is_the_distance_to_them() -> None:
    def margin(cone: Cone, p: list[float]) -> float:
        return float(cone.linearize(*complementary(cone, np.array([p]))).margin[0])

    assert margin(ZeroCone(2), [1.0, 0.0]) == np.inf
    assert margin(NonnegativeCone(3), [1.0, -0.25, 3.0]) == 0.25
    assert margin(NonnegativeCone(2), [1.0, 0.0]) == 0
    assert margin(SecondOrderCone(3), [1.0, 3.0, 4.0]) == pytest.approx(4.0)
    for kink in ([5.0, 3.0, 4.0], [-5.0, 3.0, 4.0]):
        assert margin(SecondOrderCone(3), kink) <= 1e-15
    assert margin(PSDCone(2), [1.0, 0.0, 0.0]) == 0
    e = np.e
    kinks = [[1.0, 1.0, e], [1.0, -2.0, -np.exp(-3.0)], [0.0, -1.0, 1.0], [-1.0, 0.0, -1.0]]
    for kink in [*kinks, [-1.0, -1.0, 0.0], [0.0, -1.0, -1.0]]:
        assert margin(EXP, kink) <= 1e-15
    assert margin(EXP, [-3.0, -0.5, 2.0]) == 0.5
    for shift in (1e-3, -1e-3):  # to first order the distance, on both sides
        normal = np.array([e, 0.0, -1]) / np.hypot(e, 1)
        assert margin(EXP, list([1.0, 1.0, e] + shift * normal)) == pytest.approx(1e-3, rel=0.01)
        half, normal = PowerCone(0.5), np.array([1.0, 1.0, -2.0]) / 6**0.5
        assert margin(half, list([1.0, 1.0, 1.0] + shift * normal)) == pytest.approx(1e-3, rel=0.01)
        normal = np.array([1.0, 1.0, 1.0]) / 3**0.5
        found = margin(half, list([-0.5, -0.5, 1.0] + shift * normal))
        assert found == pytest.approx(1e-3, rel=0.01)


@every_cone
def test_no_nan_and_no_overflow(cone: Cone) -> None:
    levels = np.array([0.0, 1.0, -1.0, 1e12, -1e12, 1e-300, -1e-300, 5e-324, 1e-12, -1e-12])
    rng = np.random.default_rng(11)
    s = np.vstack((rng.choice(levels, size=(2000, cone.dim)), levels[:, None] * np.ones(cone.dim)))
    z = np.vstack((rng.choice(levels, size=(2000, cone.dim)), levels[:, None] * np.ones(cone.dim)))
    for pair in [(s, z), (s, 0 * z), (0 * s, z), (0 * s, 0 * z), (s, s)]:
        rows = cone.linearize(*pair)
        check_sane(rows)
        if cone.kind != "zero":
            assert np.isfinite(rows.margin).all()
    for violation in (cone.violation(s), cone.dual_violation(s)):
        assert np.isfinite(violation).all() and (violation >= 0).all()


def test_ghost_rows_of_a_ray_shorter_than_the_cap() -> None:
    # s = 1e-14 (1, u), z = (1, -u): the curvature 1e14 is capped, not infinite, and not the apex.
    s, z = np.array([[1.0, 0.6, 0.8]]) * 1e-14, np.array([[1.0, -0.6, -0.8]])
    rows = SecondOrderCone(3).linearize(s, z)
    assert rows.has.all() and rows.weight.max() == 1e10
    check_sane(rows)


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ZeroCone(-1), r"ZeroCone\(m=-1\).*integer >= 0.*int -1"),
        (lambda: NonnegativeCone(1.5), r"integer >= 0.*float 1\.5"),  # type: ignore[arg-type]
        (lambda: SecondOrderCone(True), r"integer >= 0.*bool True"),
        (lambda: PSDCone(0), r"PSDCone\(n=0\).*integer >= 1"),
        (lambda: PSDCone("2"), r"integer >= 1.*str '2'"),  # type: ignore[arg-type]
        (lambda: PowerCone(0.0), r"0 < alpha < 1.*0\.0"),
        (lambda: PowerCone(1), r"0 < alpha < 1.*int 1"),
        (lambda: PowerCone(float("nan")), r"0 < alpha < 1.*nan"),
        (lambda: PowerCone("a"), r"0 < alpha < 1.*str 'a'"),  # type: ignore[arg-type]
    ],
)
def test_constructors_say_what_came_and_what_was_expected(
    build: Callable[[], Cone], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        build()


@every_cone
def test_cones_are_values(cone: Cone) -> None:
    arguments = vars(cone)
    twin = type(cone)(**{name: np.asarray(value)[()] for name, value in arguments.items()})
    assert twin == cone and hash(twin) == hash(cone) and repr(twin) == repr(cone)
    assert len(set(CONES)) == len(CONES)
    assert cone.polyhedral == (cone.kind in ("zero", "nonnegative"))
    with pytest.raises(FrozenInstanceError):
        cone.anything = 1  # type: ignore[attr-defined]


def test_sizes_of_nothing_and_of_rays() -> None:
    nothing = np.zeros((2, 0))
    for cone in (ZeroCone(0), NonnegativeCone(0), SecondOrderCone(0)):
        assert cone.dim == 0 and not cone.violation(nothing).any()
        assert (cone.linearize(nothing, nothing).margin == np.inf).all()
    s, z = np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]])
    for cone in (NonnegativeCone(1), SecondOrderCone(1), PSDCone(1)):
        rows = cone.linearize(s, z)
        assert rows.active[:, 0].tolist() == [False, True]
        assert rows.margin.tolist() == [1.0, 2.0]


def test_exports_are_sorted_and_complete() -> None:
    names = cones_module.__all__
    assert names == sorted(names)
    assert all(hasattr(cones_module, name) for name in names)
    kinds = {
        getattr(cones_module, name).kind for name in names if name[:-4] and name.endswith("Cone")
    }
    assert kinds == {"zero", "nonnegative", "second_order", "psd", "exponential", "power"}
