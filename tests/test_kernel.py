"""The compiled code and its twin in NumPy: one interface, one suite for both.

What the compiled code says to arguments that are not what they should be is in
`test_kernel_arguments.py`.
"""

from __future__ import annotations

import ast
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffoadapt import _kernel
from ffoadapt._kernel import ghost, reference
from ffoadapt._kernel.algebra import NumpyAlgebra
from ffoadapt._kernel.measures import FIGURES
from ffoadapt._kernel.polyhedral import LIMITS
from ffoadapt._oracle.active_set import GhostBatch
from ffoadapt._oracle.batched import BatchedFactor
from ffoadapt._oracle.bounds import SURENESS
from ffoadapt._oracle.dense import DenseFactor
from ffoadapt._oracle.rows import ElementRows

ROOT = Path(__file__).resolve().parents[1]
SURE, REFINE = 1e-5, 1e-13

without = pytest.mark.skipif(_kernel.compiled is None, reason="there is no compiled code here")


@pytest.fixture(params=[pytest.param("compiled", marks=without), "reference"])
def kernel(request: pytest.FixtureRequest) -> Any:
    return getattr(_kernel, request.param)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def definite(size: int, n: int, seed: int = 0) -> np.ndarray:
    root = rng(seed).standard_normal((size, n, n))
    return root @ root.transpose(0, 2, 1) + np.eye(n)


# ------------------------------------------------------------------------------- the interface


@without
def test_what_is_compiled_has_the_functions_of_its_twins() -> None:
    names = {name for name, what in vars(_kernel.compiled).items() if callable(what)}
    assert {name for name in names if not name.startswith("_")} == set(reference.__all__)
    assert all(callable(getattr(reference, name)) for name in reference.__all__)


def test_nobody_outside_asks_which_of_the_two_it_is() -> None:
    """But to tell the user, or a plugin that has another way."""
    tell = {"_cli/plugins.py", "experimental/_least_distance.py"}
    core, asking = ROOT / "ffoadapt", set()
    for path in core.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            known = isinstance(node, ast.Attribute) and node.attr in ("compiled", "reference")
            if known and getattr(node.value, "id", "") == "_kernel":
                asking.add(path.relative_to(core).as_posix())
    assert asking == tell


@pytest.mark.parametrize("without_it", [pytest.param("", marks=without), "1"])
def test_the_environment_can_do_without(without_it: str) -> None:
    environment = {**os.environ, "FFOADAPT_NO_KERNEL": without_it}
    expected = "no compiled kernel" if without_it else "kernel in use"
    command = [sys.executable, "-m", "ffoadapt", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and expected in done.stdout


# ------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("size", [0, 1, 24, 1 << 20])
def test_memory_can_be_written_to(kernel: Any, size: int) -> None:
    found = np.frombuffer(kernel.memory(size), np.uint8)
    found[:] = 7
    assert found.size == size


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_finite_numbers(kernel: Any, wrong: float) -> None:
    values = rng().standard_normal(50)
    assert kernel.all_finite(values) and kernel.all_finite(np.empty(0))
    values[31] = wrong
    assert not kernel.all_finite(values) and not kernel.all_finite(np.ones((2, 2)), values[::-1])
    assert kernel.all_finite(values[::2], np.ones((3, 4)).T, np.empty((0, 2)))
    many = np.ones(20_000)
    assert kernel.all_finite(many)
    many[-1] = wrong
    assert not kernel.all_finite(many)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 1, 0), (0, 2, 2), (2, 0, 3)])
def test_squares_of_rows(kernel: Any, shape: tuple[int, int, int]) -> None:
    A, out = rng().standard_normal(shape), np.empty(shape[:2])
    kernel.row_squares(*shape[1:], A, out)
    np.testing.assert_allclose(out, np.square(A).sum(-1), rtol=1e-14)


def test_factors_of_positive_definite_matrices(kernel: Any) -> None:
    P = definite(3, 5)
    U = np.empty_like(P)
    assert kernel.cholesky(5, P, U, 1e-9, SURE)
    np.testing.assert_allclose(np.triu(U).transpose(0, 2, 1) @ np.triu(U), P, rtol=1e-12)
    for i, j, value in ((2, 2, -1.0), (1, 3, 7.0), (0, 0, 0.0)):
        other = P.copy()
        other[1, i, j] = value
        assert not kernel.cholesky(5, other, U, 1e-9, SURE)
    v = rng(1).standard_normal((5, 3))  # of rank 3
    assert not kernel.cholesky(5, (v @ v.T)[None], U[:1], 1e-9, SURE)
    assert kernel.cholesky(0, P[:, :0, :0].copy(), U[:, :0, :0].copy(), 1e-9, SURE)


