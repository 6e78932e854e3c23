"""Semidefinite matrices of variables: the ghost solve in their eigenbasis is that of the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import ConeProgram, PSDCone, SecondOrderCone, Status, ZeroCone
from ffoadapt._cones import smat, svec
from ffoadapt._oracle.active_set import GhostBatch
from ffoadapt._oracle.dense import DenseFactor
from ffoadapt._oracle.eigenbasis import EigenbasisFactor
from ffoadapt._oracle.factors import Factors
from ffoadapt._oracle.gradient import Oracle
from ffoadapt._oracle.rows import ElementRows
from ffoadapt._program.batch import ProgramBatch
from ffoadapt._program.points import Points


@pytest.fixture(autouse=True)
def _small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffoadapt._program.structure.EIGENBASIS_ORDER", 2)


def pair(r: np.random.Generator, order: int, rank: int) -> tuple[Any, Any]:
    """Complementary S of this rank and Z, as vectors."""
    V = np.linalg.qr(r.normal(size=(order, order)))[0]
    values = r.uniform(0.5, 2.0, order) * np.where(np.arange(order) < rank, 1.0, -1.0)
    S, Z = (V * np.maximum(sign * values, 0.0) @ V.T for sign in (1.0, -1.0))
    return svec(S), svec(Z)


def problem(kind: str, seed: int) -> tuple[ProgramBatch, Points]:
    """A program with a known solution: matrices X_j, where S_j is X_j with rows times numbers."""
    r = np.random.default_rng(seed)
    ranks = {6: 3, 5: 5, 4: 0} if kind == "three" else {12: 4}
    pairs = [pair(r, *item) for item in ranks.items()]
    s, z = (np.concatenate(v) for v in zip(*pairs, strict=True))
    dim, more = s.size, 3 if kind in ("curved", "rest") else 0
    n, rows = dim + more, 12 if kind == "linear" else 5
    a = np.concatenate([r.uniform(0.5, 2.0) * np.ones(svec(np.eye(d)).size) for d in ranks])
    if kind == "weighted":
        a *= r.choice([-1.0, 1.0], dim) * r.uniform(0.5, 2.0, dim)
    E = sparse.hstack((sparse.diags_array(-a), sparse.csr_array((dim, more))))
    C = r.normal(size=(rows, n))
    if kind == "dependent":
        C[-1] = C[0] - 2.0 * C[1]
    P = sparse.diags_array(np.concatenate((a**2, r.uniform(0.5, 1.0, more))))
    if kind in ("weighted", "three"):
        M = sparse.csr_array(r.normal(size=(n, n)) * (r.random((n, n)) < 0.05))
        P = P + sparse.diags_array(r.uniform(0.0, 3.0, n)) + M @ M.T
    if kind == "linear":
        P = sparse.csr_array((n, n))
    A, cones = [sparse.csr_array(C), E], [ZeroCone(rows), *map(PSDCone, ranks)]
    x = np.concatenate((s / a, r.normal(size=more)))
    s, z = np.concatenate((np.zeros(rows), s)), np.concatenate((r.normal(size=rows), z))
    if kind == "curved":
        A.append(sparse.csr_array(r.normal(size=(4, n))))
        cones.append(SecondOrderCone(4))
        u = r.normal(size=3)
        u /= np.linalg.norm(u)
        s, z = (
            np.append(v, [size, *(sign * size * u)])
            for v, size, sign in ((s, 2.0, 1), (z, 0.7, -1))
        )
    A = sparse.vstack(A, "csc")
    program = ConeProgram(P.tocsc(), -(P @ x + A.T @ z), A, A @ x + s, cones)
    batch = program.model.program([value[None] for value in program.values], 1)
    assert len(batch.structure.matrix_blocks) == len(ranks)
    return batch, Points(x[None], s[None], z[None], [Status.OPTIMAL], [{}])


def factors(batch: ProgramBatch, ghost: GhostBatch) -> tuple[EigenbasisFactor, DenseFactor]:
    P, A = (batch.matrix(name, 0).toarray() for name in "PA")
    return EigenbasisFactor(batch, 0, ghost), DenseFactor(P, A, ElementRows(ghost, 0))


KINDS = ["projection", "weighted", "linear", "three", "rest", "curved"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_it_solves_what_the_matrix_says(kind: str, seed: int) -> None:
    batch, points = problem(kind, seed)
    ghost, r = Oracle(batch, points).ghost, np.random.default_rng(seed + 7)
    v_x, v_z = r.normal(size=(batch.structure.n, 3)), r.normal(size=(batch.structure.m, 3))
    found, dense = factors(batch, ghost)
    w, zeta, residual = found.solve(v_x, v_z)
    others = dense.solve(v_x, v_z)
    assert residual.max() < 1e-12
    for value, other in ((w, others[0]), (zeta, others[1])):
        np.testing.assert_allclose(value, other, atol=1e-9 * np.abs(other).max())
    assert found.rank == dense.rank and found.rank.deficiency == 0
    # the matrix is symmetric
    u_x, u_z, _ = found.solve(v_x[:, ::-1].copy(), v_z[:, ::-1].copy())
    sides = [np.sum(a * v_x[:, ::-1]) + np.sum(b * v_z[:, ::-1]) for a, b in ((w, zeta),)]
    sides.append(np.sum(u_x * v_x) + np.sum(u_z * v_z))
    np.testing.assert_allclose(*sides, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_depend_on_each_other(seed: int) -> None:
    batch, points = problem("dependent", seed)
    ghost, r = Oracle(batch, points).ghost, np.random.default_rng(seed)
    n, m = batch.structure.n, batch.structure.m
    found, dense = factors(batch, ghost)
    v_x, v_z = r.normal(size=(n, 1)), batch.matrix("A", 0) @ r.normal(size=(n, 1))
    w, _, residual = found.solve(v_x, v_z)
    assert residual.max() < 1e-9 and (found.rank.dependent, found.rank.free) == (1, 0)
    np.testing.assert_allclose(w, dense.solve(v_x, v_z)[0], atol=1e-8)
    at_w, at_zeta = found.null()
    np.testing.assert_allclose(
        batch.matrix("A", 0).T @ at_zeta, 0.0, atol=1e-8 * np.abs(at_zeta).max()
    )
    assert found.proven() == (True, False) and at_w.shape == (n,) and at_zeta.shape == (m,)


def test_a_matrix_that_is_not_determined() -> None:
    batch, points = problem("linear", 0)
    free = np.zeros_like(points.z)
    free[:, :12] = points.z[:, :12]
    batch.q = -(batch.matrix("A", 0).T @ free[0])[None]
    points = Points(points.x, points.s, free, points.status, points.info)
    report = Oracle(batch, points).reports()[0]
    assert report.verdict in ("not_unique", "weakly_active") and report.rank_deficiency >= 1


def test_where_conjugate_gradients_are_slow_the_matrix_is_factorized() -> None:
    batch, points = problem("projection", 0)
    r = np.random.default_rng(1)
    batch.P = batch.P * 10.0 ** r.uniform(-7.0, 7.0, batch.P.shape)
    ghost = Oracle(batch, points).ghost
    v_x, v_z = r.normal(size=(1, batch.structure.n)), np.zeros((1, batch.structure.m))
    w, zeta, evidence = Factors(batch, ghost, points.solved).solve(v_x, v_z)
    assert evidence.residual.max() < 1e-9
    dense = factors(batch, ghost)[1].solve(v_x.T, v_z.T)
    for value, other in ((w, dense[0]), (zeta, dense[1])):
        np.testing.assert_allclose(value[0], other[:, 0], atol=1e-7 * np.abs(other).max())


@pytest.mark.parametrize("solver", ["scs", "clarabel"])
def test_the_derivative_of_the_projection(solver: str) -> None:
    """X is the projection of C: in the eigenbasis of C every entry is multiplied by a number."""
    d, r = 9, np.random.default_rng(4)
    size = d * (d + 1) // 2
    eye = sparse.eye_array(size, format="csc")
    for C in r.normal(size=(3, d, d)):
        C = C + C.T
        program = ConeProgram(eye, -svec(C), -eye, np.zeros(size), [PSDCone(d)])
        result = ffoadapt.solve(program, solver)
        values, V = np.linalg.eigh(C)
        clipped = np.maximum(values, 0.0)
        np.testing.assert_allclose(smat(result.x, d), V * clipped @ V.T, atol=1e-9)
        step = r.normal(size=(d, d))
        step = step + step.T
        rate = (clipped[:, None] + clipped) / (np.abs(values[:, None]) + np.abs(values))
        right = V @ (rate * (V.T @ step @ V)) @ V.T
        np.testing.assert_allclose(smat(result.jvp(q=-svec(step)).x, d), right, atol=1e-8)
        np.testing.assert_allclose(smat(result.vjp(x=svec(step)).q, d), -right, atol=1e-8)
        assert result.report().verdict == "differentiable"


def test_a_layer_with_large_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of nearest correlation matrices of order 34, in float32, against the factorization
    of the matrix."""
    cp, torch = pytest.importorskip("cvxpy"), pytest.importorskip("torch")
    d, r = 34, np.random.default_rng(2)
    X, C = cp.Variable((d, d), PSD=True), cp.Parameter((d, d), symmetric=True)
    weights = r.uniform(0.5, 1.5, (d, d))
    distance = cp.sum_squares(cp.multiply(weights + weights.T, X - C))
    problem = cp.Problem(cp.Minimize(distance), [cp.diag(X) == 1, cp.trace(X[::-1]) <= 3])
    M = r.normal(size=(2, d, d)) / 4
    M, gradients = M + M.swapaxes(1, 2) + np.eye(d), []
    for order in (30, 1000):
        monkeypatch.setattr("ffoadapt._program.structure.EIGENBASIS_ORDER", order)
        given = torch.tensor(M, dtype=torch.float32, requires_grad=True)
        (x,) = ffoadapt.Layer(problem, [C], [X])(given)
        (x**3).sum().backward()
        gradients.append(given.grad.numpy())
    np.testing.assert_allclose(*gradients, atol=1e-5 * np.abs(gradients[1]).max())
