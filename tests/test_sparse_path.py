"""Sparse programs: what is kept for a pattern changes no number and is nobody else's."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import ConeProgram, NonnegativeCone, Structure, ZeroCone, _kernel
from ffoadapt._kernel.reference import runs
from ffoadapt._models import patterns as functional
from ffoadapt._models.box import BoxModel
from ffoadapt._oracle import workspace
from ffoadapt._oracle.gradient import Adjoint
from ffoadapt._oracle.ldl import _equilibrate
from ffoadapt._oracle.workspace import Lease, Shelf, Workspace
from ffoadapt._program.pattern import Pattern
from ffoadapt._program.points import Points

N = 220
"""Large enough not to be factorized as a dense program."""


def program(seed: int) -> tuple[ConeProgram, Any]:
    """A program of one pattern and one active set, and a solver that knows its solution."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    P = sparse.random(N, N, 0.01, random_state=fixed, format="csc")
    A = sparse.random(N // 2, N, 0.03, random_state=fixed, format="csc") + sparse.eye(N // 2, N)
    P = sparse.csc_matrix(P + P.T + 20.0 * sparse.identity(N))
    A = sparse.csc_matrix(A)
    A.data *= rng.uniform(0.5, 1.5, A.nnz)
    P = sparse.csc_matrix(P * rng.uniform(0.5, 2.0))
    active = np.arange(N // 2) < N // 4
    x = rng.standard_normal(N)
    z = np.where(active, rng.uniform(0.5, 1.5, N // 2), 0.0)
    s = np.where(active, 0.0, rng.uniform(0.5, 1.5, N // 2))
    z[:10] = rng.standard_normal(10)
    found = ConeProgram(P, -(P @ x + A.T @ z), A, A @ x + s, [ZeroCone(10), NonnegativeCone(100)])

    @ffoadapt.conic_solver(cones={"zero", "nonnegative"})
    def known(P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        return x, s, z

    return found, known


def solved(seed: int) -> Any:
    return ffoadapt.solve(*program(seed), polish=False)


def gradient(result: Any) -> list[Any]:
    found = result.vjp(x=np.ones(N), z=np.ones(N // 2))
    return [found.P.data, found.q, found.A.data, found.b]


def exact(result: Any) -> list[Any]:
    """The gradients of q and b by an LU of the KKT matrix."""
    p = result.program
    on = (result.z != 0.0) | (np.arange(N // 2) < 10)
    C = p.A.toarray()[on]
    K = np.block([[p.P.toarray(), C.T], [C, np.zeros((len(C), len(C)))]])
    w = np.linalg.solve(K, np.ones(len(K)))
    b = np.zeros(N // 2)
    b[on] = w[N:]
    return [-w[:N], b]


@pytest.fixture(autouse=True)
def empty_shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    monkeypatch.setattr(workspace, "_shelf", shelf)
    return shelf


@pytest.fixture
def analyses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the matrices whose pattern was analysed, in turn."""
    found: list[int] = []

    class Counted(workspace.qdldl.Solver):  # type: ignore[misc]
        def __init__(self, matrix: Any, upper: bool = False) -> None:
            if matrix.shape[0] > N:  # P alone is looked at for convexity
                found.append(matrix.shape[0])
            super().__init__(matrix, upper=upper)

    monkeypatch.setattr(workspace.qdldl, "Solver", Counted)
    return found


def test_analysed_once_and_the_same_bit_for_bit(empty_shelf: Shelf, analyses: list[int]) -> None:
    first = [gradient(solved(seed)) for seed in (1, 2, 1, 3, 1)]
    assert len(analyses) == 1
    empty_shelf._idle.clear()
    again = gradient(solved(1))
    assert len(analyses) == 2
    for found in (first[0], first[2], first[4]):
        assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_another_active_set_is_another_pattern(analyses: list[int]) -> None:
    result = solved(1)
    gradient(result)
    p, _ = program(1)
    z, s = result.z.copy(), result.s.copy()
    z[20], s[20] = 0.0, 1.0

    @ffoadapt.conic_solver(cones={"zero", "nonnegative"})
    def known(P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        return result.x, s, z

    moved = ConeProgram(p.P, -(p.P @ result.x + p.A.T @ z), p.A, p.A @ result.x + s, p.cones)
    other = ffoadapt.solve(moved, known, polish=False)
    for found, expected in zip(gradient(other)[1::2], exact(other), strict=True):
        assert np.allclose(found, expected, rtol=0.0, atol=1e-11 * np.abs(expected).max())
    assert len(analyses) == 2 and analyses[0] == analyses[1] + 1


def test_results_alive_together_do_not_share_numbers() -> None:
    results = [solved(seed) for seed in (1, 2, 3)]
    before = [gradient(result) for result in results]
    for result, expected in zip(results[::-1], before[::-1], strict=True):
        assert all(np.array_equal(*pair) for pair in zip(gradient(result), expected, strict=True))
        for found, right in zip(expected[1::2], exact(result), strict=True):
            assert np.allclose(found, right, rtol=0.0, atol=1e-11 * np.abs(right).max())


def test_threads() -> None:
    expected = [gradient(solved(seed)) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: gradient(solved(k % 4)), range(40)))
    for k, arrays in enumerate(found):
        assert all(np.array_equal(*pair) for pair in zip(arrays, expected[k % 4], strict=True))


def test_an_update_that_failed_silently_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """qdldl says nothing where an update finds a zero pivot, and solves with old numbers."""
    gradient(solved(1))
    factorize = Lease.factorize

    def stale(self: Lease, data: Any, afresh: bool = False) -> None:
        if self.space.ldl is None or afresh or self.space.upper.shape[0] == N:
            factorize(self, data, afresh)

    monkeypatch.setattr(Lease, "factorize", stale)
    result = solved(2)
    for found, right in zip(gradient(result)[1::2], exact(result), strict=True):
        assert np.allclose(found, right, rtol=0.0, atol=1e-11 * np.abs(right).max())
    assert result.report().verdict == "differentiable"


def space(key: str, size: int) -> Workspace:
    eye = Pattern.of(sparse.identity(size))[0]
    return Workspace.of(key, eye, np.zeros(1, int), np.zeros(0, int))


def test_the_shelf_keeps_the_latest_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "KEPT_ENTRIES", 100)
    shelf = Shelf()

    def fail() -> Workspace:
        raise LookupError

    for key in ("a", "b", "b", "c"):
        shelf.give(space(key, 30))
    with pytest.raises(LookupError):  # 120 entries were too many: the oldest went
        shelf.take("a", fail)
    assert [shelf.take(key, fail).key for key in ("b", "b", "c")] == ["b", "b", "c"]
    shelf.give(space("d", 20))
    shelf.give(space("e", 300))  # larger than the bound: stays, alone
    with pytest.raises(LookupError):
        shelf.take("d", fail)
    assert shelf.take("e", fail).inner.size == 300
    with pytest.raises(LookupError):
        shelf.take("e", fail)
    assert shelf._entries == 0


def test_a_workspace_comes_back_when_nobody_holds_its_factor(empty_shelf: Shelf) -> None:
    result = solved(1)
    gradient(result)
    before = set(empty_shelf._idle)  # that of P alone, from the check of convexity
    del result
    gc.collect()
    assert len(set(empty_shelf._idle) - before) == 1


# --- patterns -------------------------------------------------------------------------------------


def test_a_pattern_is_known_by_its_entries_not_by_its_arrays() -> None:
    """Index arrays that are written to in place, and patterns of equal size, are not mixed up."""
    q, x = np.array([-1.0, -2.0, -3.0]), np.zeros(3)
    rows, columns = np.array([0, 1, 2]), np.array([0, 1, 2])
    P = sparse.coo_matrix((np.array([1.0, 2.0, 4.0]), (rows, columns)), shape=(3, 3))
    for _ in range(2):
        for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
            P.row[:] = P.col[:] = order
            x[order] = np.array([1.0, 2.0, 4.0])
            found = ffoadapt.qp(P, q, np.eye(3), np.full(3, 9.0), solver="piqp").x
            assert np.allclose(found, -q / x, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("entries", [1, 7, 40, 1000])
def test_blocks_cover_the_entries_once(entries: int) -> None:
    pattern, values = Pattern.of(sparse.random(30, 20, 0.2, random_state=np.random.default_rng(1)))
    seen: list[int] = []
    for at, columns in runs(pattern.indptr, entries):
        part = range(values.size)[at]
        assert set(pattern.columns[at]) <= set(range(20)[columns])
        assert len(part) <= entries + 30
        seen += part
    assert seen == list(range(values.size))


def test_patterns_without_entries_or_columns() -> None:
    for shape in ((3, 4), (0, 4), (3, 0)):
        pattern, _ = Pattern.of(sparse.csc_matrix(shape))
        assert sum(at.stop - at.start for at, _ in runs(pattern.indptr)) == 0
        assert [part.size for part in pattern.by_rows()] == [shape[0] + 1, 0, 0]


@pytest.mark.parametrize("shared", [False, True])
def test_outer_products_in_blocks(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the pattern, for leading axes, and summed where the batch shares the matrix."""
    rng = np.random.default_rng(3)
    pattern, _ = Pattern.of(sparse.random(9, 7, 0.5, random_state=rng))
    monkeypatch.setattr(runs, "__defaults__", (5,))
    a, c = rng.standard_normal((2, 4, 3, 9))
    w, x = rng.standard_normal((4, 3, 7)), rng.standard_normal((3, 7))
    points = Points(x, a[0], a[0], [ffoadapt.Status.OPTIMAL] * 3, [{}] * 3)
    adjoint = Adjoint(None, points, w, c)  # type: ignore[arg-type]
    lead = 1 if shared else 3
    found = adjoint.matrix(pattern, lead, a, c, -2.0)
    full = -2.0 * (a[..., :, None] * w[..., None, :] + c[..., :, None] * x[..., None, :])
    if shared:
        full = full.sum(axis=1, keepdims=True)
    assert np.allclose(found, full[..., pattern.indices, pattern.columns], rtol=0.0, atol=1e-14)
    assert np.allclose(adjoint.matrix(None, lead, a, c, -2.0), full, rtol=0.0, atol=1e-14)


# --- what else is factorized ----------------------------------------------------------------------


def test_convexity_is_seen_through_a_pattern_that_repeats(analyses: list[int]) -> None:
    """With one analysis; a zero pivot, which an update does not tell of, is one too."""
    size = N + 1
    P = sparse.diags([1.0, 2.1, 1.0], [-1, 0, 1], shape=(size, size), format="csc")
    lease = Lease("P", lambda: Workspace.of("P", Pattern.of(P)[0], np.zeros(1, int), np.zeros(0)))
    for first, positive in ((2.1, True), (0.0, False), (2.1, True), (-1.0, False)):
        lease.factorize(np.r_[first, np.tile([1.0, 2.1], size - 1)])
        assert bool((lease.pivots() > 0.0).all()) == positive
    q, G, h = np.ones(size), sparse.identity(size, format="csc"), np.full(size, 9.0)
    analyses.clear()
    for first in (2.1, 3.0, -3.0, 2.5):
        P[0, 0] = first
        if first > 0.0:
            x = ffoadapt.qp(P, q, G, h, solver="piqp").x
            assert np.allclose(P @ x, -q, rtol=0.0, atol=1e-8)
        else:
            with pytest.raises(ffoadapt.ProblemError, match="not positive semidefinite"):
                ffoadapt.qp(P, q, G, h, solver="piqp")
    assert analyses == [size]


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_rows_of_a_box(form: str) -> None:
    rng = np.random.default_rng(4)
    A = sparse.random(12, 7, 0.3, random_state=rng, format="csc")
    wrap = sparse.csc_matrix.toarray if form == "dense" else sparse.csc_matrix
    box = ffoadapt.BoxForm(None, np.zeros(7), wrap(A), np.zeros(12), np.zeros(12))
    for on in (rng.random(12) < 0.5, np.zeros(12, bool), np.ones(12, bool)):
        found, expected = box.A_rows(on), wrap(A)[on]
        assert type(found) is type(expected) and found.shape == expected.shape
        assert abs(found - expected).sum() == 0.0


def test_rows_of_a_box_are_found_once_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    pattern, values = Pattern.of(sparse.random(12, 7, 0.4, random_state=rng, format="csc"))
    choices = [rng.random(12) < 0.5 for _ in range(6)]
    session = ffoadapt.Session()
    found_anew: list[int] = []
    flatnonzero = np.flatnonzero
    monkeypatch.setattr(np, "flatnonzero", lambda v: (found_anew.append(1), flatnonzero(v))[1])
    for k in (0, 1, 0, 1, 2, 3, 4, 5, 5):
        values = rng.standard_normal(values.size)
        before = values.copy()
        box = ffoadapt.BoxForm(
            None, np.zeros(7), pattern.matrix(values), np.zeros(12), np.zeros(12)
        )
        found = box.A_rows(choices[k], session)
        assert abs(found - pattern.matrix(values)[choices[k]]).sum() == 0.0
        found.data[:] = 0.0  # a copy
        assert np.array_equal(values, before)
    assert len(found_anew) == 6
    assert len(session["A_rows"]) <= 4


compiled = pytest.mark.skipif(_kernel.compiled is None, reason="built without a compiler")


@compiled
@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["P", "A"])
def test_gradients_on_a_pattern(
    name: str, shared: bool, lead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code gives the bits of NumPy."""
    rng, n, m, size = np.random.default_rng(6), 9, 5, 4
    P = sparse.random(n, n, 0.4, random_state=rng) + sparse.identity(n)
    P, A = (Pattern.of(v)[0] for v in (P + P.T, sparse.random(m, n, 0.5, random_state=rng)))
    structure = Structure(n, m, (ffoadapt.NonnegativeCone(m),), P, A)
    of = 1 if shared else size
    data = [rng.standard_normal((of, k)) for k in (P.nnz, n, A.nnz, m)]
    batch = ffoadapt.ProgramBatch(structure, size, *data)
    x, s, z = (rng.standard_normal((size, k)) for k in (n, m, m))
    points = ffoadapt.Points(x, s, z, [ffoadapt.Status.OPTIMAL] * size, [{}] * size)
    w, zeta = (rng.standard_normal((*lead, size, k)) for k in (n, m))
    found = Adjoint(batch, points, w, zeta)[name]
    assert found.shape == (*lead, of, (P if name == "P" else A).nnz)
    monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    assert np.array_equal(found, Adjoint(batch, points, w, zeta)[name])


@compiled
def test_equilibration_is_that_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n, m = np.random.default_rng(7), 12, 6
    P = sparse.csc_matrix(sparse.random(n, n, 0.2, random_state=rng) * 1e3)
    P = sparse.csc_matrix(P + P.T + sparse.identity(n))
    A = sparse.csc_matrix(sparse.diags(10.0 ** rng.uniform(-3, 3, m)) @ sparse.eye(m, n))
    (P_pattern, P_values), (A_pattern, A_values) = map(Pattern.of, (P, A))
    space = Workspace.of(None, P_pattern, *A_pattern.by_rows()[:2])
    data = space.filled(P_values, A_values)
    diagonal = np.concatenate((P.diagonal(), -np.ones(m)))
    scale = _equilibrate(space, data, diagonal, (1.0, 1.0))
    assert np.ptp(np.log2(scale)) > 2
    monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    assert np.array_equal(scale, _equilibrate(space, data, diagonal, (1.0, 1.0)))


@pytest.mark.parametrize("kernel", [pytest.param("compiled", marks=compiled), "numpy"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
@pytest.mark.parametrize("ordered", [False, True])
def test_known_entries(
    kernel: str, dtype: Any, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "numpy":
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    rng = np.random.default_rng(9)
    coo = sparse.random(7, 5, 0.5, random_state=rng, format="csc").tocoo()
    mixed = np.arange(coo.nnz) if ordered else rng.permutation(coo.nnz)
    rows, columns = (v[mixed].astype(dtype) for v in (coo.row, coo.col))
    pattern, order = functional._ordered(rows, columns, coo.shape)
    assert (order is None) == ordered
    assert functional._same(pattern, order, rows, columns, coo.shape)
    assert not functional._same(pattern, order, rows, columns, (8, 5))
    assert not functional._same(pattern, order, rows[:-1], columns[:-1], coo.shape)
    for k in (0, coo.nnz // 2, coo.nnz - 1):
        for entries in (rows, columns):
            entries[k] += 1
            assert not functional._same(pattern, order, rows, columns, coo.shape)
            entries[k] -= 1
    assert functional._same(pattern, order, rows, columns, coo.shape)


@compiled
def test_compiled_code_refuses_patterns_that_do_not_fit() -> None:
    indptr, indices = np.array([0, 1, 2], np.int32), np.array([0, 5], np.int32)
    ones = [np.ones(k) for k in (3, 3, 2, 2, 2)]
    with pytest.raises(ValueError, match="sizes that fit"):
        _kernel.kernel.products_on_pattern(3, 2, 1, 1.0, indptr, indices, *ones)
    with pytest.raises(ValueError, match="sizes that fit"):
        _kernel.kernel.equilibrate(3, 2.0, indptr, indices, np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="sizes that fit"):
        _kernel.kernel.equilibrate(3, 2.0, indptr, indices[:1], np.ones(1), np.ones(2))


def test_a_box_program_finds_its_structure_again() -> None:
    """The same while the same sides are bounded, another where one is not."""
    rng, size = np.random.default_rng(8), N + 1
    P = sparse.csc_matrix(sparse.diags(rng.uniform(1.0, 2.0, size)))
    A = sparse.csc_matrix(sparse.identity(size) + 0.1 * sparse.eye(size, k=1))
    q, lower, upper = 3.0 * rng.standard_normal(size), np.full(size, -1.0), np.full(size, 1.0)
    A.sort_indices()
    v, move = rng.standard_normal(size), sparse.csc_matrix(A.multiply(rng.random(A.shape)))
    patterns = {"P": Pattern.of(P)[0], "A": Pattern.of(A)[0]}
    model, structures = BoxModel(size, patterns, size), []
    for sides in ("same", "same", "open", "equal", "same"):
        u = upper.copy()
        if sides == "open":
            u[np.argmin(q)] = np.inf
        elif sides == "equal":
            u[:3] = lower[:3]
        data = [P.data[None], q[None], A.data[None], lower[None], u[None]]
        batch = model.program(data, 1)
        structures.append(batch.structure)
        box = batch.structure.box
        stacked = sparse.vstack([A[box.equal], A[box.upper], -A[box.lower]])
        assert abs(batch.matrix("A", 0) - stacked).sum() == 0.0
        result = ffoadapt.solve(ConeProgram.from_box(P, q, A, lower, u), "piqp")
        assert np.allclose(P @ result.x + q + A.T @ result.y, 0.0, rtol=0.0, atol=1e-8)
        slope, moved = result.vjp(x=v).A, result.jvp(A=move)
        assert np.isclose(slope.multiply(move).sum(), v @ moved.x, rtol=1e-9, atol=1e-9)
    one, two, *others = structures
    assert one is two and len({id(found) for found in (one, *others)}) == 4
