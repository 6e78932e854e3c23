"""A gradient is right, or its report says why not: verdicts, polish, kinks, real programs.

The hunt of benchmarks/hunt.py, whose truth comes from the construction of its programs, is run over
a fixed slice here; the other truths are closed forms, other solvers and differences.
"""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import ffoadapt
from ffoadapt import ConeProgram, SecondOrderCone, _kernel
from ffoadapt._oracle import bounds as limits
from ffoadapt._oracle import certificate, gradient

ROOT = Path(__file__).resolve().parent.parent
FORMS = {"dense": np.asarray, "sparse": sparse.csc_matrix}
every_form = pytest.mark.parametrize("form", FORMS)


def script(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    found = sys.modules.get(f"bench_{name}")
    if found is None:
        spec = importlib.util.spec_from_file_location(
            f"bench_{name}", ROOT / "benchmarks" / f"{name}.py"
        )
        assert spec is not None and spec.loader is not None
        sys.path.insert(0, str(ROOT / "benchmarks"))  # as where it is run
        found = sys.modules[f"bench_{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


def dense(value: Any) -> np.ndarray:
    return value.toarray() if sparse.issparse(value) else np.asarray(value)


def close(found: Any, expected: Any, relative: float, floor: float = 1e-9) -> bool:
    found, expected = dense(found), dense(expected)
    size = max(np.linalg.norm(found), np.linalg.norm(expected))
    return bool(np.linalg.norm(found - expected) <= relative * size + floor)


def random_qp(seed: int, n: int = 8, k: int = 12, p: int = 2) -> tuple[np.ndarray, ...]:
    """P, q, G, h, A, b: strongly convex, feasible, with some rows active."""
    rng = np.random.default_rng(seed)
    L, x = rng.standard_normal((n, n)), rng.standard_normal(n)
    G, A = rng.standard_normal((k, n)), rng.standard_normal((p, n))
    h = G @ x + rng.uniform(0.0, 1.0, k)
    return L @ L.T / n + 0.5 * np.eye(n), 3 * rng.standard_normal(n), G, h, A, A @ x


# --- the hunt -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # some of these programs overflow inside their solvers
def test_hunt() -> None:
    hunt = script("hunt")
    outcomes = [hunt.judge(number, 20260) for number in range(300)]
    offenders = [o for o in outcomes if o.offender]
    assert not offenders, "\n".join(f"{o.text}\n{o.report}" for o in offenders)
    regular = [o for o in outcomes if o.regular and o.verdict != "unsolved"]
    claimed = [o for o in regular if o.verdict == "differentiable"]
    assert len(claimed) >= 0.95 * len(regular) > 30


@pytest.mark.filterwarnings("ignore")
def test_hunt_finds_a_broken_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hunt would not pass if gradients were wrong."""
    hunt = script("hunt")
    honest = hunt.gradient_of

    def broken(*args: Any) -> Any:
        found = honest(*args)
        return {**found, "A": 1.01 * found["A"]}

    monkeypatch.setattr(hunt, "gradient_of", broken)
    assert any(hunt.judge(number, 20260).offender for number in range(20))


@pytest.mark.filterwarnings("ignore")
def test_bounds_allow_what_the_solves_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bounds settle a certificate, all solves find what the bounds would have allowed."""
    hunt, bounds, settled = script("hunt"), certificate._Bounds, []

    class Timid(bounds):
        def settle(self, *facts: float) -> bool:
            settled.append(self.gain > 0.0 and bounds(*self).settle(*facts))
            return False

        def error(self, uncertain: float = 0.0) -> float:
            return np.inf

    def examined(*facts: Any) -> certificate.Certificate | None:
        before, found = len(settled), certificate.examine(*facts)
        assert found is not None
        if any(settled[before:]):
            errors = (found.distance, found.x_error, found.z_error)
            assert max(v.max() for v in errors) <= limits.SURE
            assert found.shift.max() <= limits.SHORT
        return found

    monkeypatch.setattr(certificate, "_Bounds", Timid)
    monkeypatch.setattr(gradient, "examine", examined)
    for number in range(120):
        assert hunt.judge(number, seed=5).verdict != "exception"
    assert sum(settled) > 50


def test_bounds_do_not_settle_what_the_probe_cannot_see() -> None:
    """A response that happens to lie along the curvature says nothing of how that amplifies."""
    A = np.array([[-0.8054307138789392], [-182.05008092066956], [117.49118079958161]])
    b = np.array([0.014582042316023551, 1.951025432392837, -1.2559341712677923])
    P, q = np.array([[4.545950632662172]]), np.array([9.790322361115415])
    program = ConeProgram(P, q, A, b, (ffoadapt.PowerCone(0.3),))
    result = ffoadapt.solve(program, "clarabel", solver_options={"tolerance": 7.9e-9})
    result.vjp(x=np.ones(1))
    found = result._state.oracle._certificate
    assert found is None or found.z_error.max() > 1e-7  # never settled by bounds alone
    assert found is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cotangent", [np.inf, np.nan, 1e308])
@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_no_number_is_no_derivative(
    cotangent: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    program = ConeProgram.from_split(1e-3 * np.eye(3), -np.ones(3), np.eye(3), [0.5, 2e3, 2e3])
    result = ffoadapt.solve(program, "piqp")
    found = result.vjp(x=np.array([0.0, cotangent, 1.0])).q
    assert not np.isfinite(found).all()
    report = result.report()
    assert report.verdict != "differentiable" and np.isnan(report.residual)


def test_results_travel() -> None:
    """To other processes, with what was factorized or without, and give the same there."""
    program = ConeProgram.from_split(np.eye(3), -np.ones(3), np.eye(3), np.full(3, 0.5))
    rows = np.random.default_rng(0).standard_normal((7, 6))
    cones = (SecondOrderCone(4), ffoadapt.PSDCone(2))
    curved = ConeProgram(np.eye(6), -np.arange(1.0, 7.0), rows, np.ones(7), cones)
    for one, solver, name in ((program, "piqp", "h"), (curved, "clarabel", "b")):
        for asked in (False, True):
            result = ffoadapt.solve(one, solver)
            ones = np.ones_like(result.x)
            expected = getattr(result.vjp(x=ones), name) if asked else None
            for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
                found = getattr(other.vjp(x=ones), name)
                assert other.report() == result.report()
                assert expected is None or (found == expected).all()


def test_sparse_results_travel() -> None:
    """Their factors are made again, of the same systems."""
    pytest.importorskip("clarabel")
    rows = sparse.vstack([sparse.random(10, 300, 0.1, random_state=0), sparse.eye(300)], "csc")
    cones = (SecondOrderCone(100), SecondOrderCone(210))
    program = ConeProgram(sparse.eye(300, format="csc"), -np.ones(300), rows, np.ones(310), cones)
    result = ffoadapt.solve(program, "clarabel")
    expected = result.vjp(x=np.ones(300)).A
    other = pickle.loads(pickle.dumps(result))
    np.testing.assert_allclose(other.vjp(x=np.ones(300)).A.data, expected.data, atol=1e-10)
    assert other.report().verdict == result.report().verdict == "differentiable"


@pytest.mark.parametrize("polish", [True, False])
def test_regular_programs_need_one_solve(polish: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe alone, which compiled code has of its own; a Newton step too where the point is not
    accurate."""
    counts, solve = [], gradient.Oracle.solve

    def counted(self: Any, v_x: Any, v_z: Any, estimate: bool = False, **how: Any) -> Any:
        if estimate:
            counts[-1] += 1
        return solve(self, v_x, v_z, estimate, **how)

    monkeypatch.setattr(gradient.Oracle, "solve", counted)
    cone = ConeProgram(
        np.eye(3), np.array([-1.0, -2.0, 0.5]), -np.eye(3), np.zeros(3), (SecondOrderCone(3),)
    )
    for program, solver in ((ConeProgram.from_split(*random_qp(1)), "osqp"), (cone, "clarabel")):
        result = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-8}, polish=polish)
        result.vjp(x=np.ones_like(result.x))
        counts.append(0)
        assert result.report().verdict == "differentiable"
    assert counts == [_kernel.compiled is None] * 2 if polish else counts[0] > 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "seed, number", [(0, 3234), (0, 7124), (1, 3208), (1, 8541), (2, 2101), (2, 6545), (2, 7939)]
)
def test_what_the_hunt_found(seed: int, number: int) -> None:
    """Gradients that are 0, or that rounding decides: once wrong, or the hunt's truth was."""
    outcome = script("hunt").judge(number, seed)
    assert not outcome.offender and outcome.verdict != "unsolved"


@every_form
@pytest.mark.parametrize("n", [6, 40, 200])  # batched, one by one, and large enough to be sparse
@pytest.mark.parametrize("t", [1.0, 1e8])
def test_vertex_in_any_units(n: int, t: float, form: str) -> None:
    """min t c'x, Gx <= h, with n rows that hold: x = G^-1 h does not move with c, in any units."""
    rng, wrap = np.random.default_rng(n), FORMS[form]
    G = rng.standard_normal((n, n)) + 3 * np.eye(n)
    x, z, v = rng.standard_normal(n), rng.uniform(0.5, 1.5, n), rng.standard_normal(n)
    program = ConeProgram.from_split(wrap(np.zeros((n, n))), -t * G.T @ z, wrap(G), G @ x)
    knows = ffoadapt.split_solver(lambda *_: (x, t * z, np.zeros(0)))
    result = ffoadapt.solve(program, knows)
    grad, zeta = result.vjp(x=v), np.linalg.solve(G.T, v)
    assert result.report().verdict == "differentiable"
    assert np.abs(t * grad.q).max() < 1e-8  # times its unit: rounding of zeta would make 1e-16 n t
    assert close(grad.h, zeta, 1e-10)
    assert close(dense(grad.G), -np.outer(zeta, x), 1e-8, 1e-8)


# --- verdicts -------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs", "piqp"])
def test_verdicts(solver: str, form: str) -> None:
    wrap = FORMS[form]
    one, zero = wrap([[1.0]]), wrap([[0.0]])
    programs = {
        # min 1/2 (x - 2)^2, x <= 1; then with the row at the free minimum, and written twice
        "differentiable": ConeProgram.from_split(one, [-2.0], one, [1.0]),
        "weakly_active": ConeProgram.from_split(one, [-1.0], one, [1.0]),
        "dependent_constraints": ConeProgram.from_split(
            one, [-2.0], wrap([[1.0], [2.0]]), [1.0, 2.0]
        ),
        # any x in [-1, 1]
        "not_unique": ConeProgram.from_split(zero, [0.0], wrap([[1.0], [-1.0]]), [1.0, 1.0]),
    }
    for verdict, program in programs.items():
        result = ffoadapt.solve(program, solver)
        grad = result.vjp(x=[1.0])
        report = result.report()
        assert report.verdict == verdict, f"{verdict}: {report}"
        assert all(np.isfinite(dense(g)).all() for g in vars(grad).values())
        assert len(report.advice) > 40 and verdict in str(report)


def test_inaccurate_solution() -> None:
    """A point far away; the same point is fine once it is polished."""
    P, q, G, h, A, b = random_qp(1)
    program = ConeProgram.from_split(P, q, G, h, A, b)
    options = {"tolerance": 1e-2}
    loose = ffoadapt.solve(program, "scs", solver_options=options, polish=False)
    assert loose.report().verdict == "inaccurate_solution"
    assert ffoadapt.solve(program, "scs", solver_options=options).report().verdict == (
        "differentiable"
    )


def test_nearly_singular_is_not_called_differentiable() -> None:
    """minimize 1/2 e y^2 + x, x >= 0 and 1e-13 y: y moves by 1/e, so rounding decides."""
    P = np.diag([0.0, 1.0, 1.0])
    L = np.array([[1.0, 0, 0], [0, 1.0, 1.0], [0, 1.0, 1.0 + 1e-10]])
    program = ConeProgram.from_split(L @ P @ L.T, [1.0, 1.0, 1.0], -np.eye(3)[:1], [0.0])
    report = ffoadapt.solve(program, "clarabel", on_failure="nan").report()
    assert report.verdict != "differentiable"


@pytest.mark.parametrize("cotangent", ["x", "z"])
def test_infinite_margin_without_inequalities(cotangent: str) -> None:
    P, q, _, _, A, b = random_qp(2)
    result = ffoadapt.solve(ConeProgram.from_split(P, q, A=A, b=b), "clarabel")
    result.vjp(**{cotangent: np.ones(getattr(result, cotangent).size)})
    assert result.report().verdict == "differentiable"
    assert result.report().margin == np.inf


# --- invariances of the identification ------------------------------------------------------------


@every_form
@pytest.mark.parametrize("t", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("what", ["rows", "columns", "objective"])
def test_units_with_a_solver(what: str, t: float, form: str) -> None:
    """The solver may do badly in odd units; then the report has to say so."""
    P, q, G, h, _, _ = random_qp(3)
    wrap = FORMS[form]
    R, C, o = (t if what == name else 1.0 for name in ("rows", "columns", "objective"))
    base = ffoadapt.solve(ConeProgram.from_split(P, q, G, h), "clarabel")
    program = ConeProgram.from_split(wrap(o * C * C * P), o * C * q, wrap(R * C * G), R * h)
    other = ffoadapt.solve(program, "clarabel", on_failure="nan")
    if not other.status.solved:
        return
    v = np.arange(1.0, 9.0)
    expected, found = base.vjp(x=v), other.vjp(x=C * v)
    assert base.report().verdict == "differentiable"
    if other.report().verdict == "differentiable":
        assert other.report().active == base.report().active
        assert close(o * C * found.q, expected.q, 1e-5)
        assert close(R * C * dense(found.G), expected.G, 1e-5)
        assert close(R * found.h, expected.h, 1e-5)
    elif abs(np.log10(t)) <= 4:
        pytest.fail(str(other.report()))


@every_form
def test_permutation(form: str) -> None:
    P, q, G, h, A, b = random_qp(4)
    rng, wrap = np.random.default_rng(4), FORMS[form]
    rows, columns = rng.permutation(len(h)), rng.permutation(len(q))
    base = ffoadapt.solve(ConeProgram.from_split(P, q, G, h, A, b), "clarabel")
    program = ConeProgram.from_split(
        wrap(P[columns][:, columns]), q[columns], wrap(G[rows][:, columns]), h[rows],
        wrap(A[:, columns]), b,
    )  # fmt: skip
    other = ffoadapt.solve(program, "clarabel")
    v = rng.standard_normal(8)
    expected, found = base.vjp(x=v), other.vjp(x=v[columns])
    assert close(found.q, expected.q[columns], 1e-6)
    assert close(found.G, expected.G[rows][:, columns], 1e-6)
    assert other.report().active == base.report().active
    assert other.report().verdict == base.report().verdict == "differentiable"


# --- polish ---------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("solver", ["osqp", "scs"])
def test_loose_and_polished_is_as_good_as_tight(solver: str, form: str) -> None:
    wrap = FORMS[form]
    for seed in range(8):
        P, q, G, h, A, b = random_qp(100 + seed)
        program = ConeProgram.from_split(wrap(P), q, wrap(G), h, wrap(A), b)
        tight = ffoadapt.solve(program, "clarabel", solver_options={"tolerance": 1e-9})
        loose = ffoadapt.solve(program, solver, solver_options={"tolerance": 1e-4}, polish=True)
        report = loose.report()
        if report.verdict != "differentiable" or tight.report().verdict != "differentiable":
            assert report.margin < 1e-3, str(report)  # no wonder: a row close to its kink
            continue
        v = np.cos(np.arange(8.0))
        expected, found = tight.vjp(x=v), loose.vjp(x=v)
        assert close(loose.x, tight.x, 1e-8)
        for name, value in vars(expected).items():
            assert close(getattr(found, name), value, 1e-6), name


@pytest.mark.parametrize("solver", ["osqp", "scs", "clarabel"])
def test_polish_never_hurts(solver: str) -> None:
    for seed in range(6):
        P, q, G, h, A, b = random_qp(200 + seed, n=6, k=20)
        program = ConeProgram.from_split(P, q, G, h, A, b)
        for tolerance in (1e-2, 1e-5):
            options = {"tolerance": tolerance}
            before, after = (
                ffoadapt.solve(program, solver, solver_options=options, polish=on)
                for on in (False, True)
            )

            def outside(r: Any, G: Any = G, h: Any = h, A: Any = A, b: Any = b) -> float:
                """How far x is beyond the worst constraint."""
                beyond = np.concatenate((np.maximum(G @ r.x - h, 0.0), np.abs(A @ r.x - b)))
                return float((beyond / np.linalg.norm(np.vstack((G, A)), axis=1)).max())

            assert (after.z_ineq >= -1e-12).all()
            assert after.report().kkt_residual <= before.report().kkt_residual
            assert outside(after) <= outside(before) + 1e-7


# --- corners --------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("solver", ["clarabel", "osqp", "scs", "piqp", "proxqp"])
def test_corners(solver: str, form: str) -> None:
    """No NaN, no exception, and what can be known is right."""
    wrap, inf = FORMS[form], np.inf
    P, v = wrap(np.eye(2)), np.array([1.0, 2.0])
    programs = {
        "duplicated": ([[1.0, 0], [1.0, 0], [3.0, 0]], [-1.0, -1, -3]),
        "zero row": ([[1.0, 0], [0, 0]], [-1.0, 1.0]),
        "infinite": ([[1.0, 0], [5.0, 5]], [-1.0, inf]),
    }
    for name, (G, h) in programs.items():
        result = ffoadapt.solve(ConeProgram.from_split(P, [0.0, -1], wrap(G), h), solver)
        grad = result.vjp(x=v)
        assert close(result.x, [-1.0, 1.0], 1e-5), name
        assert close(grad.q, [0.0, -2.0], 1e-5), name
        assert np.isfinite(dense(grad.G)).all() and np.isfinite(grad.h).all(), name
        assert result.report().verdict in ("differentiable", "dependent_constraints"), name
    contradictory = ConeProgram.from_split(P, [0.0, 0], wrap([[1.0, 0], [-1.0, 0]]), [-1.0, -1])
    result = ffoadapt.solve(contradictory, solver, on_failure="nan")
    if not result.status.solved:
        assert np.isnan(result.x).all()
        assert (result.vjp(x=v).q == 0).all()
    assert result.report().verdict == "inaccurate_solution"


@every_form
def test_second_order_cone_at_its_apex(form: str) -> None:
    """minimize |x - c| + a|x|, at x = 0 for a > 1: nothing moves; and a kink where a = 1."""
    wrap, c = FORMS[form], np.array([0.6, 0.8])
    A = np.zeros((6, 4))  # (t, x - c) and (u, x) in cones; variables x, t, u
    A[0, 2] = A[1, 0] = A[2, 1] = A[3, 3] = A[4, 0] = A[5, 1] = -1.0
    b = np.r_[0.0, -c, np.zeros(3)]
    for a, verdict in ((2.0, "differentiable"), (1.0, None)):
        program = ConeProgram(
            wrap(np.zeros((4, 4))), [0.0, 0, 1, a], wrap(A), b, [SecondOrderCone(3)] * 2
        )
        result = ffoadapt.solve(program, "clarabel")
        grad = result.vjp(x=[1.0, 1, 0, 0])
        report = result.report()
        assert np.isfinite(grad.q).all()
        if verdict:
            assert report.verdict == verdict, str(report)
            assert close(result.x[:2], [0.0, 0], 1e-7) and close(grad.q, np.zeros(4), 1e-6, 1e-7)
        else:
            assert report.verdict != "differentiable"


# --- choices at a kink, and for linear programs ---------------------------------------------------


@every_form
@pytest.mark.parametrize(
    "how, by_q, by_h", [("keep", 0.0, 0.5), ("drop", -1.0, 0.0), ("least_squares", -0.5, 0.25)]
)
def test_degenerate(how: Any, by_q: float, by_h: float, form: str) -> None:
    """min 1/2 (x - 1)^2, 2x <= 2: x = min(1 - dq, 1 + dh/2); the midpoint is the mean of both."""
    wrap = FORMS[form]
    program = ConeProgram.from_split(wrap([[1.0]]), [-1.0], wrap([[2.0]]), [2.0])
    result = ffoadapt.solve(program, "clarabel", degenerate=how)
    grad = result.vjp(x=[1.0])
    assert close(grad.q, [by_q], 1e-8) and close(grad.h, [by_h], 1e-8)
    assert result.report().verdict == "weakly_active"
    moved = result.jvp(q=[1.0])
    assert close(moved.x, [by_q], 1e-8)
    sol = ffoadapt.qp(np.eye(1), np.array([-1.0]), np.eye(1), np.ones(1), degenerate=how)
    assert close(sol.x, [1.0], 1e-6)


CURVED_KINKS = [
    (ffoadapt.SecondOrderCone(3), [1.0, 0.6, -0.8]),
    (ffoadapt.SecondOrderCone(3), [0.0, 0.0, 0.0]),
    (ffoadapt.PSDCone(3), [1.0, 0.0, 0.0, 2.0, 0.0, 0.0]),
    (ffoadapt.PSDCone(2), [0.0, 0.0, 0.0]),
    (ffoadapt.ExponentialCone(), [0.5, 1.0, np.exp(0.5)]),
    (ffoadapt.PowerCone(0.3), [1.0, 2.0, 2.0**0.7]),
]
"""A cone and a point where its projection has a kink."""


@pytest.mark.parametrize("how, sign", [("keep", -1.0), ("drop", 1.0)])
@pytest.mark.parametrize("cone, point", CURVED_KINKS)
def test_degenerate_of_curved_cones(
    cone: ffoadapt.Cone, point: list[float], how: Any, sign: float
) -> None:
    """min 1/2 |x - c|^2, x in K: one-sided differences of the projection, out of K or into it."""
    c, eye = np.array(point), np.eye(cone.dim)
    program = ConeProgram(eye, -c, -eye, np.zeros(cone.dim), [cone])
    result = ffoadapt.solve(program, "clarabel", degenerate=how)
    assert result.report().verdict == "weakly_active"
    rng = np.random.default_rng(11)
    for _ in range(5):
        away = sign * (cone.inner + 0.3 * rng.standard_normal(cone.dim))
        steps = c + np.array([[1e-6], [1e-5]]) * away
        difference = (cone.project(steps) - cone.project(c[None])) / np.array([[1e-6], [1e-5]])
        assert close(result.jvp(q=-away).x, difference[0], 1e-4, 1e-4)
        assert close(difference[0], difference[1], 1e-4, 1e-4)


@pytest.mark.parametrize("cone, _", CURVED_KINKS)
def test_inner_points(cone: ffoadapt.Cone, _: Any) -> None:
    aside = np.random.default_rng(12).standard_normal((500, cone.dim))
    around = cone.inner + aside / np.linalg.norm(aside, axis=1, keepdims=True)
    assert cone.violation(around).max() < 1e-12 and cone.dual_violation(around).max() < 1e-12


def test_degenerate_changes_nothing_elsewhere() -> None:
    P, q, G, h, A, b = random_qp(5)
    program = ConeProgram.from_split(P, q, G, h, A, b)
    v = np.ones(8)
    results = [
        ffoadapt.solve(program, "clarabel", degenerate=how).vjp(x=v)
        for how in ("auto", "keep", "drop", "least_squares")
    ]
    for other in results[1:]:
        for name, value in vars(results[0]).items():
            assert np.array_equal(getattr(other, name), value)


@every_form
@pytest.mark.parametrize("mu", [1e-3, 0.1, 2.0])
def test_smoothing(mu: float, form: str) -> None:
    """An LP with a face of solutions: differences of the LP with mu/2 |x - x*|^2 added."""
    wrap, rng = FORMS[form], np.random.default_rng(6)
    n = 4
    G, h = np.vstack((-np.eye(n), np.eye(n))), np.r_[np.zeros(n), np.ones(n)]
    q = np.array([1.0, 0.0, 0.0, -1.0])
    A, b = np.array([[0.0, 1, 1, 0]]), np.array([1.0])  # x = (0, a, 1 - a, 1)
    program = ConeProgram.from_split(wrap(np.zeros((n, n))), q, wrap(G), h, wrap(A), b)
    result = ffoadapt.solve(program, "clarabel", smoothing=mu)
    v = rng.standard_normal(n)
    grad = result.vjp(x=v)
    assert result.report().verdict == "not_unique"
    star, step = result.x, 1e-4 * mu

    def regularized(q: np.ndarray, b: np.ndarray) -> float:
        near = ConeProgram.from_split(mu * np.eye(n), q - mu * star, G, h, A, b)
        return float(v @ ffoadapt.solve(near, "clarabel", polish=True).x)

    for e in np.eye(n):
        slope = (regularized(q + step * e, b) - regularized(q - step * e, b)) / (2 * step)
        assert abs(grad.q @ e - slope) <= 1e-5 * max(1.0, 1 / mu)
    slope = (regularized(q, b + step) - regularized(q, b - step)) / (2 * step)
    assert abs(grad.b[0] - slope) <= 1e-5


def test_smoothing_bias() -> None:
    """On a strongly convex program the bias is O(mu), and the report counts it."""
    P, q, G, h, A, b = random_qp(7)
    program = ConeProgram.from_split(P, q, G, h, A, b)
    v = np.ones(8)
    exact = ffoadapt.solve(program, "clarabel").vjp(x=v).q
    errors = []
    for mu in (1e-2, 1e-3, 1e-10):
        result = ffoadapt.solve(program, "clarabel", smoothing=mu)
        errors.append(float(np.linalg.norm(result.vjp(x=v).q - exact)))
        assert (result.report().verdict == "differentiable") == (mu < 1e-8)
    assert 8 < errors[0] / errors[1] < 12


@pytest.mark.parametrize("bad", [{"smoothing": -1.0}, {"smoothing": "x"}, {"degenerate": "no"}])
def test_choices_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ffoadapt.OptionError):
        ffoadapt.qp(np.eye(1), np.ones(1), solver="clarabel", **bad)


# --- laws, over random programs -------------------------------------------------------------------

few = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(seed=st.integers(0, 2**20), n=st.integers(1, 9), k=st.integers(0, 12), sparse_=st.booleans())
def test_transposition(seed: int, n: int, k: int, sparse_: bool) -> None:
    """<v, jvp(t)> = <vjp(v), t>, whatever the verdict."""
    wrap = sparse.csc_matrix if sparse_ else np.asarray
    P, q, G, h, A, b = random_qp(seed, n, k, p=n // 3)
    program = ConeProgram.from_split(wrap(P), q, wrap(G), h, wrap(A), b)
    result = ffoadapt.solve(program, "clarabel")
    rng = np.random.default_rng(seed)
    v, z = rng.standard_normal(n), rng.standard_normal(k)
    dP = rng.standard_normal((n, n))
    t = {
        "P": dP + dP.T, "q": rng.standard_normal(n), "G": rng.standard_normal((k, n)),
        "h": rng.standard_normal(k), "A": rng.standard_normal(A.shape),
        "b": rng.standard_normal(b.size),
    }  # fmt: skip
    grad, moved = result.vjp(x=v, z_ineq=z), result.jvp(**t)
    left = v @ moved.x + z @ moved.z_ineq
    parts = [dense(getattr(grad, name)) * value for name, value in t.items()]
    size = sum(float(np.abs(part).sum()) for part in parts)
    assert abs(left - sum(float(part.sum()) for part in parts)) <= 1e-8 * (1 + size)


@few
@given(seed=st.integers(0, 2**20), k=st.integers(0, 10))
def test_resolve(seed: int, k: int) -> None:
    """The ghost problem against two more solves, away from kinks."""
    program = ConeProgram.from_split(*random_qp(seed, 6, k, 1))
    result = ffoadapt.solve(program, "clarabel", solver_options={"tolerance": 1e-11})
    report = result.report()
    if report.verdict != "differentiable" or report.margin < 1e-2:
        return
    v = np.random.default_rng(seed).standard_normal(6)
    direct, again = result.vjp(x=v), result.vjp(x=v, method="resolve")
    for name, value in vars(direct).items():
        assert close(getattr(again, name), value, 1e-4, 1e-5), name


@few
@given(seed=st.integers(0, 2**20), k=st.integers(1, 12))
def test_solvers_agree(seed: int, k: int) -> None:
    program = ConeProgram.from_split(*random_qp(seed, 5, k, 1))
    v = np.random.default_rng(seed).standard_normal(5)
    found = {}
    for solver in ("clarabel", "piqp", "osqp", "scs", "daqp", "proxqp"):
        result = ffoadapt.solve(program, solver)
        if result.report().verdict == "differentiable":
            found[solver] = result.vjp(x=v)
    names = list(found)
    for solver in names[1:]:
        for name, value in vars(found[names[0]]).items():
            assert close(getattr(found[solver], name), value, 1e-5), (names[0], solver, name)


def test_batch_is_what_each_is_alone() -> None:
    """Elements with kinks, dependent rows and infeasible ones leave the others alone."""
    G, rng = np.array([[1.0, 0], [1.0, 0], [-1.0, 0]]), np.random.default_rng(8)
    q = rng.standard_normal((6, 2))
    h = np.array([[1.0, 2, 5], [1.0, 1, 5], [-1.0, 3, 0], [0.1, 3, 5], [2.0, 2, 2], [0.3, 0.3, 5]])
    sol = ffoadapt.qp(np.eye(2), q, G, h, solver="clarabel", on_failure="nan")
    assert np.isnan(sol.x[2]).all()
    for i in (0, 1, 3, 4, 5):
        alone = ffoadapt.qp(np.eye(2), q[i], G, h[i], solver="clarabel")
        assert np.array_equal(sol.x[i], alone.x)


# --- real problems --------------------------------------------------------------------------------

SMALL = "ZECEVIC2 TAME HS35MOD HS52 HS76 HS268 HS118 QPCBLEND DUALC2 DUAL4 QADLITTL PRIMALC2"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMALL.split())
def test_maros_meszaros(name: str) -> None:
    maros = script("maros_meszaros")
    folder = maros.data_folder()
    if folder is None:
        pytest.skip("no maros_meszaros folder in $FFOADAPT_DATA or in ../shared/data")
    row = maros.examine(folder / f"{name}.mat", 20.0)
    assert row.finite and row.good, row.line()
