"""The batch axes of arguments, and the compiled factorizations of batches."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import _kernel
from ffoadapt._layers.axes import Axes
from ffoadapt._layers.function import SolveFunction
from ffoadapt._models.split import SplitModel
from ffoadapt._oracle import active_set, batched, certificate
from ffoadapt._oracle import residuals as report
from ffoadapt._oracle.active_set import GhostBatch
from ffoadapt._oracle.batched import BatchedFactor, covers, definite, products
from ffoadapt._oracle.dense import DenseFactor
from ffoadapt._oracle.gradient import Oracle
from ffoadapt._oracle.measures import Measures
from ffoadapt._oracle.rows import ElementRows
from ffoadapt._program.batch import ProgramBatch
from ffoadapt._program.pattern import Pattern
from ffoadapt._program.points import Points, Status
from ffoadapt._program.structure import Structure, polyhedral_cones
from ffoadapt._runtime import threads as _threads
from ffoadapt._solve.settings import Settings

COMPILED = _kernel.compiled is not None

compiled = pytest.mark.skipif(
    _kernel.compiled is None, reason="the package was built without a compiler"
)

NAMES, CORES = ["A", "b"], [(2, 3), (2,)]


def axes(*shapes: tuple[int, ...]) -> Axes:
    return Axes.of(NAMES, CORES, shapes)


def test_axes_of_shapes() -> None:
    assert axes((2, 3), (2,)).single
    found = axes((4, 1, 2, 3), (5, 2))
    assert (found.leads, found.batch, found.size) == ([(4, 1), (5,)], (4, 5), 20)


@pytest.mark.parametrize("shapes", [((3, 2), (2,)), ((2, 3), ()), ((4, 2, 3), (5, 2))])
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ffoadapt.ShapeError):
        axes(*shapes)


@pytest.mark.parametrize("shapes", [((4, 1, 2, 3), (5, 2)), ((2, 3), (5, 2)), ((1, 2, 3), (2,))])
def test_unflatten_is_the_transpose_of_flatten(shapes: tuple[tuple[int, ...], ...]) -> None:
    found, rng = axes(*shapes), np.random.default_rng(0)
    values = [rng.standard_normal(shape) for shape in shapes]
    flat = found.flatten(values)
    assert all(v.shape[0] in (1, found.size) for v in flat)
    wholes = [np.broadcast_to(v, (found.size, *c)) for v, c in zip(flat, CORES, strict=True)]
    cotangents = [rng.standard_normal((7, *whole.shape)) for whole in wholes]
    gradients = found.unflatten(cotangents, extra=1)
    for value, whole, cotangent, grads in zip(values, wholes, cotangents, gradients, strict=True):
        assert grads.shape == (7, *value.shape)
        for bar, grad in zip(cotangent, grads, strict=True):
            np.testing.assert_allclose(np.vdot(bar, whole), np.vdot(grad, value), rtol=1e-12)


@pytest.fixture(params=[1, 0], ids=["one thread", "threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(batched, "WORTH_THREADS", 0)


def systems(size: int, n: int, m: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P, A and the active rows of programs with P of this rank."""
    rng = np.random.default_rng(n + m)
    half = rng.standard_normal((size, n, rank))
    active = np.zeros((size, m), dtype=bool)
    for row in active:
        row[rng.permutation(m)[: rng.integers(n - rank, min(n, m) + 1)]] = True
    P = half @ half.swapaxes(-1, -2) + (np.eye(n) if rank == n else 0.0)
    return P, rng.standard_normal((size, m, n)), active


def unit(active: np.ndarray) -> GhostBatch:
    """The ghost rows of polyhedral programs."""
    return GhostBatch(active, np.zeros((len(active), 0)), (), np.ones(len(active)))


