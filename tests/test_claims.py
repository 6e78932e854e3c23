"""What a solver claims is proved against the data, or it is not said.

Solvers that claim the wrong thing are made here; the numbers of the programs come from their
construction.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment

import ffoadapt
from ffoadapt import ConeProgram, Status, _kernel
from ffoadapt._oracle.acceptance import violations
from ffoadapt._oracle.gradient import Oracle
from ffoadapt._program.batch import ProgramBatch
from ffoadapt._program.points import Points
from ffoadapt._solve.conditioning import conditioned, solve_conditioned
from ffoadapt._solve.feasibility import is_ray, is_refutation, nearest_program, ray_program

rng = np.random.default_rng


def batch_of(program: ConeProgram) -> ProgramBatch:
    return program.model.program([value[None] for value in program.values], 1)


def claims(status: Status) -> ffoadapt.Solver:
    """A solver that says this of every program."""
    return ffoadapt.box_solver(lambda P, q, A, l, u, options: (0 * q, np.zeros(len(l)), status))


def random_program(seed: int, n: int = 6, rows: int = 9) -> tuple[ConeProgram, np.ndarray]:
    """A strictly convex program and its solution."""
    r = rng(seed)
    L, G, A = r.normal(size=(n, n)), r.normal(size=(rows, n)), r.normal(size=(2, n))
    x = r.normal(size=n)
    active = np.arange(rows) < 3
    z, slack = np.where(active, r.uniform(0.5, 1.5, rows), 0.0), np.where(active, 0.0, 1.0)
    P, y = L @ L.T + 0.1 * np.eye(n), r.normal(size=2)
    q = -(P @ x + G.T @ z + A.T @ y)
    return ConeProgram.from_split(P, q, G, G @ x + slack, A, A @ x), x


# --- a solution ---------------------------------------------------------------------------------


def test_a_point_far_away_is_no_solution() -> None:
    """Relative to |x| = 1e21 a violation of 1e5 is nothing; beside the data it is everything."""
    far = np.array([1e21, -1e21])
    knows = ffoadapt.box_solver(lambda P, q, A, l, u, options: (far, np.zeros(1)))
    program = (np.zeros((2, 2)), np.zeros(2), np.array([[1.0, 1.0 + 1e-16]]))
    with pytest.raises(ffoadapt.SolveError):
        ffoadapt.box_qp(*program, np.ones(1), np.ones(1), solver=knows, polish=False)


def test_large_multipliers_hide_no_violation() -> None:
    """min x, x >= 1 at x = 0 with z = 1e12: off by 1e12 in any unit but that of z."""
    knows = ffoadapt.split_solver(lambda *_: (np.zeros(1), np.array([1e12]), np.zeros(0)))
    program = ConeProgram.from_split([[0.0]], [1.0], [[-1.0]], [-1.0])
    result = ffoadapt.solve(program, knows, polish=False, on_failure="nan")
    assert result.status is not Status.OPTIMAL


@pytest.mark.parametrize("noise", [2e-13, 1e-12])
def test_noise_at_a_solution_that_is_zero_is_polished_away(noise: float) -> None:
    """Next to q / P = 8 it is rounding, but the objective is all noise."""
    n, r = 14, rng(3)
    A, c = r.uniform(size=(5, n)), (r.uniform(size=n) < 0.3).astype(float)
    y = np.full(5, 2.0)
    near = noise * r.uniform(size=n), A.T @ y - c, y
    knows = ffoadapt.split_solver(lambda *_: near)
    program = ConeProgram.from_split(np.eye(n) / 8, -c, -np.eye(n), np.zeros(n), A, np.zeros(5))
    result = ffoadapt.solve(program, knows)
    assert result.status is Status.OPTIMAL and "fallback_from" not in result.info
    np.testing.assert_allclose(result.x, 0.0, atol=1e-20)


@pytest.mark.parametrize("gap", [1e-7, 1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("solver", ["auto", "daqp", "clarabel", "osqp", "scs", "piqp", "proxqp"])
def test_rows_that_contradict_each_other(solver: str, gap: float) -> None:
    """Solved to 1e-6 of a row, or refused."""
    A = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0], [1.5, 2.0, 0.0]])
    b = np.array([1.0, 2.0, 3.0 + gap])
    program = ConeProgram.from_split(np.eye(3), [0.3, -1.0, 2.0], A=A, b=b)
    result = ffoadapt.solve(program, solver, on_failure="nan")
    if result.status is Status.OPTIMAL:
        assert np.abs(A @ result.x - b).max() <= 3e-6
    elif gap >= 1e-3:
        assert result.status is Status.PRIMAL_INFEASIBLE


def test_the_duality_gap_counts() -> None:
    """A feasible point with multipliers that satisfy stationarity, and are not complementary."""
    x = np.array([2.0])  # of min x, x >= 1, whose solution is 1
    knows = ffoadapt.split_solver(lambda *_: (x, np.ones(1), np.zeros(0)))
    program = ConeProgram.from_split([[0.0]], [1.0], [[-1.0]], [-1.0])
    result = ffoadapt.solve(program, knows, polish=False)
    assert result.status is Status.OPTIMAL_INACCURATE
    assert result.info["violation"] == pytest.approx(1.0 / 4.0, rel=0.6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("off", [2e-8, 5e-8, 7e-8, 1e-7, 2e-7, 1e-6])
def test_what_a_solver_is_not_sure_of_stays_so(off: float) -> None:
    """Judged again in other units, as well."""

    @ffoadapt.box_solver
    def unsure(P, q, A, l, u, options):  # type: ignore[no-untyped-def]
        exact = ffoadapt.box_qp(P, q, A, l, u, solver="daqp")
        return exact.x + off, exact.y, Status.OPTIMAL_INACCURATE

    data = np.diag([1.0, 3.0]), np.array([2.0, -1.0]), np.eye(2), np.zeros(2), np.full(2, 9.0)
    found = ffoadapt.box_qp(*data, solver=unsure, polish=False)
    assert found.status is Status.OPTIMAL_INACCURATE


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_slacks_outside_of_a_curved_cone_are_no_solution(
    size: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """|x| <= 1 with x_1 = 1 and x_2 = d, which is outside by d^2 / 2: s is orthogonal to z, and
    beside multipliers of any size it is next to nothing."""
    if not compiled:
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    cones = [ffoadapt.SecondOrderCone(3), ffoadapt.ZeroCone(2)]
    A = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 1.0]])

    def status(d: float) -> Status:
        x, s = np.array([1.0, d]), np.array([1.0, 1.0, d, 0.0, 0.0])
        z = size * np.array([1.0, -1.0, 0.0, 0.0, 0.0])
        z[3:] = -(x + A[:3].T @ z[:3])
        knows = ffoadapt.conic_solver(lambda *_: (x, s, z), cones=("zero", "second_order"))
        b = np.array([1.0, 0.0, 0.0, 1.0, d])
        program = ffoadapt.ConeProgram(np.eye(2), np.zeros(2), A, b, cones)
        return ffoadapt.solve(program, knows, polish=False, on_failure="nan").status

    assert status(2e-4) is Status.OPTIMAL
    assert status(2e-3) is not Status.OPTIMAL  # 1.4e-6 of the rows


@pytest.mark.parametrize("compiled", [True, False])
def test_points_near_bounds_of_0_are_polished(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to x = 0 a row of x >= 0 has no size: any violation is as large as the row."""
    if not compiled:
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    P, q, off = np.diag([1.0, 2.0, 3.0]), np.array([0.5, -3.0, 4.0]), np.array([6e-12, 0.0, 5e-12])

    @ffoadapt.box_solver
    def near(P, q, A, l, u, options):  # type: ignore[no-untyped-def]
        exact = ffoadapt.box_qp(P, q, A, l, u, solver="daqp")
        return exact.x - off, exact.y

    found = ffoadapt.box_qp(P, q, np.eye(3), np.zeros(3), np.full(3, np.inf), solver=near)
    assert found.status is Status.OPTIMAL
    assert found.x == pytest.approx([0.0, 1.5, 0.0], abs=1e-20)


