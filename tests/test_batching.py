"""The batch axes of arguments, and the stacks of small matrices that batches become."""

from __future__ import annotations

import numpy as np
import pytest

import ffoadapt
from ffoadapt._batching import Axes
from ffoadapt._oracle import batched, stacked
from ffoadapt._oracle.batched import BatchedFactor
from ffoadapt._oracle.dense import DenseFactor

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


def stack(size: int, n: int) -> np.ndarray:
    half = np.random.default_rng(n).standard_normal((size, n, n))
    return half @ half.swapaxes(-1, -2) + np.eye(n)


@pytest.mark.parametrize("function", [stacked._cholesky, stacked._one_by_one])
def test_factors_where_there_are_any(function: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_cholesky", function)
    matrices = stack(5, 4)
    matrices[3] = -np.eye(4)
    L = stacked.cholesky(matrices)
    assert np.isnan(L[3].diagonal()).any()
    good = [0, 1, 2, 4]
    np.testing.assert_allclose((L @ L.swapaxes(-1, -2))[good], matrices[good], rtol=1e-12)
    inverses = stacked.invert_factors(L[good].copy())
    np.testing.assert_allclose(
        inverses @ L[good], np.broadcast_to(np.eye(4), (4, 4, 4)), atol=1e-12
    )


@pytest.mark.parametrize("layout", ["transposed", "repeated"])
def test_inverses_of_any_layout(layout: str) -> None:
    L = np.linalg.cholesky(stack(3, 4))
    if layout == "transposed":
        L = np.asfortranarray(L)
    else:
        L = np.array(np.broadcast_to(L[:1], (3, 4, 4)))  # keeps strides that repeat the first
    np.testing.assert_allclose(
        stacked.invert_factors(L.copy(order="K")) @ L,
        np.broadcast_to(np.eye(4), L.shape),
        atol=1e-12,
    )


def test_chunks_cover_everything() -> None:
    for count, entries in ((0, 10), (1, 10), (1000, 100), (3, 10**9), (5, 0)):
        covered = [i for part in stacked.chunks(count, entries) for i in range(count)[part]]
        assert covered == list(range(count))


def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An element is solved the same whichever neighbours it has, also by its own factorization."""
    rng = np.random.default_rng(1)
    P, A = stack(9, 5), rng.standard_normal((9, 6, 5))
    active = rng.random((9, 6)) < 0.5
    v_x, v_z = rng.standard_normal((9, 5, 1)), rng.standard_normal((9, 6, 1))
    whole = BatchedFactor(P, A, active).solve(v_x, v_z)
    monkeypatch.setattr(stacked, "CHUNK", 2 * 36)
    parts = BatchedFactor(P, A, active)
    assert len(parts._parts) == 5
    for one, other in zip(whole, parts.solve(v_x, v_z), strict=True):
        assert (one == other).all()
    for i in range(9):
        K = np.block(
            [[P[i], A[i][active[i]].T], [A[i][active[i]], np.zeros((active[i].sum(),) * 2)]]
        )
        v = np.concatenate((v_x[i], v_z[i][active[i]]))
        np.testing.assert_allclose(whole[0][i], np.linalg.solve(K, v)[:5], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rank", [3, 8])
def test_a_shared_matrix_is_as_good_as_copies(rank: int) -> None:
    rng, n, m = np.random.default_rng(4), 8, 6
    half = rng.standard_normal((1, n, rank))
    P, A = half @ half.swapaxes(-1, -2), rng.standard_normal((1, m, n))
    active = np.ones((4, m), dtype=bool)
    v_x, v_z = rng.standard_normal((4, n, 1)), rng.standard_normal((4, m, 1))
    shared = BatchedFactor(P, A, active)
    assert shared.fine.all()
    copies = BatchedFactor(np.repeat(P, 4, axis=0), np.repeat(A, 4, axis=0), active)
    for one, other in zip(shared.solve(v_x, v_z), copies.solve(v_x, v_z), strict=True):
        assert (one == other).all()
    assert shared.solve(v_x, v_z)[2].max() < 1e-13


def test_large_ones_go_one_by_one() -> None:
    assert batched.suits(batched.LARGEST, batched.LARGEST)
    assert not batched.suits(batched.LARGEST + 1, 1)
    n = batched.LARGEST + 1
    rng = np.random.default_rng(2)
    data = stack(1, n)[0], rng.standard_normal(n), rng.standard_normal((3, n)), np.ones(3)
    result = ffoadapt.solve(ffoadapt.ConeProgram.from_split(*data), "daqp")
    assert isinstance(result._state.oracle._factor(0), DenseFactor)


def test_singular_hessians_are_stacked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cvxpy's sums of squares are: any curvature from all of it to none, in one stack."""
    rng, n, m = np.random.default_rng(3), 8, 10
    halves = [rng.standard_normal((n, rank)) for rank in (8, 5, 0, 3, 8)]
    P = np.stack([half @ half.T for half in halves])
    A, active = rng.standard_normal((5, m, n)), np.zeros((5, m), dtype=bool)
    for i, count in enumerate((6, 4, 8, 4, 0)):  # the fourth leaves a direction free
        active[i, rng.permutation(m)[:count]] = True
    v_x, v_z = rng.standard_normal((5, n, 2)), rng.standard_normal((5, m, 2))
    factor = BatchedFactor(P, A, active)
    assert factor.fine.tolist() == [True, True, True, False, True]
    w, zeta, residual = factor.solve(v_x, v_z)
    assert residual[factor.fine].max() < 1e-13
    for i in np.flatnonzero(factor.fine):
        C = A[i][active[i]]
        K = np.block([[P[i], C.T], [C, np.zeros((len(C), len(C)))]])
        expected = np.linalg.solve(K, np.concatenate((v_x[i], v_z[i][active[i]])))
        np.testing.assert_allclose(w[i], expected[:n], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(zeta[i][active[i]], expected[n:], rtol=1e-8, atol=1e-9)
        assert not zeta[i][~active[i]].any()
    monkeypatch.setattr(stacked, "CHUNK", m * m)
    for one, other in zip(
        (w, zeta, residual), BatchedFactor(P, A, active).solve(v_x, v_z), strict=True
    ):
        assert (one[factor.fine] == other[factor.fine]).all()