def expected(P: np.ndarray, A: np.ndarray, active: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n + m, K): the solution with the whole KKT matrix, which has mu_i = v_i elsewhere."""
    n, C = len(P), A * active[:, None]
    K = np.block([[P, C.T], [C, np.diag(~active).astype(float)]])
    return np.linalg.solve(K, np.concatenate((v[:n], v[n:] * active[:, None])))


@compiled
@pytest.mark.parametrize(
    ("n", "m", "rank"), [(1, 1, 1), (5, 0, 5), (5, 6, 5), (8, 10, 5), (6, 9, 0), (70, 90, 70)]
)
@pytest.mark.parametrize("count", [1, 3])
def test_systems_are_solved(threads: None, n: int, m: int, rank: int, count: int) -> None:
    """Whatever the curvature, from all (rank n) over some, as in sums of squares, to none."""
    P, A, active = systems(7, n, m, rank)
    rng = np.random.default_rng(1)
    v_x, v_z = rng.standard_normal((count, 7, n)), rng.standard_normal((count, 7, m))
    factor = BatchedFactor(P, A, unit(active))
    assert factor.fine.all()
    w, zeta, residual = factor.solve(v_x, v_z)
    assert residual.max() < 1e-13
    for i in range(7):
        v = np.concatenate((v_x[:, i], v_z[:, i]), axis=-1).T
        found = np.concatenate((w[:, i], zeta[:, i]), axis=-1).T
        np.testing.assert_allclose(found, expected(P[i], A[i], active[i], v), rtol=1e-7, atol=1e-8)
    # An element is solved the same whichever neighbours it has, to the last bit.
    for part in (slice(2, 3), slice(3, 7)):
        alone = BatchedFactor(P[part], A[part], unit(active[part])).solve(
            v_x[:, part], v_z[:, part]
        )
        for one, other in zip(alone, (w[:, part], zeta[:, part], residual[part]), strict=True):
            assert (one == other).all()


@compiled
@pytest.mark.parametrize("rank", [5, 8])
def test_a_shared_matrix_is_as_good_as_copies(threads: None, rank: int) -> None:
    P, A, _ = systems(1, 8, 6, rank)
    active = np.random.default_rng(0).random((4, 6)) < 0.9
    v = np.random.default_rng(4).standard_normal((1, 4, 14))
    shared = BatchedFactor(P, A, unit(active))
    copies = BatchedFactor(np.repeat(P, 4, axis=0), np.repeat(A, 4, axis=0), unit(active))
    assert (shared.fine == copies.fine).all()
    found = shared.solve(v[..., :8], v[..., 8:]), copies.solve(v[..., :8], v[..., 8:])
    for one, other in zip(*found, strict=True):
        assert (one == other).all()


@compiled
def test_lost_ranks_are_left_to_others() -> None:
    """A free direction, nearly dependent rows and an indefinite P are marked, no neighbours."""
    P, A, active = systems(5, 6, 4, 6)
    active[:] = True
    P[1], A[2, 3], P[3] = np.diag([1.0, 0, 0, 0, 0, 0]), A[2, 0] + A[2, 1], -P[3]
    A[2, 3, 0] += 1e-6
    active[1] = False
    factor = BatchedFactor(P, A, unit(active))
    assert factor.fine.tolist() == [True, False, False, False, True]
    w, zeta, _ = factor.solve(np.ones((1, 5, 6)), np.ones((1, 5, 4)))
    assert not w[:, 1:4].any() and not zeta[:, 1:4].any() and w[0, 4].all()


@compiled
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounding_is_refined_away(scale: float) -> None:
    """Nearly dependent rows, as `DenseFactor` solves them: the answers of both agree."""
    rng = np.random.default_rng(3)
    P, A, active = systems(1, 12, 6, 12)
    active[:] = True
    A[0, 5] = scale * (A[0, 0] + 0.01 * rng.standard_normal(12))
    v_x, v_z = rng.standard_normal((2, 1, 12)), rng.standard_normal((2, 1, 6))
    factor = BatchedFactor(P, A, unit(active))
    w, zeta, residual = factor.solve(v_x, v_z)
    assert factor.fine.all() and residual.max() < 1e-13
    other = DenseFactor(P[0], A[0], ElementRows(unit(active), 0)).solve(v_x[:, 0].T, v_z[:, 0].T)
    np.testing.assert_allclose(w[:, 0], other[0].T, rtol=1e-9)
    np.testing.assert_allclose(zeta[:, 0], other[1].T, rtol=1e-9)
    plain = factor.solve(v_x, v_z, refine=False)
    assert not plain[2].any()
    np.testing.assert_allclose(plain[0], w, rtol=1e-6)


def curved(size: int, rank: int) -> tuple[ProgramBatch, Points]:
    """Programs with all kinds of cones, P of this rank, and points on faces of many kinds."""
    cones = (
        ffoadapt.ZeroCone(2),
        ffoadapt.SecondOrderCone(4),
        ffoadapt.SecondOrderCone(4),
        ffoadapt.NonnegativeCone(3),
        ffoadapt.PSDCone(3),
        ffoadapt.ExponentialCone(),
    )
    n, m = 16, sum(cone.dim for cone in cones)
    rng = np.random.default_rng(rank)
    half, A = rng.standard_normal((size, n, rank)), rng.standard_normal((size, m, n))
    P, structure = half @ half.swapaxes(-1, -2), Structure(n, m, cones)
    q, b, p = (rng.standard_normal((size, k)) for k in (n, m, m))
    s = np.empty_like(p)
    for cone, start, count in structure.groups:
        rows = slice(start, start + count * cone.dim)
        s[:, rows] = cone.project(p[:, rows].reshape(-1, cone.dim)).reshape(size, -1)
    x, z = rng.standard_normal((size, n)), s - p
    at = Points(x, s, z, [Status.OPTIMAL] * size, [{}] * size, paired=True)
    return ProgramBatch(structure, size, P, q, A, b), at


@compiled
@pytest.mark.parametrize("rank", [16, 6, 0])
@pytest.mark.parametrize("count", [1, 3])
def test_systems_with_curvature_are_solved(threads: None, rank: int, count: int) -> None:
    """As `DenseFactor` solves them; an element as it is alone, whichever faces others are on."""
    size = 40
    batch, at = curved(size, rank)
    ghost = active_set.linearize(batch, at.s, at.z, active_set.scales(batch, at.x, at.z))
    kinds = {tuple(int(np.count_nonzero(b.has[i])) for b in ghost.blocks) for i in range(size)}
    assert len(kinds) > 5
    factor, rng = BatchedFactor(batch.P, batch.A, ghost), np.random.default_rng(1)
    v_x, v_z = rng.standard_normal((count, size, 16)), rng.standard_normal((count, size, 22))
    w, zeta, residual = factor.solve(v_x, v_z)
    assert np.count_nonzero(factor.fine) > (10 if rank else 1) and residual.max() < 1e-12
    plain = factor.solve(v_x, v_z, refine=False)
    for i in np.flatnonzero(factor.fine).tolist():
        other = DenseFactor(batch.P[i], batch.A[i], ElementRows(ghost, i))
        assert (factor.active[i], other.dependent, other.free) == (other.active, 0, 0)
        found = other.solve(v_x[:, i].T, v_z[:, i].T)
        for one, expected in zip((w[:, i], zeta[:, i]), found, strict=False):
            error = np.abs(one - expected.T).max() / max(1.0, np.abs(expected).max())
            assert error < 1e-8
        np.testing.assert_allclose(plain[0][:, i], w[:, i], rtol=1e-4, atol=1e-6)
    for part in (slice(7, 8), slice(11, 30)):
        some, v = batch.take(part), at
        points = Points(v.x[part], v.s[part], v.z[part], v.status[part], v.info[part], paired=True)
        scale = active_set.scales(some, points.x, points.z)
        alone = BatchedFactor(
            some.P, some.A, active_set.linearize(some, points.s, points.z, scale)
        ).solve(v_x[:, part], v_z[:, part])
        for one, other in zip(alone, (w[:, part], zeta[:, part], residual[part]), strict=True):
            assert (one == other).all()


@compiled
@pytest.mark.parametrize("distance", [1e-9, 1e-3, 1.0])
def test_factors_of_a_nearby_system_serve_or_there_are_others(
    threads: None, distance: float
) -> None:
    """The answers are those of a factorization of its own, for each element as it is alone."""
    size = 12
    batch, at = curved(size, 16)
    scale = active_set.scales(batch, at.x, at.z)
    first = active_set.linearize(batch, at.s, at.z, scale)
    rng = np.random.default_rng(2)
    moved = active_set.complementary(
        batch, *(v + distance * rng.standard_normal(v.shape) for v in (at.s, at.z)), scale
    )
    ghost = active_set.linearize(batch, *moved, scale)
    lender, own = (BatchedFactor(batch.P, batch.A, g) for g in (first, ghost))
    v_x, v_z = rng.standard_normal((2, size, 16)), rng.standard_normal((2, size, 22))
    near = [(lender, i) if i % 3 and lender.fine[i] else None for i in range(size)]
    factor = BatchedFactor(batch.P, batch.A, ghost, near=near)
    lent = factor._state[1].copy()
    assert lent[2] and not lent[0] and lent[lender.fine].any()
    w, zeta, residual = factor.solve(v_x, v_z)
    same = own.solve(v_x, v_z)
    assert (factor.fine == own.fine).all() and residual.max() < 1e-12
    for one, other in zip((w, zeta), same, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    kept = factor._state[1]
    if distance != 1e-3:
        assert kept[lent].all() == (distance < 1.0)
    for one, other in zip((w, zeta), same, strict=False):  # who has a factor of its own
        assert (one[:, ~kept] == other[:, ~kept]).all()
    for i in range(size):
        part = slice(i, i + 1)
        some = active_set.GhostBatch(
            ghost.active[part],
            ghost.weight[part],
            tuple(
                replace(b, G=b.G[part], has=b.has[part], R=b.R[part], sigma=b.sigma[part])
                for b in ghost.blocks
            ),
            ghost.margin[part],
        )
        alone = BatchedFactor(batch.P[part], batch.A[part], some, near=near[part])
        found = alone.solve(v_x[:, part], v_z[:, part])
        for one, other in zip(found, (w[:, part], zeta[:, part], residual[part]), strict=True):
            assert (one == other).all()


@compiled
def test_factors_of_definite_matrices() -> None:
    P = systems(3, 20, 0, 20)[0]
    U = definite(P, asymmetry=1e-12)
    assert U is not None
    np.testing.assert_allclose(np.triu(U).swapaxes(-1, -2) @ np.triu(U), P, rtol=1e-12, atol=1e-12)
    skew = P.copy()
    skew[1, 18, 2] += 1e-3
    assert definite(skew, asymmetry=1e-5) is None
    assert definite(np.stack([P[0], -P[1]])) is None
    assert definite(np.stack([P[0], np.full((20, 20), np.nan)])) is None
    assert definite(np.ones((1, 20, 20))) is None
    assert definite(np.asfortranarray(P)[:, ::-1, ::-1]) is not None


@compiled
def test_sizes_are_checked() -> None:
    """Where they do not fit nothing is read or written beyond an array."""
    from ffoadapt._kernel import _compiled

    P, A, active = systems(2, 3, 2, 3)
    with pytest.raises(ValueError, match="sizes of the batch"):
        BatchedFactor(P[:, :2], A, unit(active))
    with pytest.raises(ValueError, match="sizes of the batch"):
        BatchedFactor(P, A[:, :, :2], unit(active))
    factor = BatchedFactor(P, A, unit(active))
    with pytest.raises(ValueError, match="sizes of the batch"):
        factor.solve(np.ones((1, 2, 3)), np.ones((2, 2, 2)))
    with pytest.raises(IndexError):
        _compiled.factorize(factor._state[0], 1, 3, 0.0, factor.fine, factor.lost)
    with pytest.raises(ValueError, match="sizes that fit"):
        _compiled.row_squares(2, 3, A[:1], np.ones((2, 2)))
    ones = np.ones((2, 3))
    for given in ((ones, ones, ones, ones[:, :2]), (ones[:0], ones, ones, ones)):
        with pytest.raises(ValueError, match="sizes that fit"):
            products(1.0, *given)
    batch, at = points(3, 5, 2, 6)
    with pytest.raises(ValueError, match="sizes of the batch"):
        factor.settled(Measures.of(batch, at))
    batch, at = curved(2, 16)
    ghost = active_set.linearize(batch, at.s, at.z, active_set.scales(batch, at.x, at.z))
    block = ghost.blocks[0]
    for name in ("G", "has", "R", "sigma"):
        few = replace(block, **{name: getattr(block, name)[..., :-1]})
        with pytest.raises(ValueError, match="sizes of the batch"):
            BatchedFactor(batch.P, batch.A, replace(ghost, blocks=(few,)))
    for start, weight in ((20, ghost.weight), (block.start, ghost.weight[:, 1:])):
        moved = replace(ghost, blocks=(replace(block, start=start),), weight=weight)
        with pytest.raises(ValueError, match="sizes of the batch"):
            BatchedFactor(batch.P, batch.A, moved)
    one = BatchedFactor(batch.P, batch.A, ghost)
    for near in ([(one, 0)], [(one, 0), (one, 2)], [(one, 0), (one, -1)]):
        with pytest.raises(ValueError, match="sizes of the batch"):
            BatchedFactor(batch.P, batch.A, ghost, near=near)
    few = BatchedFactor(batch.P, batch.A, replace(ghost, margin=ghost.margin[:1]))
    with pytest.raises(ValueError, match="sizes of the batch"):
        few.settled(Measures.of(batch, at))
    batch, at = points(3, 5, 2, 6)
    at.z = at.z[:2]
    with pytest.raises(ValueError, match="sizes of the batch"):
        Measures.of(batch, at)


def points(size: int, n: int, p: int, k: int) -> tuple[ProgramBatch, Points]:
    """Programs with p equalities and k inequalities, some unbounded or empty, and any points."""
    rng = np.random.default_rng(n + k)
    P, A = systems(size, n, p + k, n)[:2]
    q, b = rng.standard_normal((1, n)), rng.standard_normal((size, p + k))
    s, z = rng.standard_normal((2, size, p + k))
    x = rng.standard_normal((size, n))
    if k > 2:
        b[0, p], s[0, p], z[0, p], A[1, p + 1] = np.inf, np.inf, 0.0, 0.0
    structure = Structure(n, p + k, polyhedral_cones(p, k))
    batch = ProgramBatch(structure, size, P, q, A, b)
    return batch, Points(x, s, z, [Status.OPTIMAL] * size, [{}] * size)


def no_length(batch: ProgramBatch, points: Points) -> None:
    batch.b = np.zeros_like(batch.b)


def no_gradient(batch: ProgramBatch, points: Points) -> None:
    batch.q = np.zeros_like(batch.q)


def no_curvature(batch: ProgramBatch, points: Points) -> None:
    batch.P = np.zeros_like(batch.P)


def nothing(batch: ProgramBatch, points: Points) -> None:
    no_length(batch, points)
    no_gradient(batch, points)
    points.x[:] = points.z[:] = 0.0


def no_number(batch: ProgramBatch, points: Points) -> None:
    points.x[-1, 0] = np.nan


@compiled
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("n", "p", "k"), [(5, 2, 6), (4, 0, 3), (3, 3, 0), (2, 0, 0), (70, 10, 50)]
)
@pytest.mark.parametrize(
    "how", [lambda *_: None, no_length, no_gradient, no_curvature, nothing, no_number]
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_points_are_measured_as_without_it(
    threads: None, n: int, p: int, k: int, how: Any, exact: bool
) -> None:
    batch, at = points(5, n, p, k)
    how(batch, at)
    if exact:
        at.s, at.exact = batch.b - batch.multiply("A", at.x), True
    found, scale = Measures.of(batch, at), active_set.scales(batch, at.x, at.z)
    for name in ("primal", "gradient", "x", "z"):
        one, other = getattr(found.scales, name), getattr(scale, name)
        np.testing.assert_allclose(one, other, rtol=1e-14)
    residuals, expected = found.residuals, report.kkt_residuals(batch, at, scale)
    np.testing.assert_allclose(residuals.kkt, expected.kkt, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(residuals.infeasibility, expected.infeasibility, atol=1e-15)
    np.testing.assert_allclose(found.margins, report.row_margins(batch, at, scale), rtol=1e-13)
    assert (found.active == active_set.linearize(batch, at.s, at.z, scale).active).all()
    for i in range(5):  # an element is measured the same whichever neighbours it has
        alone = Measures.of(
            batch.take(slice(i, i + 1)),
            Points(*(v[i : i + 1] for v in (at.x, at.s, at.z)), [Status.OPTIMAL], [{}], exact),
        )
        np.testing.assert_array_equal(alone.figures[0], found.figures[i])
        assert (alone.active[0] == found.active[i]).all()


@compiled
@pytest.mark.parametrize("paired", [True, False])
def test_points_of_curved_cones_are_measured_as_without_it(threads: None, paired: bool) -> None:
    batch, at = curved(20, 16)
    if not paired:
        rng, at.paired = np.random.default_rng(0), False
        at.s, at.z = (v + 1e-3 * rng.standard_normal(v.shape) for v in (at.s, at.z))
    found, scale = Measures.of(batch, at), active_set.scales(batch, at.x, at.z)
    residuals, expected = found.residuals, report.kkt_residuals(batch, at, scale)
    np.testing.assert_allclose(residuals.kkt, expected.kkt, rtol=1e-12)
    np.testing.assert_allclose(residuals.infeasibility, expected.infeasibility, rtol=1e-12)
    np.testing.assert_allclose(found.margins, report.row_margins(batch, at, scale), rtol=1e-13)


@compiled
def test_an_empty_row_of_a_curved_block_has_the_unit_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    structure = Structure(3, 7, (ffoadapt.SecondOrderCone(3), *polyhedral_cones(0, 4)))
    A = np.concatenate((np.diag([1e-6, 2e-6, 0.0]), np.zeros((1, 3)), np.eye(3)))[None]

    def squares() -> np.ndarray:
        data = np.eye(3)[None], np.ones((1, 3)), A, np.ones((1, 7))
        return ProgramBatch(structure, 1, *data).squares

    found = squares()
    np.testing.assert_allclose(found, [[4e-12, 4e-12, 4e-12, 1.0, 1.0, 1.0, 1.0]])
    monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    np.testing.assert_allclose(found, squares(), rtol=1e-15)


@compiled
def test_complementary_pairs_have_no_larger_defects_than_it_says() -> None:
    batch, at = points(5, 10, 4, 7)
    found = Measures.of(batch, at)
    pair = active_set.complementary(batch, at.s, at.z, found.scales)
    r_d, r_p = certificate.defects(batch, at.x, *pair)
    parts = r_d / found.scales.gradient, found.scales.slack(r_p), found.scales.dual(pair[1] - at.z)
    bound = found.residuals.kkt + found.figures[:, 7]
    for part in parts:
        assert (np.abs(part).max(axis=1) <= bound * (1 + 1e-14)).all()


@compiled
def test_rows_without_a_bound_count_with_their_multiplier() -> None:
    """A solver's multiplier of such a row is taken away, which moves the gradient."""
    A, P, z = np.array([[[1.0, 0.0], [1.0, 0.0]]]), np.eye(2)[None], np.array([[1.0, 1e-3]])
    x, b = np.ones((1, 2)), np.array([[1.0, np.inf]])
    batch = ProgramBatch(Structure(2, 2, polyhedral_cones(0, 2)), 1, P, -(x + z @ A[0]), A, b)
    at = Points(x, b - (A @ x[..., None])[..., 0], z, [Status.OPTIMAL], [{}], exact=True)
    oracle = Oracle(batch, at)
    assert oracle.factors.batched is not None and not oracle.factors.batched.settled(
        oracle._measures
    )


