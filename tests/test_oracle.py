"""The laws of the oracle: adjointness, agreement of its independent ways, invariances, verdicts.

Points come from `exact`, a solver that hands over the solution with which a program was built, so
that nothing here depends on how well some solver solves.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

import ffoadapt
from ffoadapt import (
    Cone,
    ConeProgram,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)

TIGHT = {"tolerance": 1e-11}
FORMS = {"dense": np.asarray, "sparse": sparse.csc_matrix}
KINDS = {"zero", "nonnegative", "second_order", "psd", "exponential", "power"}
every_form = pytest.mark.parametrize("form", FORMS)


def exact(x: np.ndarray, s: np.ndarray, z: np.ndarray) -> Any:
    return ffoadapt.conic_solver(lambda *_: (x, s, z), cones=KINDS)


def pair(rng: np.random.Generator, cone: Cone) -> tuple[np.ndarray, np.ndarray]:
    """Strictly complementary s and z; the curved cones on their boundary."""
    a, c = rng.uniform(0.5, 1.5, 2)
    match cone:
        case ZeroCone():
            return np.zeros(cone.dim), rng.standard_normal(cone.dim)
        case NonnegativeCone():
            on, size = np.arange(cone.dim) % 2 == 0, rng.uniform(0.5, 1.5, cone.dim)
            return np.where(on, 0.0, size), np.where(on, size, 0.0)
        case SecondOrderCone(0):
            return np.zeros(0), np.zeros(0)
        case SecondOrderCone():
            u = rng.standard_normal(cone.dim - 1)
            u /= np.linalg.norm(u)
            return a * np.r_[1.0, u], c * np.r_[1.0, -u]
        case PSDCone():
            Q = np.linalg.qr(rng.standard_normal((cone.n, cone.n)))[0]
            size, on = rng.uniform(0.5, 1.5, cone.n), np.arange(cone.n) % 2 == 0
            columns, rows = np.triu_indices(cone.n)
            factors = np.where(rows == columns, 1.0, np.sqrt(2.0))
            S, Z = (Q * (size * on)) @ Q.T, (Q * (size * ~on)) @ Q.T
            return S[rows, columns] * factors, Z[rows, columns] * factors
        case ExponentialCone():
            x, y = rng.uniform(-1, 1), rng.uniform(0.5, 1.5)
            e = np.exp(x / y)
            return np.array([x, y, y * e]), c * np.array([-e, -e * (1 - x / y), 1.0])
        case PowerCone(p):
            (x, y), sign = rng.uniform(0.5, 1.5, 2), rng.choice([-1.0, 1.0])
            f = x**p * y ** (1 - p)
            return np.array([x, y, sign * f]), c * np.array([p * f / x, (1 - p) * f / y, -sign])
    raise AssertionError(cone)


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    L = rng.standard_normal((n, n)) / np.sqrt(n)
    return L @ L.T + 0.5 * np.eye(n)


CONES: dict[str, list[Cone]] = {
    "zero": [ZeroCone(3)],
    "nonnegative": [NonnegativeCone(6)],
    "second_order": [SecondOrderCone(1), SecondOrderCone(2), SecondOrderCone(5)],
    "psd": [PSDCone(1), PSDCone(2), PSDCone(4)],
    "exponential": [ExponentialCone(), ExponentialCone()],
    "power": [PowerCone(0.2), PowerCone(0.7)],
    "all": [
        *(PSDCone(3), NonnegativeCone(3), ExponentialCone(), ZeroCone(2), PowerCone(0.4)),
        *(SecondOrderCone(4), ZeroCone(1), SecondOrderCone(3), NonnegativeCone(2), PSDCone(2)),
    ],
    "empty": [ZeroCone(0), NonnegativeCone(0), SecondOrderCone(0)],
}


def build(
    seed: int, cones: list[Cone], n: int = 14, form: str = "dense", density: float = 1.0
) -> ffoadapt.Result:
    """A program with a random strictly complementary solution, solved."""
    rng = np.random.default_rng(seed)
    m = sum(cone.dim for cone in cones)
    P, x = spd(rng, n), rng.standard_normal(n)
    A = rng.standard_normal((m, n)) * (rng.uniform(size=(m, n)) < density)
    A[np.arange(m), np.arange(m) % n] += 1.0
    pairs = [pair(rng, cone) for cone in cones] or [(np.zeros(0), np.zeros(0))]
    s, z = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    wrap = FORMS[form]
    program = ConeProgram(wrap(P), -P @ x - A.T @ z, wrap(A), A @ x + s, cones)
    return ffoadapt.solve(program, exact(x, s, z))


def dense(value: Any) -> np.ndarray:
    return value.toarray() if sparse.issparse(value) else np.asarray(value)


def close(found: Any, expected: Any, relative: float, floor: float = 1e-9) -> bool:
    """In the 2-norm; below ``floor``, which is far below 1, the size of all problems, is zero."""
    found, expected = dense(found), dense(expected)
    size = max(np.linalg.norm(found), np.linalg.norm(expected))
    return bool(np.linalg.norm(found - expected) <= relative * size + floor)


def random_like(rng: np.random.Generator, value: Any) -> Any:
    """Random numbers on the pattern of a datum."""
    if sparse.issparse(value):
        out = value.copy()
        out.data = rng.standard_normal(out.data.size)
        return out
    return rng.standard_normal(value.shape)


def assert_adjoint(result: ffoadapt.Result, outputs: list[str], data: dict[str, Any]) -> None:
    """<v, jvp(d)> = <vjp(v), d>, for each datum and each output alone and for all together."""
    rng = np.random.default_rng(11)
    v = {name: rng.standard_normal(getattr(result, name).shape) for name in outputs}
    d = {name: random_like(rng, value) for name, value in data.items()}
    d["P"] = d["P"] + d["P"].T
    cotangents = [*({name: v[name]} for name in outputs), v]
    for vs in cotangents:
        gradient = result.vjp(**vs)
        # A datum whose gradient is 0 is 0 to rounding in that of the others.
        floor = max(
            np.linalg.norm(dense(getattr(gradient, k))) * np.linalg.norm(dense(t))
            for k, t in d.items()
        )
        total = 0.0
        for name, direction in d.items():
            tangent = result.jvp(**{name: direction})
            forward = sum(float(np.vdot(w, getattr(tangent, o))) for o, w in vs.items())
            g, t = dense(getattr(gradient, name)), dense(direction)
            size = max(np.linalg.norm(g) * np.linalg.norm(t), 1e-3 * max(floor, 1.0))
            assert abs(forward - np.vdot(g, t)) <= 1e-10 * size, (name, list(vs))
            total += forward
        together = result.jvp(**d)
        forward = sum(float(np.vdot(w, getattr(together, o))) for o, w in vs.items())
        assert abs(forward - total) <= 1e-10 * max(abs(total), abs(forward), 1.0)


# --- vjp and jvp ----------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("cones", CONES)
def test_adjoint_cone(cones: str, form: str) -> None:
    n = 24 if cones == "all" else 14
    result = build(1, CONES[cones], n=n, form=form, density=0.6)
    p = result.program
    assert_adjoint(result, ["x", "s", "z"], {"P": p.P, "q": p.q, "A": p.A, "b": p.b})


@every_form
def test_adjoint_split(form: str) -> None:
    rng, wrap = np.random.default_rng(2), FORMS[form]
    P, G, A = spd(rng, 9), rng.standard_normal((7, 9)), rng.standard_normal((2, 9))
    data = {"P": wrap(P), "q": rng.standard_normal(9), "G": wrap(G), "h": rng.uniform(0, 1, 7)}
    data |= {"A": wrap(A), "b": 0.1 * rng.standard_normal(2)}
    result = ffoadapt.solve(ConeProgram.from_split(**data), "clarabel", solver_options=TIGHT)
    assert 0 < (result.z_ineq > 1e-6).sum() < 7
    assert_adjoint(result, ["x", "z_ineq", "y_eq"], data)
    assert_adjoint(result, ["s", "z"], data)


@every_form
def test_adjoint_box(form: str) -> None:
    rng, wrap = np.random.default_rng(3), FORMS[form]
    data = {"P": wrap(spd(rng, 8)), "q": 3 * rng.standard_normal(8)}
    data["A"] = wrap(rng.standard_normal((7, 8)))
    data["l"] = np.array([-0.2, -np.inf, 0.1, -0.3, -np.inf, -0.1, -0.3])
    data["u"] = np.array([0.3, 0.1, 0.1, np.inf, np.inf, 0.2, 0.1])
    result = ffoadapt.solve(ConeProgram.from_box(**data), "clarabel", solver_options=TIGHT)
    assert (result.y > 1e-6).any() and (result.y < -1e-6).any()
    assert_adjoint(result, ["x", "y"], data)
    assert_adjoint(result, ["s", "z"], data)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), m=st.integers(0, 8))
@settings(max_examples=30, deadline=None)
def test_adjoint_random_shapes(seed: int, n: int, m: int) -> None:
    cones: list[Cone] = [ZeroCone(min(m, n) // 3), NonnegativeCone(m)]
    result = build(seed, cones, n=n)
    p = result.program
    C = dense(p.A)[(result.z > result.s) | (np.arange(len(p.b)) < min(m, n) // 3)]
    ghost = np.block([[dense(p.P), C.T], [C, np.zeros((len(C), len(C)))]])
    assume(np.linalg.cond(ghost) < 1e5)  # beyond, rounding alone exceeds the tolerance
    assert_adjoint(result, ["x", "s", "z"], {"P": p.P, "q": p.q, "A": p.A, "b": p.b})


# --- independent ways agree -----------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("cones", ["zero", "nonnegative", "second_order", "psd", "power"])
def test_resolve_agrees_with_direct(cones: str, form: str) -> None:
    """Central differences: O(delta^2) + O(tolerance/delta)."""
    program = build(4, CONES[cones], form=form).program
    result = ffoadapt.solve(program, "scs", solver_options={"tolerance": 1e-12})
    rng = np.random.default_rng(4)
    v = {name: rng.standard_normal(getattr(result, name).shape) for name in ("x", "s", "z")}
    direct, again = result.vjp(**v), result.vjp(method="resolve", delta=1e-5, **v)
    for name in ("P", "q", "A", "b"):
        assert close(getattr(again, name), getattr(direct, name), 1e-5), name


def test_resolve_agrees_with_direct_box_and_split() -> None:
    rng = np.random.default_rng(5)
    P, q, A = spd(rng, 6), 3 * rng.standard_normal(6), rng.standard_normal((5, 6))
    lower, upper = (
        np.array([-0.2, -np.inf, 0.1, -0.3, -0.5]),
        np.array([0.3, 0.1, 0.1, np.inf, 0.5]),
    )
    box = ffoadapt.solve(
        ConeProgram.from_box(P, q, A, lower, upper), "osqp", solver_options={"tolerance": 1e-11}
    )
    v = {"x": rng.standard_normal(6), "y": rng.standard_normal(5)}
    direct, again = box.vjp(**v), box.vjp(method="resolve", **v)
    for name in ("P", "q", "A", "l", "u"):
        assert close(getattr(again, name), getattr(direct, name), 1e-5), name
    h = np.full(5, 0.1)
    split = ffoadapt.solve(
        ConeProgram.from_split(P, q, A[:3], h[:3] - 2, A[3:], h[3:]), "scs", solver_options=TIGHT
    )
    assert (split.z_ineq > 1e-6).any()
    v = {"x": v["x"], "z_ineq": rng.standard_normal(3), "y_eq": rng.standard_normal(2)}
    direct, again = split.vjp(**v), split.vjp(method="resolve", **v)
    for name in ("P", "q", "G", "h", "A", "b"):
        assert close(getattr(again, name), getattr(direct, name), 1e-5), name


@pytest.mark.parametrize("density", [1.0, 0.4])
@pytest.mark.parametrize("cones", CONES)
def test_dense_and_sparse_factors_agree(cones: str, density: float) -> None:
    """And the sparse gradient is the dense one on the pattern, and nowhere else."""
    n = 24 if cones == "all" else 14
    one, two = (build(6, CONES[cones], n=n, form=form, density=density) for form in FORMS)
    rng = np.random.default_rng(6)
    v = {name: rng.standard_normal(getattr(one, name).shape) for name in ("x", "s", "z")}
    full, pattern = one.vjp(**v), two.vjp(**v)
    assert close(pattern.q, full.q, 1e-9) and close(pattern.b, full.b, 1e-9)
    for name in ("P", "A"):
        found, datum = getattr(pattern, name), getattr(two.program, name)
        assert found.nnz == datum.nnz
        on = dense(datum) != 0
        assert close(found, np.where(on, getattr(full, name), 0.0), 1e-9), name
    d = {"q": rng.standard_normal(n), "b": rng.standard_normal(one.s.size)}
    for name in ("x", "s", "z"):
        assert close(getattr(two.jvp(**d), name), getattr(one.jvp(**d), name), 1e-9), name


def test_explicit_zeros_are_on_the_pattern() -> None:
    result = build(7, [NonnegativeCone(3)], n=3)
    p = result.program
    A = sparse.csc_matrix(np.where(p.A == 0, 0, p.A))
    A.data[2] = 0.0
    program = ConeProgram(sparse.csc_matrix(p.P), p.q, A, p.b, p.cones)
    other = ffoadapt.solve(program, "clarabel", solver_options=TIGHT)
    found = other.vjp(x=np.ones(3)).A
    assert found.nnz == 9
    reference = ConeProgram(p.P, p.q, A.toarray(), p.b, p.cones)
    expected = ffoadapt.solve(reference, "clarabel", solver_options=TIGHT).vjp(x=np.ones(3)).A
    assert close(found, expected, 1e-7)


# --- where there is no unique answer --------------------------------------------------------------


@every_form
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["zero", "nonnegative"])
def test_dependent_rows(kind: str, scale: float, form: str) -> None:
    """A repeated active row: x moves as without it, multipliers are the minimum-norm ones."""
    rng, n = np.random.default_rng(8), 6
    P, A, x = spd(rng, n), rng.standard_normal((3, n)), rng.standard_normal(n)
    z = np.array([0.8, 1.2, 0.5])
    q, b = -P @ x - A.T @ z, A @ x
    cone = ZeroCone if kind == "zero" else NonnegativeCone
    single = ffoadapt.solve(ConeProgram(P, q, A, b, [cone(3)]), exact(x, np.zeros(3), z))

    twice = np.vstack((A, scale * A[:1]))
    shared = np.r_[z[0] / (1 + scale**2), z[1:], scale * z[0] / (1 + scale**2)]
    wrap = FORMS[form]
    program = ConeProgram(wrap(P), q, wrap(twice), np.r_[b, scale * b[0]], [cone(4)])
    double = ffoadapt.solve(program, exact(x, np.zeros(4), shared))

    v = rng.standard_normal(n)
    expected, found = single.vjp(x=v), double.vjp(x=v)
    assert close(found.q, expected.q, 1e-9)
    assert close(found.P, expected.P, 1e-9)
    # d(value)/d(b_0) is shared by the copies as scale asks, so that moving both moves the one.
    assert close(found.b[0] + scale * found.b[3], expected.b[0], 1e-9)
    if form == "dense" or scale == 1.0:
        # The minimum-norm one is along (1, scale); of a sparse system, in equilibrated units.
        assert close(found.b[3], scale * found.b[0], 1e-6)
    report = double.report()
    assert report.verdict == "dependent_constraints"
    assert report.rank_deficiency == 1
    assert report.active == 4
    assert single.report().verdict == "differentiable"


@every_form
def test_more_active_rows_than_variables(form: str) -> None:
    """A degenerate vertex of a linear program: x does not depend on the objective."""
    wrap = FORMS[form]
    A = np.array([[1.0, 0], [0, 1], [1, 1], [-1, 0]])
    program = ConeProgram(None, [-1.0, -1.0], wrap(A), [1.0, 1, 2, 5], [NonnegativeCone(4)])
    z = np.array([1 / 3, 1 / 3, 2 / 3, 0.0])
    result = ffoadapt.solve(program, exact(np.ones(2), np.array([0.0, 0, 0, 6]), z))
    grad = result.vjp(x=np.array([1.0, 2.0]))
    assert np.abs(grad.q).max() < 1e-9
    assert np.isfinite(dense(grad.A)).all() and np.isfinite(grad.b).all()
    assert result.report().verdict == "dependent_constraints"
    assert result.report().rank_deficiency == 1


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_linear_program_with_unique_vertex(solver: str, form: str) -> None:
    """x = A_active^-1 b_active, z_active = -A_active^-T q."""
    rng, n, wrap = np.random.default_rng(9), 4, FORMS[form]
    active, x, z = rng.standard_normal((n, n)), rng.standard_normal(n), rng.uniform(0.5, 1.5, n)
    rest = rng.standard_normal((3, n))
    A, b = np.vstack((active, rest)), np.r_[active @ x, rest @ x + rng.uniform(0.5, 1.5, 3)]
    program = ConeProgram(None, -active.T @ z, wrap(A), b, [NonnegativeCone(n + 3)])
    result = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-9})
    assert close(result.x, x, 1e-5)
    v = rng.standard_normal(n)
    grad = result.vjp(x=v)
    w = np.linalg.solve(active.T, v)
    assert np.abs(grad.q).max() < 1e-9
    assert close(grad.b, np.r_[w, np.zeros(3)], 1e-6)
    expected = -np.outer(np.r_[w, np.zeros(3)], x)
    found = dense(grad.A)
    assert close(found, expected, 1e-5)
    assert close(result.vjp(z=np.r_[v, np.zeros(3)]).q, -np.linalg.solve(active, v), 1e-6)
    assert result.report().verdict == "differentiable"


@every_form
def test_not_unique(form: str) -> None:
    """minimize x_1 + x_2 with x_1 + x_2 >= 1, x >= 0: a whole edge is optimal."""
    wrap = FORMS[form]
    A = -np.array([[1.0, 1], [1, 0], [0, 1]])
    program = ConeProgram(None, [1.0, 1], wrap(A), [-1.0, 0, 0], [NonnegativeCone(3)])
    point = exact(np.array([0.3, 0.7]), np.array([0, 0.3, 0.7]), np.array([1.0, 0, 0]))
    result = ffoadapt.solve(program, point)
    grad = result.vjp(x=np.array([1.0, 0]))
    assert all(np.isfinite(dense(getattr(grad, name))).all() for name in ("P", "q", "A", "b"))
    # Least squares: the cotangent (1, 0) is (1/2, 1/2) along what is determined.
    assert close(grad.b, [-0.5, 0, 0], 1e-6)
    report = result.report()
    assert report.verdict == "not_unique"
    assert report.rank_deficiency >= (form == "dense")  # of sparse programs a lower bound
    assert "least-squares" in report.advice


@every_form
def test_no_curvature_and_no_constraint(form: str) -> None:
    """P singular along e_2, which nothing else determines."""
    wrap = FORMS[form]
    P = np.diag([2.0, 0, 1])
    program = ConeProgram(wrap(P), [2.0, 0, 1], wrap(np.eye(3)), [9.0] * 3, [NonnegativeCone(3)])
    point = exact(np.array([-1.0, 0, -1]), np.array([10.0, 9, 10]), np.zeros(3))
    result = ffoadapt.solve(program, point)
    grad = result.vjp(x=np.ones(3))
    assert close(grad.q, [-0.5, 0, -1], 1e-6)
    assert result.report().verdict == "not_unique"


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_weakly_active(solver: str, form: str) -> None:
    """min 1/2 |x - p|^2, x <= p: the kink itself. Any convex combination of 0 and 1 is right."""
    wrap = FORMS[form]
    p = np.array([0.7, -0.4, 1.3])
    b = np.array([0.7, 5.0, 1.0])
    program = ConeProgram(wrap(np.eye(3)), -p, wrap(np.eye(3)), b, [NonnegativeCone(3)])
    result = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-10})
    report = result.report()
    assert report.verdict == "weakly_active"
    assert report.margin < 1e-3
    grad = result.vjp(x=np.ones(3))
    assert -1e-6 < grad.b[0] < 1 + 1e-6
    assert close(grad.b[0] - grad.q[0], 1.0, 1e-6)
    assert close(grad.b[1:], [0, 1], 1e-6) and close(grad.q[1:], [-1, 0], 1e-6)


def test_inaccurate_solution() -> None:
    result = build(10, [NonnegativeCone(6)], n=5)
    point = exact(result.x + 0.1, result.s, result.z)
    wrong = ffoadapt.solve(result.program, point, polish=False)
    assert wrong.report().verdict == "inaccurate_solution"
    assert wrong.report().kkt_residual > 1e-3
    assert result.report().verdict == "differentiable"
    assert result.report().kkt_residual < 1e-12
    assert result.report().residual < 1e-9
    assert result.report().active == 3
    assert "differentiable" in str(result.report())


@pytest.mark.parametrize("cones", [c for c in CONES if c != "empty"])
def test_verdict_at_exact_points(cones: str) -> None:
    """Curved cones too: s_i z_i is not 0 row by row there."""
    report = build(12, CONES[cones], n=24).report()
    assert report.verdict == "differentiable", str(report)
    assert report.kkt_residual < 1e-10
    assert report.rank_deficiency == 0


# --- invariances ----------------------------------------------------------------------------------


def scaled(
    result: ffoadapt.Result,
    rows: np.ndarray | float = 1.0,
    columns: np.ndarray | float = 1.0,
    objective: float = 1.0,
    form: str = "dense",
) -> tuple[ffoadapt.Result, SimpleNamespace]:
    """The same problem in other units, and the factors by which x, s and z change.

    A -> R A C, x -> x/C, b -> R b, P -> t C P C, q -> t C q, z -> t z/R.
    """
    p, n, m = result.program, result.x.size, result.s.size
    R, C = np.broadcast_to(rows, m), np.broadcast_to(columns, n)
    wrap = FORMS[form]
    P = objective * C[:, None] * dense(p.P) * C
    A = R[:, None] * dense(p.A) * C
    program = ConeProgram(wrap(P), objective * C * p.q, wrap(A), R * p.b, p.cones)
    point = exact(result.x / C, R * result.s, objective * result.z / R)
    return ffoadapt.solve(program, point), SimpleNamespace(x=1 / C, s=R, z=objective / R)


def assert_same_gradient(one: ffoadapt.Result, two: ffoadapt.Result, factor: Any, t: float) -> None:
    rng = np.random.default_rng(13)
    for name in ("x", "s", "z"):
        v = rng.standard_normal(getattr(one, name).shape)
        a, b = one.vjp(**{name: v}), two.vjp(**{name: v / getattr(factor, name)})
        # q -> t q/f_x and b -> f_s b, so gradients change the other way.
        assert close(b.q * t / factor.x, a.q, 1e-6), name
        assert close(b.b * factor.s, a.b, 1e-6), name
        scale_A = factor.s[:, None] / factor.x[None]
        assert close(dense(b.A) * scale_A, dense(a.A), 1e-6), name
        scale_P = t / np.outer(factor.x, factor.x)
        assert close(dense(b.P) * scale_P, dense(a.P), 1e-6), name


def spread(seed: int, size: int, decades: float) -> np.ndarray:
    exponents = np.random.default_rng(seed).uniform(-decades, decades, size)
    return 10.0**exponents


POLYHEDRAL = [ZeroCone(2), NonnegativeCone(9)]


@every_form
@pytest.mark.parametrize("t", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("what", ["rows", "columns", "objective", "units of x and b"])
@pytest.mark.parametrize("cones", ["nonnegative", "all"])
def test_uniform_units(cones: str, what: str, t: float, form: str) -> None:
    base = build(14, CONES["all"] if cones == "all" else POLYHEDRAL, n=24)
    assert base.report().verdict == "differentiable"
    options: dict[str, Any] = {
        "rows": {"rows": t},
        "columns": {"columns": t},
        "objective": {"objective": t},
        "units of x and b": {"rows": t, "columns": 1 / t},
    }[what]
    other, factor = scaled(base, form=form, **options)
    assert_same_gradient(base, other, factor, options.get("objective", 1.0))
    assert other.report().verdict == "differentiable", str(other.report())


@every_form
@pytest.mark.parametrize("decades", [2, 4, 8])
def test_row_scaling(decades: float, form: str) -> None:
    base = build(15, POLYHEDRAL, n=8)
    other, factor = scaled(base, rows=spread(1, 11, decades), form=form)
    assert_same_gradient(base, other, factor, 1.0)
    assert other.report().verdict == "differentiable"
    assert other.report().active == base.report().active


@every_form
@pytest.mark.parametrize("decades", [1, 2, 3])
def test_variable_scaling(decades: float, form: str) -> None:
    """P is then conditioned like 10^(4 decades)."""
    base = build(16, POLYHEDRAL, n=8)
    other, factor = scaled(base, columns=spread(2, 8, decades), form=form)
    assert_same_gradient(base, other, factor, 1.0)


# --- corners --------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_no_constraints(solver: str, form: str) -> None:
    rng, wrap = np.random.default_rng(17), FORMS[form]
    P, q = spd(rng, 4), rng.standard_normal(4)
    options = {"tolerance": 1e-9}
    for program in (
        ConeProgram(wrap(P), q, None, None, []),
        ConeProgram(wrap(P), q, wrap(np.zeros((0, 4))), np.zeros(0), [NonnegativeCone(0)]),
        ConeProgram.from_split(wrap(P), q),
        ConeProgram.from_box(wrap(P), q, wrap(np.zeros((0, 4))), [], []),
    ):
        result = ffoadapt.solve(program, solver, solver_options=options)
        assert result.z.shape == result.s.shape == (0,)
        assert close(result.x, -np.linalg.solve(P, q), 1e-7)
        v = rng.standard_normal(4)
        grad = result.vjp(x=v)
        w = np.linalg.solve(P, v)
        assert close(grad.q, -w, 1e-7)
        assert close(grad.P, -0.5 * (np.outer(w, result.x) + np.outer(result.x, w)), 1e-7)
        assert grad.A.shape == (0, 4)
        assert result.report().verdict == "differentiable"
        assert result.report().active == 0


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_one_variable(solver: str, form: str) -> None:
    """min x^2 + q x, x >= l: at the bound and away from it."""
    wrap = FORMS[form]
    for q, active in ((3.0, True), (-3.0, False)):
        program = ConeProgram.from_box(wrap([[2.0]]), [q], wrap([[2.0]]), [-1.0], [10.0])
        result = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-9})
        grad = result.vjp(x=[1.0])
        assert close(result.x, [-0.5 if active else 1.5], 1e-6)
        assert close(grad.q, [0.0 if active else -0.5], 1e-6)
        assert close(grad.l, [0.5 if active else 0.0], 1e-6)
        assert close(grad.u, [0.0], 1e-9)
        assert close(grad.A, [[0.25 if active else 0.0]], 1e-6)  # x = l/a
        assert close(grad.P, [[0.0 if active else -0.75]], 1e-6)  # x = -q/p


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_zero_rows(solver: str, form: str) -> None:
    """Rows 0'x <= 1 change nothing."""
    rng, wrap = np.random.default_rng(18), FORMS[form]
    P, q, A = spd(rng, 4), rng.standard_normal(4), rng.standard_normal((3, 4))
    h = np.full(3, 0.05)
    with_zero = np.insert(A, 1, 0.0, axis=0)
    v = rng.standard_normal(4)
    results = [
        ffoadapt.solve(
            ConeProgram.from_split(wrap(P), q, wrap(G), bound), solver, solver_options=TIGHT
        )
        for G, bound in ((A, h), (with_zero, np.insert(h, 1, 1.0)))
    ]
    one, two = (result.vjp(x=v) for result in results)
    assert close(two.q, one.q, 1e-5) and close(two.P, one.P, 1e-5)
    assert close(np.delete(two.h, 1), one.h, 1e-5)
    assert two.h[1] == 0.0
    assert results[1].report().verdict == "differentiable"


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_zero_equality_row(solver: str, form: str) -> None:
    """0'x = 0 holds whatever x is: a multiplier that nothing determines."""
    rng, wrap = np.random.default_rng(19), FORMS[form]
    P, q = spd(rng, 3), rng.standard_normal(3)
    A = np.array([[1.0, 1, 1], [0, 0, 0]])
    program = ConeProgram(wrap(P), q, wrap(A), [1.0, 0.0], [ZeroCone(2)])
    result = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-9})
    alone = ConeProgram(P, q, A[:1], [1.0], [ZeroCone(1)])
    expected = ffoadapt.solve(alone, solver, solver_options={"tolerance": 1e-9}).vjp(x=np.ones(3))
    found = result.vjp(x=np.array([1.0, 2, 3]))
    assert np.isfinite(found.b).all() and abs(found.b[1]) < 1e-9
    assert close(result.vjp(x=np.ones(3)).b[:1], expected.b, 1e-6)


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_infinite_bounds(solver: str, form: str) -> None:
    """An infinite bound is no bound, its gradient 0, in all three ways of writing programs."""
    rng, wrap = np.random.default_rng(20), FORMS[form]
    P, q, A = spd(rng, 5), rng.standard_normal(5), rng.standard_normal((4, 5))
    keep = np.array([0, 2])
    h = np.array([0.05, np.inf, 0.1, np.inf])
    v = rng.standard_normal(5)
    few = ConeProgram(P, q, A[keep], h[keep], [NonnegativeCone(2)])
    expected = ffoadapt.solve(few, solver, solver_options=TIGHT).vjp(x=v)
    for program, name, matrix in (
        (ConeProgram(wrap(P), q, wrap(A), h, [NonnegativeCone(4)]), "b", "A"),
        (ConeProgram.from_split(wrap(P), q, wrap(A), h), "h", "G"),
        (ConeProgram.from_box(wrap(P), q, wrap(A), np.full(4, -np.inf), h), "u", "A"),
    ):
        result = ffoadapt.solve(program, solver, solver_options=TIGHT)
        grad = result.vjp(x=v)
        assert close(grad.q, expected.q, 1e-5)
        assert close(grad.P, expected.P, 1e-5)
        assert close(getattr(grad, name)[keep], expected.b, 1e-5)
        assert (getattr(grad, name)[[1, 3]] == 0).all()
        assert close(dense(getattr(grad, matrix))[keep], expected.A, 1e-5)
        assert (dense(getattr(grad, matrix))[[1, 3]] == 0).all()
        assert np.isfinite(result.z).all()
        assert result.report().verdict == "differentiable"
        assert np.isfinite(result.report().margin)


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs"])
def test_equal_bounds(solver: str, form: str) -> None:
    """l = u: the gradient of b of the equality, at the bound that the multiplier pushes at."""
    rng, wrap = np.random.default_rng(21), FORMS[form]
    P, q, A = spd(rng, 5), rng.standard_normal(5), rng.standard_normal((3, 5))
    b, v = rng.standard_normal(3), rng.standard_normal(5)
    box = ffoadapt.solve(
        ConeProgram.from_box(wrap(P), q, wrap(A), b, b), solver, solver_options=TIGHT
    )
    equal = ffoadapt.solve(ConeProgram(P, q, A, b, [ZeroCone(3)]), solver, solver_options=TIGHT)
    found, expected = box.vjp(x=v, y=np.ones(3)), equal.vjp(x=v, z=np.ones(3))
    assert close(box.y, equal.z, 1e-6)
    assert close(found.l + found.u, expected.b, 1e-6)
    assert ((found.l == 0) | (box.y < 0)).all() and ((found.u == 0) | (box.y > 0)).all()
    assert close(found.A, expected.A, 1e-6) and close(found.q, expected.q, 1e-6)


def test_dependent_rows_with_a_solver() -> None:
    """However a solver splits the multiplier of a repeated row, q and P get the right gradient."""
    rng = np.random.default_rng(22)
    P, q, a = spd(rng, 4), rng.standard_normal(4), rng.standard_normal((1, 4))
    h = (a @ np.linalg.solve(P, -q)) - 0.3  # active
    one = ConeProgram.from_split(P, q, a, h)
    three = ConeProgram.from_split(P, q, np.vstack((a, a, 2 * a)), np.r_[h, h, 2 * h])
    v = rng.standard_normal(4)
    for solver in ("clarabel", "osqp", "scs"):
        expected = ffoadapt.solve(one, solver, solver_options=TIGHT).vjp(x=v)
        result = ffoadapt.solve(three, solver, solver_options=TIGHT)
        found = result.vjp(x=v)
        assert close(found.q, expected.q, 1e-5) and close(found.P, expected.P, 1e-5)
        if (result.z > 1e-6).all():
            assert result.report().verdict == "dependent_constraints"
