"""ffoadapt-highs: the conformance suite, and what is particular to HiGHS."""

import subprocess
import sys

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("highspy", reason="HiGHS is not installed: pip install highspy")


class TestHiGHS(SolverSuite):
    solver = "highs"


def test_regularization_leaves_no_trace() -> None:
    # HiGHS adds 1e-7 to the diagonal of P: x and the dual would be off by as much.
    P, q, A = np.diag([1.0, 0.0]), np.array([-1.0, -1.0]), np.array([[0.0, 1.0]])
    result = ffoadapt.box_qp(P, q, A, np.array([-1e3]), np.array([1e3]), solver="highs")
    np.testing.assert_allclose(result.x, [1.0, 1e3], rtol=1e-10)
    np.testing.assert_allclose(result.y, [1.0], rtol=1e-10)


def test_unbounded_quadratic_does_not_pass_as_optimal() -> None:
    # x[1] falls for ever; HiGHS, which solves the regularized program, says optimal at 1e7.
    program = ffoadapt.ConeProgram.from_split(np.diag([1.0, 0.0]), -np.ones(2), [[1.0, 0.0]], [1.0])
    with pytest.raises(ffoadapt.SolveError):
        ffoadapt.solve(program, solver="highs")


def test_cycling_ends() -> None:
    # HiGHS goes in circles for ever here: one row is there twice, once as an equality.
    v, A = np.array([1.44, -0.556]), np.array([[2.67, -1.28], [2.67, -1.28], [-0.885, -2.8]])
    lower, upper = np.array([2.23, -3.29, 1.06]), np.array([2.23, 2.23, 5.64])
    q = np.array([-1.8, 0.726])
    program = ffoadapt.ConeProgram.from_box(np.outer(v, v), q, A, lower, upper)
    result = ffoadapt.solve(program, solver="highs", on_failure="nan")
    assert result.status in (ffoadapt.Status.ITERATION_LIMIT, ffoadapt.Status.OPTIMAL)


def test_an_option_out_of_range_is_an_error() -> None:
    program = ffoadapt.ConeProgram.from_split(None, np.ones(1), [[-1.0]], [1.0])
    with pytest.raises(ffoadapt.SolveError, match="does not accept primal_feasibility_tolerance"):
        ffoadapt.solve(program, solver="highs", solver_options={"tolerance": 1e-15})


ROWS = """
import numpy as np, ffoadapt
for k in range(150):
    r = np.random.default_rng([1, k])
    n = int(r.integers(2, 8))
    m = int(r.integers(1, 2 * n))
    L = r.normal(size=(n, int(r.integers(1, n + 1))))
    P = L @ L.T * 10.0 ** r.uniform(-3, 3)
    A, x = r.normal(size=(m, n)), r.normal(size=n)
    for j in range(1, m):
        if r.uniform() < 0.3:
            near = 10.0 ** r.uniform(-12, -3) * r.normal(size=n) * (r.uniform() < 0.8)
            A[j] = A[:j].T @ r.choice([-1, 1, 0, 0.5], j) + near
    R = 10.0 ** r.uniform(-4, 4, m) if r.uniform() < 0.8 else np.ones(m)
    A *= R[:, None]
    b, room = A @ x, R * r.uniform(0, 1, m) * (r.uniform(size=m) < 0.6)
    low = b - R * r.uniform(0, 1, m) * (room > 0)
    l, u = np.where(r.uniform(size=m) < 0.5, low, np.where(room > 0, -np.inf, b)), b + room
    form = ffoadapt.BoxForm(CSC(P), r.normal(size=n), CSC(A), l, u)
    ffoadapt.get_plugin("solver", "highs").solve(form, OPTIONS, ffoadapt.Session())
"""


def test_rows_that_all_but_depend_do_not_end_the_process() -> None:
    # In rows of very different sizes HiGHS loses count of its active set, and writes beyond it.
    options = {"output_flag": False, "qp_regularization_value": 1e-7, "qp_iteration_limit": 10**5}
    code = f"from scipy.sparse import csc_matrix as CSC\nOPTIONS = {options}\n{ROWS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