@compiled
def test_numbers_of_any_type_are_measured() -> None:
    batch, at = points(3, 5, 2, 6)
    batch.q = np.arange(15).reshape(3, 5)
    at.x = at.x.astype(np.float32)
    found, scale = Measures.of(batch, at), active_set.scales(batch, at.x, at.z)
    expected = report.kkt_residuals(batch, at, scale)
    np.testing.assert_allclose(found.residuals.kkt, expected.kkt, rtol=1e-6)


def regular(rng: np.random.Generator) -> tuple[ProgramBatch, Points]:
    """A program of any size and units, near one of its kinks or not, and a point near a solution or
    not."""
    n, m = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    P, A = systems(1, n, m, n)[:2]
    active = np.arange(m) < rng.integers(0, min(m, n) + 1)
    s, z = np.where(active, 0.0, rng.random(m)), np.where(active, rng.random(m), 0.0)
    near = rng.integers(m)
    s[near], z[near] = np.array([s[near], z[near]]) * 10.0 ** rng.uniform(-12, 0)
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-9, 1) + 10.0 ** rng.uniform(-6, 0)
    b, q = A[0] @ x + s, -(P[0] @ x + A[0].T @ z)
    batch = ProgramBatch(Structure(n, m, polyhedral_cones(0, m)), 1, P, q[None], A, b[None])
    error = 10.0 ** rng.uniform(-18, -6) * rng.standard_normal((3, max(n, m)))
    at = x[None] + error[0, :n], s[None] + error[1, :m], z[None] + error[2, :m]
    return batch, Points(*at, [Status.OPTIMAL], [{}])


