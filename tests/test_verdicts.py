"""Verdicts without false alarms: only what shows can be a kink, and units are no dependence.

The solvers here know the solution: of the many that there are, they give the one they are told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import AffineOutput, AffineProgram, NonnegativeCone, Pattern, Structure, ZeroCone
from ffoadapt._program import structure

forms = pytest.mark.parametrize("form", ["dense", "sparse"], indirect=True)


@pytest.fixture
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sparse programs are factorized as such here, however small they are."""
    monkeypatch.setattr(structure, "DENSE_ENTRIES", -1)
    monkeypatch.setattr(structure, "DENSE_FULL", (-1, 1.0))
    return str(request.param)


def affine(
    form: str,
    data: dict[str, Any],
    entries: list[tuple[str, int]],
    seen: int,
    equalities: int = 0,
) -> tuple[AffineProgram, np.ndarray]:
    """The program with these P, q, A, b whose one parameter is ``entries``, of "q" and "b" by their
    index and of A by that in C order; and the value of that. Outputs are the first ``seen`` x."""
    wholes = {name: np.asarray(data[name], dtype=float) for name in "PqAb"}
    (m, n), count = wholes["A"].shape, len(entries)
    value = np.array([wholes[name].reshape(-1)[at] for name, at in entries])
    maps = {}
    for name, whole in wholes.items():
        matrix = sparse.lil_matrix((whole.size, count + 1))
        matrix[:, count] = whole.reshape(-1, 1)
        for k, (owner, at) in enumerate(entries):
            if owner == name:
                matrix[at, count], matrix[at, k] = 0.0, 1.0
        if form == "sparse" and name in "PA":  # by columns
            order = np.arange(whole.size).reshape(whole.shape).T.reshape(-1)
            matrix = matrix.tocsr()[order]
        maps[name] = sparse.csr_matrix(matrix)
    cones = (ZeroCone(equalities), NonnegativeCone(m - equalities))
    shapes = ((n, n), (m, n))
    P, A = map(Pattern.full, shapes) if form == "sparse" else (None, None)
    outputs = [AffineOutput("x", (seen,), "x", sparse.eye_array(seen, n).tocsr())]
    program = AffineProgram(Structure(n, m, cones, P, A), [("p", (count,))], maps, outputs)
    return program, value


def knows(x: Any, z: Any, equalities: int = 0) -> Any:
    """A solver that gives this point."""
    z = np.asarray(z, dtype=float)
    return ffoadapt.split_solver(
        lambda *_: (np.asarray(x, dtype=float), z[equalities:], z[:equalities])
    )


def judged(
    program: AffineProgram, value: np.ndarray, solver: Any, **how: Any
) -> tuple[str, np.ndarray]:
    """The verdict, and the Jacobian of the outputs."""
    result = ffoadapt.Layer(program, solver=solver, **how).solve(value)
    jacobian = result.vjp(np.eye(result.variables[0].size))[0]
    return result.report().verdict, jacobian


def bounded(p: np.ndarray, bound: float) -> dict[str, np.ndarray]:
    """min 1/2 |x - p|^2, max |x_i| <= t <= bound: variables (x, t)."""
    n = p.size
    eye, one = np.eye(n), np.ones((n, 1))
    A = np.block([[eye, -one], [-eye, -one], [np.zeros((1, n)), np.ones((1, 1))]])
    P = np.diag(np.r_[np.ones(n), 0.0])
    return {"P": P, "q": np.r_[-p, 0.0], "A": A, "b": np.r_[np.zeros(2 * n), bound]}


@forms
@pytest.mark.parametrize("how", ["auto", "keep", "drop", "least_squares"])
@pytest.mark.parametrize("noise", [0.0, 1e-14])
@pytest.mark.parametrize("t", [0.7, 0.9, 1.5])
@pytest.mark.parametrize("x", [[0.7, 0.2, -0.1], [0.7, -0.7, 0.7]])
def test_bound_of_a_norm_anywhere_on_its_face(
    x: list[float], t: float, noise: float, how: Any, form: str
) -> None:
    """Both where rows touch one variable and where several rows say different things of it."""
    p = np.array(x)
    program, value = affine(form, bounded(p, 1.5), [("q", k) for k in range(3)], seen=3)
    solver = knows(np.r_[p, t], np.full(7, noise))
    verdict, jacobian = judged(program, value, solver, degenerate=how)
    assert verdict == "differentiable"
    np.testing.assert_allclose(jacobian, -np.eye(3), atol=1e-9)


