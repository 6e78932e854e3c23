"""Active rows that depend on each other: the minimal solution without a spectral decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt._oracle.dense import _Spectral
from ffoadapt._oracle.dependent import DependentRows
from ffoadapt._plugins.registry import Registry


def system(kind: str, seed: int) -> tuple[Any, Any]:
    """H and the active rows C."""
    rng, n = np.random.default_rng(seed), 7
    M = rng.normal(size=(n, n))
    H, rows = M @ M.T + 0.1 * np.eye(n), rng.normal(size=(3, n))
    bounds = -np.eye(n)
    if kind == "vertex":  # on more rows than there are variables, with no curvature
        return np.zeros((n, n)), np.vstack((rows, bounds))
    if kind == "follows":
        return H, np.vstack((rows, rows[0] - 2.0 * rows[1], bounds[:2]))
    if kind == "twice":  # both bounds of a variable, and a row of zeros
        return H, np.vstack((rows, bounds[:2], -2.0 * bounds[:1], np.zeros((1, n))))
    # of a network: every node but the last one could be left out
    C = np.zeros((n - 1, n))
    for k in range(n - 1):
        C[k, k], C[(k + 1) % (n - 1), k] = 1.0, -1.0
    return H, np.vstack((C, bounds[n - 2 :], bounds[:1]))


@pytest.mark.parametrize("kind", ["vertex", "follows", "twice", "network"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_pseudoinverse(kind: str, seed: int) -> None:
    H, C = system(kind, seed)
    (k, n), rng = C.shape, np.random.default_rng(seed + 9)
    top, bottom = rng.normal(size=(n, 2)), rng.normal(size=(k, 2))
    K = np.block([[H, C.T], [C, np.zeros((k, k))]])
    right = np.linalg.pinv(K, rcond=1e-11) @ np.vstack((top, bottom))
    found = DependentRows.of(H, C)
    assert found is not None
    np.testing.assert_allclose(np.vstack(found.solve(top, bottom)), right, atol=1e-9)
    assert found.deficiency == _Spectral(H, C).deficiency
    assert found.deficiency[0] == k - np.linalg.matrix_rank(C)
    null = found.random_null()
    np.testing.assert_allclose(K @ null, 0.0, atol=1e-12)
    assert np.linalg.norm(null) > 0.1


@pytest.mark.parametrize("gap", [1e-4, 1e-6, 1e-8, 1e-10])
def test_what_is_not_clear_is_left_to_eigenvalues(gap: float) -> None:
    """Rows that nearly depend are not taken for dependent ones, nor what is not determined."""
    H, C = system("follows", 0)
    C[3] += gap * np.random.default_rng(1).normal(size=7)
    assert DependentRows.of(H, C) is None
    assert DependentRows.of(np.zeros((7, 7)), C[:4]) is None


def test_gradients_at_a_vertex_with_more_rows_than_variables() -> None:
    """x is held by all of its bounds and by rows that follow: the least-squares response to b."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    n, k = 12, 5
    A = torch.rand(k, n, dtype=torch.float64)
    h = torch.full((n,), -0.5, dtype=torch.float64, requires_grad=True)
    q = torch.rand(n, dtype=torch.float64) + 0.5
    eye = torch.eye(n, dtype=torch.float64)
    x = ffoadapt.qp(eye, q, torch.cat((-eye, -A)), torch.cat((h, -0.5 * A.sum(1))), solver="daqp").x
    np.testing.assert_allclose(x.detach(), 0.5, atol=1e-9)
    x.sum().backward()
    C = np.vstack((-np.eye(n), -A.numpy()))
    assert h.grad is not None
    np.testing.assert_allclose(h.grad, np.linalg.pinv(C)[:, :n].sum(0), atol=1e-9)


def test_usable_solvers_are_looked_at_again() -> None:
    registry = Registry()
    first = registry.usable("solver")
    assert first == registry.ready("solver")
    assert registry.usable("solver") is first
    spec = ffoadapt.SolverSpec("one_more", load="nowhere:at_all", cones=frozenset())
    registry.add(spec)
    assert "one_more" in registry.usable("solver")