@compiled
def test_bounds_settle_what_they_do_without_it() -> None:
    rng, seen = np.random.default_rng(8), []
    for _ in range(400):
        batch, at = regular(rng)
        oracle, n, m = Oracle(batch, at), batch.structure.n, batch.structure.m
        assert oracle._measures is not None and oracle.factors.batched is not None
        settled, scale = oracle.factors.batched.settled(oracle._measures), oracle.scales
        v_x, v_z = certificate.probe(batch.structure)
        w, zeta = oracle.solve(scale.gradient * v_x, scale.slack_unit * v_z, estimate=True)
        gain = max(np.abs(w / scale.primal).max(), np.abs(scale.dual(zeta)).max())
        bounds = certificate._Bounds(n + m, gain, 0.0, gain)
        defects = oracle.measured.kkt[0] + oracle._measures.figures[0, 7]
        size = min(scale.x.item(), max(scale.z.item(), certificate.SMALL))
        expected = bounds.settle(defects, oracle._margins[0], np.inf, size)
        assert settled == (expected and scale.x.item() >= certificate.SMALL)
        if not oracle.factors.batched.fine.all():
            assert not settled
        seen.append(settled)
    assert 80 < sum(seen) < 320


@compiled
def test_bounds_settle_curved_programs_as_they_do_without_it() -> None:
    """Near kinks of curved cones or not, with points near a solution or not."""
    batch, at = curved(200, 16)
    rng, seen = np.random.default_rng(8), []
    for i in range(batch.size):
        part = slice(i, i + 1)
        one = batch.take(part)
        x, s, z = at.x[part], at.s[part], at.z[part]
        near = 10.0 ** rng.uniform(-3, 0)
        for start, to in ((5, s), (8, z)):  # the second block of the one, the first of the other
            to[:, start : start + 4] *= near
        one.b = one.multiply("A", x) + s + 10.0 ** rng.uniform(-18, -8) * rng.standard_normal(22)
        one.q = -one.multiply("P", x) - one.multiply("A", z, transpose=True)
        oracle = Oracle(one, Points(x, s, z, [Status.OPTIMAL], [{}], paired=True))
        found, scale = oracle.factors.batched, oracle.scales
        assert found is not None and oracle._measures is not None
        v_x, v_z = oracle._probe
        w, zeta = oracle.solve(v_x, v_z, estimate=True)
        moves = np.abs(scale.slack(one.multiply("A", w) - v_z)).max()
        gain = max(np.abs(w / scale.primal).max(), np.abs(scale.dual(zeta)).max())
        margin = oracle.ghost.margin.item()
        bounds = certificate._Bounds(16 + 22, gain, moves, max(gain, 1.0 / margin))
        size = min(scale.x.item(), max(scale.z.item(), certificate.SMALL))
        defects = oracle.measured.kkt[0] + oracle._measures.figures[0, 7]
        expected = bounds.settle(defects, oracle._margins[0], margin, size)
        settled = found.settled(oracle._measures)
        assert settled == (expected and bool(found.fine[0]))
        seen.append(settled)
    assert 20 < sum(seen) < 180