@pytest.mark.parametrize("compiled", [True, False])
def test_rounding_is_no_gap_where_the_objective_vanishes(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """min x'x/2 + q'x over x >= 0, off by rounding: the objective is 0 up to
    rounding there, as the gap is."""
    if not compiled:
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    x, z = np.array([1e-15, 0.0]), np.array([1.0 + 1e-15, 2.0])
    knows = ffoadapt.split_solver(lambda *_: (x, z, np.zeros(0)))
    program = ConeProgram.from_split(np.eye(2), [1.0, 2.0], -np.eye(2), np.zeros(2))
    result = ffoadapt.solve(program, knows, polish=False)
    assert result.status is Status.OPTIMAL
    far = np.array([1e-3, 0.0])  # where the gap is none of rounding
    told = ffoadapt.split_solver(lambda *_: (far, np.array([1.0 + 1e-3, 2.0]), np.zeros(0)))
    assert ffoadapt.solve(program, told, polish=False).status is not Status.OPTIMAL


@pytest.mark.parametrize("seed", range(20))
def test_compiled_code_measures_the_same(seed: int) -> None:
    r = rng(seed)
    n, rows = r.integers(1, 9, 2)
    L, units = r.normal(size=(n, n)), 10.0 ** r.integers(-3, 4, rows)
    h = np.where(r.random(rows) < 0.3, np.inf, r.uniform(size=rows)) * units
    G = r.normal(size=(rows, n)) * units[:, None]
    program = ConeProgram.from_split(L @ L.T + np.eye(n), r.normal(size=n), G, h)
    result = ffoadapt.solve(program, "osqp", polish=False, solver_options={"tolerance": 1e-3})
    oracle = result._state.oracle
    found = oracle.violations
    twin = violations(oracle.batch, oracle.points, oracle.scales)
    for name in ("length", "steepness", "row", "gap"):
        assert getattr(found, name) == pytest.approx(getattr(twin, name), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("unit", [1e-140, 1e-155])
def test_solutions_beyond_float64_are_none(unit: float) -> None:
    """Rows so small that x is 1e140: products with it overflow, so that it has no objective."""
    A, b = unit * np.array([[1.0, 2.0, -1.0]]), np.array([1.5])
    program = ConeProgram.from_split(np.eye(3), [1.0, 0.0, -2.0], A=A, b=b)
    result = ffoadapt.solve(program, on_failure="nan")
    assert not result.status.solved and np.isnan(result.x).all()
    assert np.isfinite(ffoadapt.solve(program, on_failure="nan").vjp(x=np.ones(3)).q).all()


def test_matrices_without_eigenvalues_are_at_the_apex() -> None:
    s = np.array([[np.inf, 0.0, 1.0], [1.0, np.nan, 1.0], [1e300, 1e300, 1e300], [1.0, 0.0, 2.0]])
    rows = ffoadapt.PSDCone(2).linearize(s, np.zeros_like(s))
    assert rows.active.all(axis=1).tolist() == [True, True, True, False]
    assert np.isfinite(rows.margin).all()


# --- units --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("solver", ["auto", "daqp", "clarabel", "osqp", "piqp", "highs", "scs"])
def test_units_do_not_matter(solver: str, seed: int) -> None:
    program, x = random_program(seed)
    P, q, G, h, A, b = program.values
    r = rng(seed + 100)
    C, t = 10.0 ** r.uniform(-7, 7, 6), 10.0 ** r.uniform(-7, 7)
    R, S = 10.0 ** r.uniform(-7, 7, 9), 10.0 ** r.uniform(-7, 7, 2)
    moved = ConeProgram.from_split(
        t * C[:, None] * P * C, t * C * q, R[:, None] * G * C, R * h, S[:, None] * A * C, S * b
    )
    result = ffoadapt.solve(moved, solver)
    assert result.status is Status.OPTIMAL
    assert np.abs(C * result.x - x).max() < 1e-6


def test_better_units_change_no_digit() -> None:
    program, _ = random_program(3)
    batch = batch_of(program)
    units = conditioned(batch)
    given = units.given(Oracle(batch, ffoadapt.solve(program)._state.points).points)
    back = units.restored(given, batch)
    points = ffoadapt.solve(program)._state.points
    for name in ("x", "s", "z"):
        assert np.array_equal(getattr(back, name), getattr(points, name))
    assert 0.2 < np.abs(units.batch.A).max() < 5.0


def test_equalities_that_follow_from_others_are_left_out() -> None:
    r = rng(0)
    A = r.normal(size=(3, 8))
    A = np.vstack([A, r.normal(size=(2, 3)) @ A])
    x = r.normal(size=8)
    batch = batch_of(ConeProgram.from_split(np.eye(8), -x, A=A, b=A @ x))
    seen = []

    def solve(part: ProgramBatch) -> Points:
        seen.append(part.structure.equalities)
        program = ConeProgram.from_split(part.P[0], part.q[0], A=part.A[0], b=part.b[0])
        return ffoadapt.solve(program, "piqp")._state.points

    points = solve_conditioned(solve, batch)
    assert seen == [3]
    assert np.abs(points.x[0] - x).max() < 1e-8
    assert np.abs(batch.q[0] + points.x[0] + A.T @ points.z[0]).max() < 1e-8


# --- no solution --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE])
def test_a_false_claim_is_an_error_of_the_solver(status: Status) -> None:
    program, _ = random_program(0)
    result = ffoadapt.solve(program, claims(status), on_failure="nan")
    assert result.status is Status.ERROR
    assert "it claims" in result.info["message"]
    with pytest.raises(ffoadapt.SolveError, match="it claims"):
        ffoadapt.solve(program, claims(status))


def test_auto_falls_back_on_a_claim_without_proof() -> None:
    """Assignment programs have an equality too many, which the fastest solver calls infeasible."""
    for n, seed in ((9, 3), (11, 4), (13, 5)):
        C = rng(seed).uniform(size=(n, n))
        eye, ones = np.eye(n), np.ones((1, n))
        A = np.vstack([np.kron(eye, ones), np.kron(ones, eye)])
        found = ffoadapt.qp(
            np.zeros((n * n, n * n)), C.ravel(), -np.eye(n * n), np.zeros(n * n), A, np.ones(2 * n)
        )
        assert C.ravel() @ found.x == pytest.approx(C[linear_sum_assignment(C)].sum(), abs=1e-7)


@pytest.mark.parametrize("solver", ["auto", "daqp", "clarabel", "osqp", "piqp", "highs"])
@pytest.mark.parametrize("sparse", [False, True])
def test_contradictions_are_proved(solver: str, sparse: bool) -> None:
    from scipy.sparse import csc_matrix

    wrap = csc_matrix if sparse else np.asarray
    G = np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    program = ConeProgram.from_split(wrap(np.eye(2)), [1.0, 1.0], wrap(G), [-1.0, 0.0, 0.0])
    result = ffoadapt.solve(program, solver, on_failure="nan")
    assert result.status is Status.PRIMAL_INFEASIBLE
    assert result.info["proof"] == "certificate"


@pytest.mark.parametrize("solver", ["auto", "clarabel", "osqp", "piqp"])
def test_rays_are_proved(solver: str) -> None:
    program = ConeProgram.from_split(np.diag([1.0, 0.0]), [1.0, -1.0], [[1.0, -1.0]], [2.0])
    result = ffoadapt.solve(program, solver, on_failure="nan")
    assert result.status is Status.DUAL_INFEASIBLE
    assert result.info["proof"] == "certificate"


@pytest.mark.parametrize("seed", range(10))
def test_the_nearest_feasible_program_and_its_certificate(seed: int) -> None:
    """x <= c and x >= c + g: the nearest has the middle, and the multipliers refute."""
    r = rng(seed)
    c, g, a = r.uniform(0.5, 2.0), r.uniform(1e-6, 1.0), 10.0 ** r.uniform(-3, 3)
    program = ConeProgram.from_split([[1.0]], [0.0], [[a], [-a]], [a * c, -a * (c + g)])
    batch = batch_of(program)
    nearest = nearest_program(batch)
    w = nearest.sizes[0]
    # minimize (r_1/w_1)^2 + (r_2/w_2)^2 with r_1 + r_2 = a g
    shift = a * g * w**2 / (w**2).sum()
    z = (shift / w) / w
    assert is_refutation(batch, z[None], 0.0).all()
    assert not is_refutation(batch, np.array([[1.0, 0.5]]) * z.max(), 0.0).any()
    assert not is_refutation(batch, -z[None], 0.0).any()
    feasible = batch.shifted(shift[None])
    assert not is_refutation(feasible, z[None], 0.0).any()


def test_a_certificate_outside_of_the_dual_cone_proves_nothing() -> None:
    """(t, t, 0) + (0, 0, x) in the second-order cone has the point x = 0; z misses the dual cone by
    3e-10 of its size, and t times that is more than the gap b'z that it seems to prove."""
    t = 1e6
    A, b = np.array([[0.0], [0.0], [-1.0]]), np.array([t, t, 0.0])
    batch = batch_of(ConeProgram([[1.0]], [0.0], A, b, [ffoadapt.SecondOrderCone(3)]))
    z = np.array([[1.0, -1.0 - 3e-10, 0.0]])
    assert b @ z[0] < -1e-4
    assert not is_refutation(batch, z, 0.0).any()
    apart = batch_of(
        ConeProgram([[1.0]], [0.0], A, [t, t + 1.0, 0.0], [ffoadapt.SecondOrderCone(3)])
    )
    assert is_refutation(apart, np.array([[1.0, -1.0, 0.0]]), 0.0).all()


def test_rays_of_the_steepest_descent() -> None:
    """min -x - 2y with x >= 0, y <= 3 x: along (1, 3) for ever; not along (-1, 0) or (0, 1)."""
    program = ConeProgram.from_split(
        np.zeros((2, 2)), [-1.0, -2.0], [[-1.0, 0.0], [-3.0, 1.0]], [1.0, 0.0]
    )
    batch = batch_of(program)
    assert is_ray(batch, np.array([[1.0, 3.0]]), 0.0).all()
    assert not is_ray(batch, np.array([[-1.0, 0.0]]), 0.0).any()
    assert not is_ray(batch, np.array([[0.0, 1.0]]), 0.0).any()
    assert not is_ray(batch, np.zeros((1, 2)), 0.0).any()
    assert ray_program(batch).program.structure.m == 4


def test_noise_in_a_ray_is_taken_out() -> None:
    """min -1e-8 y without an end, where what rounding leaves in x points out of the constraints."""
    program = ConeProgram.from_split(
        np.diag([1.0, 2.0, 0.0]), [0.3, -1.0, -1e-8], [[1.0, -1.0, 0.0], [0.0, 1.0, -2.0]], [1, 2]
    )
    search = ray_program(batch_of(program))
    noisy = np.array([[3e-19, -2e-19, 5.0]])
    assert not is_ray(search.batch, noisy, 0.0).any()
    assert search.are_rays(noisy, 0.0).all()
    assert not search.are_rays(np.array([[1e-3, 0.0, 5.0]]), 0.0).any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["second_order", "exponential"])
@pytest.mark.parametrize("touching", [True, False])
def test_what_falls_slowly_in_odd_units_has_no_solution(kind: str, touching: bool) -> None:
    """A variable that only relaxes a row, or is in none, at a cost of -3e-5: a solver's tolerance
    hides it, and so do units in which the others are easy."""
    r = rng(8)
    n = 4
    x = r.uniform(0.5, 1.5, n)
    if kind == "second_order":
        cones = [ffoadapt.NonnegativeCone(1), ffoadapt.SecondOrderCone(3)]
        s, z = np.array([0.0, 5.0, 3.0, 4.0]), np.array([0.7, 5.0, -3.0, -4.0])
    else:
        cones = [ffoadapt.NonnegativeCone(1), ffoadapt.ExponentialCone()]
        e = np.exp(0.5)
        s, z = np.array([0.0, 0.5, 1.0, e]), np.array([0.7, -e, -0.5 * e, 1.0])
    A = np.hstack([r.normal(size=(4, n)), np.zeros((4, 1))])
    A[0, -1] = -1.0 if touching else 0.0
    z[0] = 0.0 if touching else z[0]
    s[0] = 1.0 if touching else s[0]
    P, x = np.diag([1.0, 2.0, 0.5, 1.0, 0.0]), np.append(x, 0.0)
    q = -(P @ x + A.T @ z)
    q[-1] = -3e-5
    for R, C, t in ((1.0, 1.0, 1.0), (1e-4, 1e5, 1e-6), (1e5, 1e-3, 1e3)):
        data = t * C * C * P, t * C * q, R * C * A, R * (A @ x + s)
        result = ffoadapt.solve(ffoadapt.ConeProgram(*data, cones), on_failure="nan")
        assert result.status is Status.DUAL_INFEASIBLE, (R, C, t)
        assert result.info["proof"] == "certificate"


def test_batches_keep_what_is_solved_to_the_bit() -> None:
    """A neighbour without a solution, or in odd units, changes no bit of an element."""
    program, _ = random_program(1)
    P, q, G, h, A, b = program.values
    h_all = np.stack([h, h, 1e9 * h, h])
    h_all[1] = np.where(np.arange(9) < 2, -1e3, h)  # perhaps without a solution
    G_all = np.stack([G, G, 1e9 * G, G])
    G_all[1, 1] = -G_all[1, 0]
    batch = ffoadapt.qp(P, q, G_all, h_all, A, b, on_failure="nan")
    for i in (0, 2, 3):
        alone = ffoadapt.qp(P, q, G_all[i], h_all[i], A, b)
        assert np.array_equal(batch.x[i], alone.x)
        assert np.array_equal(batch.z_ineq[i], alone.z_ineq)
    assert np.isnan(batch.x[1]).all()


@pytest.mark.parametrize("solver", ["auto", "clarabel", "osqp", "piqp", "proxqp", "gurobi"])
def test_empty_rows_do_not_say_how_far_the_constraints_are(solver: str) -> None:
    """0'x = 0 and 0'x <= 1e-9 beside x1 + x2 = 3 as two inequalities."""
    G = np.array([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    h, A = np.array([3.0, -3.0, 1e-9]), np.zeros((1, 2))
    program = ConeProgram.from_split(np.diag([1.0, 2.0]), np.zeros(2), G, h, A, np.zeros(1))
    result = ffoadapt.solve(program, solver, on_failure="nan")
    assert result.status is Status.OPTIMAL
    assert np.abs(result.x - [2.0, 1.0]).max() < 1e-6
    # In other units, where the row is left out and comes back.
    units = conditioned(batch_of(program))
    assert np.isposinf(units.batch.b[0]).sum() == 1
    x, z = np.array([[2.0, 1.0]]), np.zeros((1, 4))
    b = batch_of(program).b
    points = Points(x, np.zeros((1, 4)), z, [Status.OPTIMAL], [{}])
    again = units.restored(units.given(points), batch_of(program))
    assert np.abs(again.s - (b - batch_of(program).multiply("A", x))).max() < 1e-12


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("solver", ["clarabel", "piqp", "osqp", "scs"])
def test_an_objective_that_vanishes_at_the_solution(solver: str, dense: bool) -> None:
    """|z - a|^2 for z >= 0 with a > 0, through t = z - a: 0 at z = a, where a gap of rounding, or
    of the solver's tolerance, is beside the size of the terms, not beside their sum."""
    rng = np.random.default_rng(21)
    for n in (3, 40):
        a = rng.uniform(0.01, 2.0, n)
        eye, none = np.eye(n), np.zeros((n, n))
        P, A, G = (
            np.block([[none, none], [none, 2 * eye]]),
            np.hstack([eye, -eye]),
            -np.eye(n, 2 * n),
        )
        if not dense:
            P, A, G = map(sparse.csc_matrix, (P, A, G))
        program = ConeProgram.from_split(P, np.zeros(2 * n), G, np.zeros(n), A, a)
        result = ffoadapt.solve(program, solver)
        assert result.status is Status.OPTIMAL, result.info
        assert np.allclose(result.x[:n], a, atol=1e-6)
        assert np.allclose(result.vjp(x=np.ones(2 * n)).b, 1.0, atol=1e-6)
        # What is no solution is not called one.
        wrong = ffoadapt.split_solver(
            lambda *_, a=a, n=n: (np.r_[0.99 * a, -0.01 * a], np.zeros(n), -0.02 * a),
            matrices="dense" if dense else "sparse",
        )
        with pytest.raises(ffoadapt.SolveError):
            ffoadapt.solve(program, wrong, polish=False, accept_inaccurate=False)


@pytest.mark.parametrize("dense", [True, False])
def test_far_bounds_do_not_excuse_a_gap(dense: bool) -> None:
    """|x|^2 within bounds of 1e6: x = 0.03 is no solution, however far x may go."""
    for n in (2, 30):
        P, G = 2 * np.eye(n), np.vstack([np.eye(n), -np.eye(n)])
        if not dense:
            P, G = map(sparse.csc_matrix, (P, G))
        program = ConeProgram.from_split(P, np.zeros(n), G, np.full(2 * n, 1e6))
        off = ffoadapt.split_solver(
            lambda *_, n=n: (np.full(n, 0.03), np.zeros(2 * n), np.zeros(0)),
            matrices="dense" if dense else "sparse",
        )
        with pytest.raises(ffoadapt.SolveError):
            ffoadapt.solve(program, off, polish=False, accept_inaccurate=False)