@forms
def test_bound_of_a_norm_that_is_asked_for(form: str) -> None:
    p = np.array([0.7, 0.2])
    program, value = affine(form, bounded(p, 1.5), [("q", 0)], seen=3)
    for t in (0.7, 1.0, 1.5):
        assert judged(program, value, knows(np.r_[p, t], np.zeros(5)))[0] == "not_unique"


@forms
@pytest.mark.parametrize("entry", [("q", 0), ("b", 4)])
def test_active_without_a_multiplier(entry: tuple[str, int], form: str) -> None:
    """|x_1| <= t <= 1.5 at x_1 = 1.5 = p_1: a kink in p and in the bound, through t."""
    p = np.array([1.5, 0.2])
    program, value = affine(form, bounded(p, 1.5), [entry], seen=2)
    assert judged(program, value, knows([1.5, 0.2, 1.5], np.zeros(5)))[0] == "weakly_active"


@forms
def test_kinks_that_no_parameter_reaches(form: str) -> None:
    """The same, but only p_2 is a parameter: x_1 = 1.5 does not move."""
    program, value = affine(form, bounded(np.array([1.5, 0.2]), 1.5), [("q", 1)], seen=2)
    verdict, jacobian = judged(program, value, knows([1.5, 0.2, 1.5], np.zeros(5)))
    assert verdict == "differentiable"
    np.testing.assert_allclose(jacobian, [[0.0], [-1.0]], atol=1e-9)


def soft(p: float, limit: float, tied: float) -> dict[str, np.ndarray]:
    """min 1/2 (x - p)^2 + 1/2 v^2, v >= x - limit, v >= 0: v = 0 without a multiplier; and
    ``tied`` makes the curvature of v one with that of x."""
    P = np.array([[1.0, tied], [tied, 1.0]])
    return {"P": P, "q": [-p, -tied * p], "A": [[1.0, -1.0], [0.0, -1.0]], "b": [limit, 0.0]}


@forms
@pytest.mark.parametrize("how", ["auto", "keep", "drop", "least_squares"])
def test_penalties_that_are_not_due(how: Any, form: str) -> None:
    """v >= 0 holds without a multiplier, whatever the solver; x = p anyway."""
    program, value = affine(form, soft(0.4, 2.0, 0.0), [("q", 0), ("b", 0)], seen=1)
    verdict, jacobian = judged(program, value, knows([0.4, 0.0], [0.0, 0.0]), degenerate=how)
    assert verdict == "differentiable"
    np.testing.assert_allclose(jacobian, [[-1.0, 0.0]], atol=1e-9)


@forms
def test_penalties_that_begin(form: str) -> None:
    """At x = limit, x moves by half as much on one side; and so where v moves with x."""
    program, value = affine(form, soft(2.0, 2.0, 0.0), [("q", 0)], seen=1)
    assert judged(program, value, knows([2.0, 0.0], [0.0, 0.0]))[0] == "weakly_active"
    program, value = affine(form, soft(0.4, 2.0, 0.5), [("q", 0)], seen=1)
    assert judged(program, value, knows([0.4, 0.0], [0.0, 0.0]))[0] == "weakly_active"


@forms
def test_kinks_of_different_kinds_together(form: str) -> None:
    """A row that no parameter moves and one that no output feels are none, but for a coupling.

    min 1/2 (x - 1)^2 + 1/2 (u - c)^2 with x <= 1, and u >= c or, coupled, u + x >= c + 1.
    """
    for coupled, verdict in ((0.0, "differentiable"), (1.0, "weakly_active")):
        A = np.array([[1.0, 0.0], [-coupled, -1.0]])
        data = {"P": np.eye(2), "q": [-1.0, -0.3], "A": A, "b": [1.0, -0.3 - coupled]}
        program, value = affine(form, data, [("q", 1)], seen=1)
        assert judged(program, value, knows([1.0, 0.3], [0.0, 0.0]))[0] == verdict


@forms
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_multipliers_anywhere_on_their_face(share: float, form: str) -> None:
    """x <= 1 twice, and nobody asks for the multipliers; or somebody moves one of the bounds."""
    data = {"P": [[1.0, 0], [0, 1]], "q": [-2.0, -0.5], "A": np.eye(2)[[0, 0]], "b": [1.0, 1.0]}
    solver = knows([1.0, 0.5], [share, 1.0 - share])
    program, value = affine(form, data, [("q", 0), ("q", 1)], seen=2)
    verdict, jacobian = judged(program, value, solver)
    assert verdict == "differentiable"
    np.testing.assert_allclose(jacobian, [[0.0, 0.0], [0.0, -1.0]], atol=1e-9)
    program, value = affine(form, data, [("b", 0)], seen=2)
    assert judged(program, value, solver)[0] == "dependent_constraints"