@compiled
def test_one_doubtful_element_leaves_the_batch_in_doubt(threads: None) -> None:
    rng = np.random.default_rng(9)
    batch, at = regular(rng)
    while not (o := Oracle(batch, at)).factors.batched.settled(o._measures):
        batch, at = regular(rng)
    size = 9
    data = [np.repeat(v, size, axis=0) for v in (batch.P, batch.q, batch.A, batch.b)]
    many = ProgramBatch(batch.structure, size, *data)
    x, s, z = (np.repeat(v, size, axis=0) for v in (at.x, at.s, at.z))
    for i in (None, 0, 4, 8):
        moved = x.copy()
        if i is not None:
            moved[i] += 1e-3 * np.abs(x).max()
        oracle = Oracle(many, Points(moved, s, z, [Status.OPTIMAL] * size, [{}] * size))
        assert oracle.factors.batched.settled(oracle._measures) == (i is None)


@compiled
def test_sparse_programs_are_measured_where_they_are_small() -> None:
    batch, at = points(3, 5, 2, 6)
    dense, found = Measures.of(batch, at), Measures.of(batch.as_sparse(), at)
    np.testing.assert_allclose(dense.figures, found.figures, rtol=1e-14)
    assert (dense.active == found.active).all()
    cone = ffoadapt.SecondOrderCone(3)
    assert covers(batch.as_sparse().structure) and covers(Structure(3, 3, (cone,)))
    pattern = Pattern.of(sparse.eye(300, format="csc"))[0]
    assert not covers(Structure(300, 300, polyhedral_cones(0, 300), pattern, pattern))
    # A semidefinite cone fills the factors, entries by the quarter are as good as all.
    assert covers(Structure(300, 300, (ffoadapt.PSDCone(24),), pattern, pattern))
    full = Pattern.of(sparse.random(300, 300, 0.6, "csc", random_state=0))[0]
    assert covers(Structure(300, 300, polyhedral_cones(0, 300), pattern, full))
    large = Pattern.of(sparse.eye(2080, format="csc"))[0]
    assert not covers(Structure(2080, 2080, (ffoadapt.PSDCone(64),), large, large))