@pytest.mark.parametrize("few", [1, 2, 6])
def test_products_of_vectors(kernel: Any, few: int) -> None:
    """Of z and x there may be fewer, which come in turn; the rest of the output stays."""
    r, (count, rows, n) = rng(), (6, 3, 4)
    z, x = r.standard_normal((few, rows)), r.standard_normal((few, n))
    zeta, w = r.standard_normal((count, rows)), r.standard_normal((count, n))
    out = np.full((count, rows, n), 9.0)
    kernel.products(rows, n, 1, 5, -0.5, z, zeta, w, x, out)
    z, x = np.tile(z, (count // few, 1)), np.tile(x, (count // few, 1))
    expected = -0.5 * (z[:, :, None] * w[:, None] + zeta[:, :, None] * x[:, None])
    np.testing.assert_allclose(out[1:5], expected[1:5], rtol=1e-14, atol=1e-15)
    assert (out[[0, 5]] == 9.0).all()

    there = r.random((n, rows)) < 0.5
    indptr = np.concatenate(([0], np.cumsum(there.sum(1)))).astype(np.int32)
    columns, indices = (v.astype(np.int32) for v in np.nonzero(there))
    for group in (1, 3, 6):
        on = np.empty((count // group, indices.size))
        kernel.products_on_pattern(rows, n, group, -0.5, indptr, indices, z, zeta, w, x, on)
        summed = expected.reshape(-1, group, rows, n).sum(1)[:, indices, columns]
        np.testing.assert_allclose(on, summed, rtol=1e-12, atol=1e-14)


def test_equilibration(kernel: Any) -> None:
    """The upper triangle of a symmetric matrix, whose second row is empty."""
    indptr, indices = np.array([0, 1, 1, 3], np.int32), np.array([0, 0, 2], np.int32)
    magnitudes, scale = np.array([1e6, 3.0, 1e-4]), np.ones(3)
    given = magnitudes.copy()
    kernel.equilibrate(50, 2.0, indptr, indices, magnitudes, scale)
    rows, columns = indices, np.array([0, 2, 2])
    np.testing.assert_allclose(magnitudes, given * scale[rows] * scale[columns], rtol=1e-13)
    assert scale[1] == 1.0
    for k in (0, 2):
        assert 0.5 <= magnitudes[(rows == k) | (columns == k)].max() <= 2.0


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_entries_that_are_known(kernel: Any, kind: Any) -> None:
    indptr, indices = np.array([0, 2, 2, 3], np.int32), np.array([0, 1, 1], np.int32)
    order = np.array([2, 0, 1], np.int32)
    mixed = np.array([1, 1, 0], kind), np.array([0, 2, 0], kind)
    plain = np.array([0, 1, 1], kind), np.array([0, 0, 2], kind)
    assert kernel.same_entries(indptr, indices, order, *mixed)
    assert kernel.same_entries(indptr, indices, None, *plain)
    assert not kernel.same_entries(indptr, indices, None, *mixed)
    assert not kernel.same_entries(indptr, indices, None, plain[0], plain[0])


# ------------------------------------------------------------------------------------- points


def measured(kernel: Any, P: Any, q: Any, A: Any, b: Any, x: Any, s: Any, z: Any, kinds: Any,
             exact: bool = False) -> tuple[Any, Any]:  # fmt: skip
    size, m = s.shape
    active, figures = np.empty((size, m), bool), np.empty((size, FIGURES))
    squares, kinds = np.square(A).sum(-1), np.asarray(kinds, np.int8)
    squares[squares == 0.0] = 1.0
    given = P, q, A, b, squares, x, s, z, kinds, exact, LIMITS, active, figures
    kernel.measure(x.shape[1], m, 0, size, *given)
    return active, figures


def test_figures_of_a_solution_by_hand(kernel: Any) -> None:
    """minimize x'x / 2 - 2x, x <= 1: x = 1, z = 1; X = g / P = 2 and g = |q| = 2."""
    data = np.ones((1, 1, 1)), np.full((1, 1), -2.0), np.ones((1, 1, 1)), np.ones((1, 1))
    point = np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1))
    active, figures = measured(kernel, *data, *point, [0])
    assert active.all()
    expected = [2.0, 2.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(figures[0], expected, atol=1e-15)


def test_figures_of_a_point_that_is_no_solution(kernel: Any) -> None:
    """The same at x = 1.5: outside by 1/4 of X; the row's size is |b| + ... = X; the gap is
    9/4 - 3 + 1 beside 9/4 + 3 + |q| max(|x|, |b| / 1)."""
    data = np.ones((1, 1, 1)), np.full((1, 1), -2.0), np.ones((1, 1, 1)), np.ones((1, 1))
    point = np.full((1, 1), 1.5), np.full((1, 1), -0.5), np.ones((1, 1))
    _, figures = measured(kernel, *data, *point, [0], exact=True)
    assert figures[0, 4] == figures[0, 5] == 0.25  # 0.5 / 2, as stationarity is
    assert figures[0, 10] == pytest.approx(0.5 / 1.5)
    # sum |s z| = 1/2 is larger than the gap
    assert figures[0, 11] == pytest.approx(0.5 / (2.25 + 3.0 + 3.0 + 2.25))
    assert figures[0, 12] == pytest.approx(0.5 / 1.5 / LIMITS.row)


@without
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_both_measure_the_same(seed: int, exact: bool) -> None:
    """Random points of programs in any units, with rows that are empty, without a bound or of
    curved cones, and without curvature, gradient or constraints that are away from 0."""
    r = rng(seed)
    size, n, m = 4, int(r.integers(1, 7)), int(r.integers(0, 9))
    units = 10.0 ** r.uniform(-3, 3, m)
    P, A = (
        definite(1 if seed % 2 else size, n, seed),
        r.standard_normal((size, m, n)) * units[:, None],
    )
    q, b = r.standard_normal((size, n)), r.standard_normal((size, m)) * units
    x, s, z = (r.standard_normal((size, k)) for k in (n, m, m))
    kinds = r.integers(0, 3 if seed % 3 else 2, m)
    if m:
        A[1, 0] = 0.0
        b[0, kinds == 0] = s[0, kinds == 0] = np.inf
    if seed % 5 == 0:
        P[...] = 0.0
    if seed % 5 == 1:
        q[2:] = 0.0
    if seed % 5 == 2:
        b[1:] = 0.0
    if exact:
        s = b - (A @ x[..., None])[..., 0]
    given = P, q, A, b, x, s, z, kinds, exact
    (active, figures), (other, twin) = (measured(k, *given) for k in (_kernel.compiled, reference))
    assert (active == other).all()
    np.testing.assert_allclose(figures, twin, rtol=1e-9, atol=1e-13)


# ------------------------------------------------------------------------------------ systems


def prepared(kernel: Any, P: Any, A: Any, active: Any, curved: Any = None) -> tuple[Any, ...]:
    (size, m), n = active.shape, P.shape[-1]
    counts, reused, fine = np.empty(size, np.int64), np.ones(size, bool), np.empty(size, bool)
    batch = kernel.prepare(n, m, size, P, A, active, None, curved, None, counts, reused)
    kernel.factorize(batch, 0, size, SURE, fine, np.empty(size, np.int64))
    assert not reused.any()
    return batch, counts, fine


@pytest.mark.parametrize("n, m", [(5, 9), (4, 0), (7, 3)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_solutions_of_systems(kernel: Any, n: int, m: int, shared: bool, flat: bool) -> None:
    """P is singular where it is ``flat``, and the active rows make up for it."""
    r, size = rng(n), 3
    P, A = definite(1 if shared else size, n), r.standard_normal((1 if shared else size, m, n))
    active = np.zeros((size, m), bool)
    active[:, : min(m, n - 1)] = True
    if flat and m:
        P[:, 0], P[:, :, 0] = 0.0, 0.0
        A[:, 0, 0] += 3.0
    batch, counts, fine = prepared(kernel, P, A, active)
    assert fine.all() and (counts == active.sum(1)).all()
    v_x, v_z = r.standard_normal((2, size, n)), r.standard_normal((2, size, m))
    w, zeta, residual = np.zeros_like(v_x), np.zeros_like(v_z), np.zeros(size)
    kernel.solve(batch, 0, size, REFINE, v_x, v_z, w, zeta, residual)
    assert (residual <= 1e-12).all() and not zeta[:, ~active].any()
    P, A = np.broadcast_to(P, (size, n, n)), np.broadcast_to(A, (size, m, n))
    for i in range(size):
        C = A[i, active[i]]
        K = np.block([[P[i], C.T], [C, np.zeros((len(C), len(C)))]])
        for k in range(2):
            right = np.concatenate((v_x[k, i], v_z[k, i, active[i]]))
            expected = np.linalg.solve(K, right)
            found = np.concatenate((w[k, i], zeta[k, i, active[i]]))
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    plain = np.empty_like(w), np.zeros_like(zeta), np.ones(size)
    kernel.solve(batch, 0, size, np.inf, v_x, v_z, *plain)
    np.testing.assert_allclose(plain[0], w, rtol=1e-8, atol=1e-10)
    assert not plain[2].any()


def test_systems_without_full_rank(kernel: Any) -> None:
    """Equal rows, more rows than variables, a direction without curvature; and one that is fine.

    Where rows alone depend on each other the solution is the minimal one, or left alone.
    """
    P, A = np.broadcast_to(np.eye(3), (4, 3, 3)).copy(), rng().standard_normal((4, 5, 3))
    active = np.array([[True, True, False, False, False]] * 4)
    A[0, 1], P[2, 2, 2] = A[0, 0], 0.0
    active[1], A[2, :, 2] = True, 0.0
    batch, _, fine = prepared(kernel, P, A, active)
    assert fine[2:].tolist() == [False, True]
    v_x, v_z = np.ones((1, 4, 3)), np.ones((1, 4, 5))
    w, zeta, residual = np.full_like(v_x, 9.0), np.full_like(v_z, 9.0), np.full(4, 9.0)
    kernel.solve(batch, 0, 4, REFINE, v_x, v_z, w, zeta, residual)
    for i in np.flatnonzero(~fine).tolist():
        assert (w[:, i] == 9.0).all() and (zeta[:, i] == 9.0).all() and residual[i] == 9.0
    assert residual[3] <= 1e-12
    np.testing.assert_allclose(A[3, :2] @ w[0, 3], 1.0, rtol=1e-12)
    for i in np.flatnonzero(fine[:2]).tolist():
        C = A[i, active[i]]
        K = np.block([[P[i], C.T], [C, np.zeros((len(C), len(C)))]])
        right = np.linalg.pinv(K) @ np.ones(3 + len(C))
        found = np.concatenate((w[0, i], zeta[0, i, active[i]]))
        np.testing.assert_allclose(found, right, atol=1e-12)
        assert not zeta[0, i, ~active[i]].any()


@pytest.mark.parametrize("n, rows, penalized", [(6, 3, False), (9, 4, True), (30, 12, False)])
@pytest.mark.parametrize("units", [1.0, 1e-4, 1e5])
def test_dependent_rows_of_batches(n: int, rows: int, penalized: bool, units: float) -> None:
    """Bounds on most variables, rows that follow from others, P singular or not, in any units: the
    minimal solutions, as by the factorization of one element, and how many rows are lost."""
    r, size = rng(n), 4
    A = np.concatenate(
        (r.standard_normal((size, rows, n)), np.broadcast_to(-np.eye(n), (size, n, n))), 1
    )
    A[:, rows - 1] = A[:, 0] - 2.0 * A[:, 1]
    active = np.concatenate((np.ones((size, rows)), r.random((size, n)) < 0.6), 1) > 0.5
    active[0, rows:] = True
    P = definite(size, n) * units
    if penalized:  # what is bent in one direction only, and held in the others
        P = np.einsum("bi,bj->bij", *[r.standard_normal((size, n))] * 2) * units
        active[:, rows:-1] = True
    ghost = GhostBatch(active, np.zeros((size, 0)), (), np.full(size, np.inf))
    factor = BatchedFactor(P, A, ghost)
    v_x, v_z = r.standard_normal((2, size, n)), r.standard_normal((2, size, rows + n))
    w, zeta, residual = factor.solve(v_x, v_z)
    for i in range(size):
        alone = DenseFactor(P[i], A[i], ElementRows(ghost, i))
        assert factor.lost[i] == alone.dependent * factor.fine[i] and alone.dependent
        if _kernel.compiled is not None:
            assert factor.fine[i]
        if factor.fine[i]:
            others = alone.solve(v_x[:, i].T, v_z[:, i].T)
            for value, other in ((w, others[0]), (zeta, others[1])):
                scale = np.abs(other).max()
                np.testing.assert_allclose(value[:, i].T, other, atol=1e-10 * scale)
            np.testing.assert_allclose(residual[i], others[2].max(), rtol=1e-6)


def test_what_is_in_doubt_is_not_settled(kernel: Any) -> None:
    batch, _, _ = prepared(kernel, np.eye(2)[None], np.eye(2)[None], np.array([[True, False]]))
    figures = np.ones((1, FIGURES))  # a residual of 1
    given = np.ones(2), np.ones(2), np.ones((1, 2)), figures, np.array([np.inf]), *SURENESS
    assert not kernel.bounds_suffice(batch, 0, 1, *given)
    assert kernel.bounds_suffice(batch, 0, 0, *given)


# --------------------------------------------------------------------- other forms, other code


@pytest.mark.parametrize("equalities", [0, 1, 2])
def test_least_distance_and_back(kernel: Any, equalities: int) -> None:
    """What is stationary in the form is stationary in the program, and what it leaves of the bounds
    is what the program leaves. Elements without a form are solved as they are."""
    r, (size, n, m) = rng(equalities), (3, 4, 5)
    P, q, A = definite(1, n), r.standard_normal((size, n)), r.standard_normal((size, m, n))
    lower = r.standard_normal((size, m))
    upper = lower + 1.0
    upper[:, :equalities] = lower[:, :equalities]
    state = np.zeros((size, m * n + 2 * m + 3 * n + (m + 1) // 2 + n * n))
    sizes = np.empty(size, np.int32)
    data = P, q, A, lower, upper, None, state, sizes
    kernel.to_least_distance(n, m, 0.0, 1e-5, 1e-6, *data)
    assert set(sizes.tolist()) == {-1 if kernel is reference else equalities}
    t, dual = r.standard_normal((size, n)), r.standard_normal((size, m))
    if sizes[0] < 0:
        x, y = np.empty((size, n)), np.empty((size, m))
        kernel.from_least_distance(n, m, *data, t, dual, x, y)
        assert (x == t).all() and (y == dual).all()
        return
    k, left = n - equalities, m - equalities
    rows = state[:, : left * k].reshape(size, left, k)
    t[:, :k] = -np.einsum("bij,bi->bj", rows, dual[:, :left])
    x, y = np.empty((size, n)), np.empty((size, m))
    kernel.from_least_distance(n, m, *data, t, dual, x, y)
    stationarity = x @ P[0] + q + np.einsum("bij,bi->bj", A, y)
    np.testing.assert_allclose(stationarity, 0.0, atol=1e-10)
    product = (A @ x[..., None])[..., 0]
    np.testing.assert_allclose((product - lower)[:, :equalities], 0.0, atol=1e-10)
    here = (rows @ t[:, :k, None])[..., 0] - state[:, m * n : m * n + left]
    np.testing.assert_allclose((product - lower)[:, equalities:], here, rtol=1e-9, atol=1e-10)


@ctypes.CFUNCTYPE(None, *[ctypes.POINTER(ctypes.c_double)] * 2)
def write(out: Any, given: Any) -> None:
    out[0] = given[0]


def test_calls_of_c_functions(kernel: Any) -> None:
    out, given = np.zeros(4), np.arange(1.0, 3.0)
    address = ctypes.cast(write, ctypes.c_void_p).value
    kernel.call_each(address, 2, (out.ctypes.data, given.ctypes.data), (16, 8))
    assert out.tolist() == [1.0, 0.0, 2.0, 0.0]


def test_no_signal_came(kernel: Any) -> None:
    assert kernel.share_interrupts(("/nothing/there.so",)) == 0
    kernel.watch_interrupts(3600.0)
    assert not kernel.interrupted_since(time.perf_counter())


# ---------------------------------------------------------- what other array libraries use too


@pytest.mark.parametrize("rank", [0, 3, 6])
def test_inverses_of_symmetric_matrices(rank: int) -> None:
    """Moore and Penrose's, of matrices in one unit."""
    v = rng(rank).standard_normal((6, rank))
    K = v @ np.diag(rng(1).choice([-1.0, 1.0], rank)) @ v.T
    expected = np.linalg.pinv(K, hermitian=True, rcond=1e-12)
    found = ghost.inverse(NumpyAlgebra(), K)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_matrices_that_are_positive_definite() -> None:
    P = definite(1, 5)[0]
    assert NumpyAlgebra().factor(P)[1]
    P[3, 3] = -1.0
    assert not NumpyAlgebra().factor(P)[1]