@forms
def test_equality_as_two_inequalities(form: str) -> None:
    """x_1 >= 1 and x_1 <= 1 without multipliers: x_1 does not move."""
    A = np.array([[1.0, 0], [-1, 0]])
    data = {"P": np.eye(2), "q": [-1.0, -0.5], "A": A, "b": [1.0, -1.0]}
    program, value = affine(form, data, [("q", 0), ("q", 1)], seen=2)
    verdict, jacobian = judged(program, value, knows([1.0, 0.5], [0.0, 0.0]))
    assert verdict == "differentiable"
    np.testing.assert_allclose(jacobian, [[0.0, 0.0], [0.0, -1.0]], atol=1e-9)


@forms
def test_multipliers_that_change_a_gradient(form: str) -> None:
    """x_1 + x_2 = 1 and x_1 + x_2 <= 1: an entry of A of the row that is implied makes of it
    x_1 >= 0 or x_1 <= 0, at x_1 = 0, and its gradient is a product with the multiplier."""
    data = {
        "P": [[4.0, 0.0], [0.0, 0.0]],
        "q": [-1.0, -1.0],
        "A": [[1.0, 1.0], [1.0, 1.0]],
        "b": [1.0, 1.0],
    }
    program, value = affine(form, data, [("q", 0), ("A", 2)], seen=1, equalities=1)
    assert judged(program, value, knows([0.0, 1.0], [0.5, 0.5], 1))[0] != "differentiable"


def test_batches_are_judged_one_by_one() -> None:
    """At t = |x|, in between, and at a kink."""
    program, _ = affine("dense", bounded(np.zeros(2), 1.5), [("q", 0), ("q", 1)], seen=2)

    def solve(P: Any, q: Any, *_: Any) -> Any:
        x = -q[:2]
        t = {0.7: 0.7, 0.5: 0.9, 1.5: 1.5}[float(x[0])]
        return np.r_[x, t], np.zeros(5), np.zeros(0)

    layer = ffoadapt.Layer(program, solver=ffoadapt.split_solver(solve))
    result = layer.solve(-np.array([[0.7, -0.7], [0.5, 0.1], [1.5, 0.2], [0.7, 0.2]]))
    verdicts = ["differentiable", "differentiable", "weakly_active", "differentiable"]
    assert result.report().verdicts == verdicts
    assert [report.verdict for report in result.report()] == verdicts
    (found,) = result.vjp(np.ones((4, 2)))
    np.testing.assert_allclose(found[[0, 1, 3]], -1.0, atol=1e-9)


# --- units ----------------------------------------------------------------------------------------


def scaled(seed: int, kind: str, n: int = 8, k: int = 5) -> tuple[ffoadapt.ConeProgram, Any]:
    """Equalities in units of 1e-8 to 1e8 that nearly depend on each other, or do; and a solver."""
    rng = np.random.default_rng(seed)
    P, A = np.diag(rng.uniform(0.5, 2.0, n)), rng.standard_normal((k, n))
    if kind == "nearly":
        A[-1] = A[0] + 10.0 ** rng.uniform(-9, -6) * rng.standard_normal(n)
    elif kind == "dependent":
        A[-1] = A[0] + 2.0 * A[1]
    x, z = rng.standard_normal(n), rng.standard_normal(k)
    R, C = 10.0 ** rng.uniform(-8, 8, k), 10.0 ** rng.uniform(-4, 4, n)
    A, P = R[:, None] * A * C, C[:, None] * P * C
    x, z = x / C, z / R
    program = P, -P @ x - A.T @ z, A, A @ x
    return program, ffoadapt.split_solver(lambda *_: (x, np.zeros(0), z))


@forms
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [8, 60])
def test_bad_units_are_no_dependence(n: int, seed: int, form: str) -> None:
    wrap = sparse.csc_matrix if form == "sparse" else np.asarray
    for kind, expected in (
        ("independent", {"differentiable", "inaccurate_solution"}),
        ("nearly", {"inaccurate_solution"}),
        ("dependent", {"dependent_constraints"}),
    ):
        (P, q, A, b), solver = scaled(seed, kind, n, 5 * n // 8)
        program = ffoadapt.ConeProgram.from_split(wrap(P), q, A=wrap(A), b=b)
        result = ffoadapt.solve(program, solver, polish=False, on_failure="nan")
        result.vjp(x=np.ones(n))
        assert result.report().verdict in expected, kind


def test_advice_names_the_units() -> None:
    (P, q, A, b), solver = scaled(0, "nearly")
    program = ffoadapt.ConeProgram.from_split(P, q, A=A, b=b)
    report = ffoadapt.solve(program, solver, polish=False, on_failure="nan").report()
    assert report.verdict == "inaccurate_solution" and "units" in report.advice