@compiled
@pytest.mark.parametrize("lead", [(), (3,), (2, 2)])
@pytest.mark.parametrize("size, rows, n", [(1, 3, 4), (5, 2, 3), (1, 0, 2), (4, 2, 0), (0, 2, 2)])
def test_products_are_those_of_vectors(
    threads: None, lead: tuple[int, ...], size: int, rows: int, n: int
) -> None:
    rng = np.random.default_rng(3)
    z, x = rng.standard_normal((size, rows + 1))[:, 1:], rng.standard_normal((size, n))
    zeta, w = rng.standard_normal((*lead, size, rows)), rng.standard_normal((*lead, size, n))
    found = products(-0.5, z, zeta, w, x)
    expected = -0.5 * (z[..., None] * w[..., None, :] + zeta[..., None] * x[..., None, :])
    assert found is not None and found.shape == (*lead, size, rows, n)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


@compiled
def test_the_compiled_code_is_used_where_it_is_there() -> None:
    rng = np.random.default_rng(2)
    data = np.eye(40), rng.standard_normal(40), rng.standard_normal((3, 40)), np.ones(3)
    result = ffoadapt.solve(ffoadapt.ConeProgram.from_split(*data), "daqp")
    result.vjp(x=np.ones(40))
    assert (result._state.oracle.factors.batched is not None) == COMPILED
    assert len(result._state.oracle.factors.each) == (not COMPILED)


