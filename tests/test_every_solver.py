"""Every installed solver in every framework: values, and the gradient of each datum."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

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
