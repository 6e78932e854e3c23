"""Every installed solver: programs with every kind of row; gradients in every framework."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt.testing import ReferenceSolver

NAMES = ("P", "q", "G", "h", "A", "b")


def data(batch: int = 0) -> dict[str, Any]:
    """A strictly convex program with active and inactive inequalities; q varies over the batch."""
    rng = np.random.default_rng(7)
    L = rng.standard_normal((4, 4))
    x = rng.standard_normal(4)
    G, A = rng.standard_normal((5, 4)), rng.standard_normal((1, 4))
    P, h, b = L @ L.T + np.eye(4), G @ x + np.array([0.0, 0, 1, 2, 3]), A @ x
    multipliers = np.array([1.0, 0.5, 0, 0, 0])
    q = -(P @ x + G.T @ multipliers + A.T @ [0.3])
    if batch:
        q = q + 0.05 * rng.standard_normal((batch, 4))
    return dict(zip(NAMES, (P, q, G, h, A, b), strict=True))


@cache
def reference(batch: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """x and the gradient of sum(x * weights), from the kit's own solver."""
    values = data(batch)
    q = np.atleast_2d(values["q"])
    gradient = {name: np.zeros_like(value) for name, value in values.items()}
    xs = []
    for k, q_k in enumerate(q):
        program = ffoadapt.ConeProgram.from_split(**{**values, "q": q_k})
        result = ffoadapt.solve(program, ReferenceSolver())
        found = result.vjp(x=WEIGHTS)
        for name in NAMES:
            if name == "q" and batch:
                gradient["q"][k] = found.q
            else:
                gradient[name] = gradient[name] + getattr(found, name)
        xs.append(result.x)
    return np.array(xs).reshape(values["q"].shape), gradient


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0])


def by_torch(values: dict[str, Any], solver: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(v, requires_grad=True) for name, v in values.items()}
    x = ffoadapt.qp(**tensors, solver=solver).x
    (x * torch.tensor(WEIGHTS)).sum().backward()
    return x.detach().numpy(), {name: t.grad.numpy() for name, t in tensors.items()}


def by_jax(values: dict[str, Any], solver: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        arrays = {name: jax.numpy.asarray(v) for name, v in values.items()}

        def loss(arrays: dict[str, Any]) -> Any:
            x = ffoadapt.qp(**arrays, solver=solver).x
            return (x * WEIGHTS).sum(), x

        gradient, x = jax.grad(loss, has_aux=True)(arrays)
    return np.asarray(x), {name: np.asarray(g) for name, g in gradient.items()}


def by_numpy(values: dict[str, Any], solver: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if values["q"].ndim > 1:
        return ffoadapt.qp(**values, solver=solver).x, {}
    result = ffoadapt.solve(ffoadapt.ConeProgram.from_split(**values), solver)
    return result.x, vars(result.vjp(x=WEIGHTS))


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("framework", [by_numpy, by_torch, by_jax], ids=lambda f: f.__name__[3:])
@pytest.mark.parametrize("solver", ffoadapt.solvers())
def test_solver_in_framework(solver: str, framework: Any, batch: int) -> None:
    x, gradient = framework(data(batch), solver)
    expected, expected_gradient = reference(batch)
    assert x.shape == expected.shape
    assert np.allclose(x, expected, atol=1e-7)
    for name, found in gradient.items():
        assert np.allclose(found, expected_gradient[name], rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["dense", "sparse", "linear"])
@pytest.mark.parametrize("solver", [s for s in ffoadapt.solvers() if s not in ("osqp", "scs")])
def test_random_programs_with_every_kind_of_row(solver: str, kind: str, seed: int) -> None:
    """Unpolished, to 1e-6. (The operator-splitting solvers stop at 1e-6 times the data's size.)"""
    # Made from its solution. Rows: equal; at u; at u, no l; at l; at l, no u; between; below u, no
    # l; free. A linear program has as many active rows as variables.
    role = np.array([*"eeeuuuUUUlllLLLbbbbbbooooooffffff"])
    equal, above, below = (np.isin(role, [*letters]) for letters in ("e", "uU", "lL"))
    rng, m, n = np.random.default_rng(seed), role.size, 15 if kind == "linear" else 30
    M, A, x = (rng.standard_normal(size) for size in [(n, n), (m, n), n])
    P = np.zeros((n, n)) if kind == "linear" else M @ M.T / n + 0.1 * np.eye(n)
    if kind == "sparse":
        A[rng.random((m, n)) < 0.6] = 0.0
    gap, y = rng.uniform(0.5, 1.5, (2, m)), rng.uniform(0.5, 1.5, m)
    y *= 1.0 * (equal | above) - below
    lower = A @ x - np.where(equal | below, 0.0, gap[0])
    upper = A @ x + np.where(equal | above, 0.0, gap[1])
    lower[np.isin(role, [*"Uof"])], upper[np.isin(role, [*"Lf"])] = -np.inf, np.inf
    given = [sparse.csc_matrix(v) if kind == "sparse" else v for v in (P, A)]
    program = ffoadapt.ConeProgram.from_box(given[0], -P @ x - A.T @ y, given[1], lower, upper)
    result = ffoadapt.solve(program, solver, polish=False)
    np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.y, y, rtol=0, atol=1e-6)