@compiled
@pytest.mark.parametrize("batch", [1, 5])
def test_gradients_are_the_same_without_it(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n, m, p = np.random.default_rng(6), 12, 8, 2
    data = (
        systems(batch, n, 0, n)[0],
        rng.standard_normal((batch, n)),
        rng.standard_normal((batch, m, n)),
        rng.random((batch, m)),
        rng.standard_normal((batch, p, n)),
        np.zeros((batch, p)),
    )

    def gradients() -> list[np.ndarray]:
        model = SplitModel(n, {}, m, p)
        function = SolveFunction(model, Settings.of("daqp", {}))
        outputs, state = function.forward(data)
        found = function.vjp(state, [np.ones_like(v) for v in outputs], [True] * 6)
        return [*outputs, *(g for g in found if g is not None)]

    with_it = gradients()
    monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    for one, other in zip(with_it, gradients(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_parts_that_wait_are_given_up_when_one_fails() -> None:
    started: list[slice] = []
    busy, done = threading.Barrier(5), threading.Event()

    def wait(part: slice) -> None:
        busy.wait(10.0)
        done.wait(10.0)

    def fail(part: slice) -> None:
        if part.start == 0:
            raise ValueError("the first")
        started.append(part)

    other = threading.Thread(target=_threads.run, args=(wait, 4, 4))
    other.start()
    busy.wait(10.0)  # the pool has no thread to spare
    with pytest.raises(ValueError, match="the first"):
        _threads.run(fail, 4, 4)
    done.set()
    other.join()
    assert _threads.run(lambda part: part.start, 4, 4) == [0, 1, 2, 3]
    assert not started
