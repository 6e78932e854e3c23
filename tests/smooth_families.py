"""Ten families of smooth programs in any framework, and their gradients by dense KKT systems.

    F = Families(torch, torch.tensor)
    family = F.hs071()      # objective, inequalities, equalities, bounds, params, start

The reference takes exact second derivatives, by torch; nothing of ffoadapt is in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

NAMES = (
    *("logistic", "ellipsoid", "inequalities", "sphere", "vertex"),
    *("dependent", "simplex", "scaled", "hs071", "rosenbrock"),
)
REGULAR = tuple(name for name in NAMES if name not in ("vertex", "dependent"))


@dataclass
class Family:
    """Functions of (params, y); params are NumPy arrays here."""

    name: str
    objective: Any
    params: dict[str, np.ndarray]
    start: np.ndarray
    inequalities: Any = None
    equalities: Any = None
    bounds: Any = None
    settings: dict[str, Any] = field(default_factory=dict)

    def given(self, convert: Any) -> dict[str, Any]:
        return {name: convert(value) for name, value in self.params.items()}


def families(xp: Any, convert: Any, seed: int = 5) -> dict[str, Family]:
    """By name; ``xp`` is torch or jax.numpy, ``convert`` makes its arrays."""
    found = {}
    for k, name in enumerate(NAMES):
        rng = np.random.default_rng([seed, k])
        found[name] = globals()[f"_{name}"](name, xp, convert, rng)
    return found


def _logistic(name, xp, convert, rng):
    m, n = 60, 14
    t = convert(np.sign(rng.normal(size=m)))
    params = {"X": rng.normal(size=(m, n)), "w": 0.3 * rng.normal(size=n)}

    def objective(p, y):
        margin = -t * (p["X"] @ y)
        loss = xp.logaddexp(0.0 * margin, margin).mean()
        return loss + 0.5 * (xp.exp(p["w"]) * y * y).mean()

    return Family(name, objective, params, np.zeros(n))


def _ellipsoid(name, xp, convert, rng):
    n = 10
    B = rng.normal(size=(n, n))
    params = {
        "a": 2.0 * rng.normal(size=n),
        "B": B @ B.T / n + np.eye(n),
        "r": np.array(1.8),
        "c": rng.normal(size=n),
        "s": np.array(0.4),
    }
    return Family(
        name,
        lambda p, y: ((y - p["a"]) ** 2).sum() + 0.1 * (y**4).sum(),
        params,
        rng.normal(size=n),
        equalities=lambda p, y: xp.stack([y @ p["B"] @ y - p["r"] ** 2, y @ p["c"] - p["s"]]),
    )


def _inequalities(name, xp, convert, rng):
    n = 12
    params = {
        "q": 1.0 + rng.normal(size=n),
        "A": rng.normal(size=(3, n)),
        "b": np.full(3, 0.15),
        "l": np.full(n, 0.4),
        "u": np.full(n, 0.5),
        "m": 0.1 * rng.normal(size=n),
        "rad": np.array(1.1),
    }
    return Family(
        name,
        lambda p, y: xp.exp(y).sum() - p["q"] @ y + 0.05 * (y @ y) ** 2 / n,
        params,
        np.zeros(n),
        lambda p, y: [(p["A"] @ y) ** 2 - p["b"], ((y - p["m"]) ** 2).sum() - p["rad"] ** 2],
        bounds=lambda p: (-p["l"], p["u"]),
    )


def _sphere(name, xp, convert, rng):
    n = 9
    M = rng.normal(size=(n, n))
    params = {
        "M": (M + M.T) / 2.0,
        "q": 0.3 * rng.normal(size=n),
        "u": np.full(n, 0.5),
        "r": np.array(1.0),
    }
    return Family(
        name,
        lambda p, y: 0.5 * y @ p["M"] @ y + p["q"] @ xp.sin(y),
        params,
        0.3 * rng.normal(size=n),
        lambda p, y: y - p["u"],
        lambda p, y: y @ y - p["r"] ** 2,
    )


def _vertex(name, xp, convert, rng):
    """A degenerate one: four rows meet in three dimensions."""
    A = rng.uniform(0.3, 2.0, (4, 3))
    y = rng.uniform(0.5, 2.0, 3)
    params = {"q": -A.T @ np.array([0.6, 0.8, 1.1, 0.0]), "A": A, "b": A @ y}
    return Family(
        name,
        lambda p, y: p["q"] @ y,
        params,
        np.full(3, 0.1),
        lambda p, y: p["A"] @ y - p["b"],
        bounds=(0.0, None),
    )


def _dependent(name, xp, convert, rng):
    n = 6
    params = {
        "t": rng.normal(size=n),
        "a": rng.normal(size=n),
        "b": np.array(0.3),
        "c": np.array(0.25),
    }

    def equalities(p, y):
        row = p["a"] @ y - p["b"]
        return xp.stack([row, 2.0 * row, y.sum() - p["c"]])

    return Family(
        name,
        lambda p, y: 0.5 * ((y - p["t"]) ** 2).sum() + 0.1 * xp.cosh(y).sum(),
        params,
        np.zeros(n),
        equalities=equalities,
    )


def _simplex(name, xp, convert, rng):
    n = 8
    params = {"q": rng.normal(size=n), "P": 0.5 * np.eye(n), "tau": np.array(0.3)}
    return Family(
        name,
        lambda p, y: p["q"] @ y + 0.5 * y @ p["P"] @ y + p["tau"] * (y * xp.log(y + 1e-3)).sum(),
        params,
        np.full(n, 1.0 / n),
        equalities=lambda p, y: y.sum() - 1.0,
        bounds=(0.0, None),
    )


def _scaled(name, xp, convert, rng):
    n = 8
    s = 10.0 ** np.linspace(-3.0, 3.0, n)
    S = convert(s)
    params = {"a": 1.0 + rng.normal(size=n), "b": np.array(2.2), "c": np.array(0.45)}
    return Family(
        name,
        lambda p, y: ((y / S - p["a"]) ** 2).sum() + 0.1 * ((y / S) ** 4).sum(),
        params,
        0.5 * s,
        lambda p, y: 1e4 * ((y / S).sum() - p["b"]),
        lambda p, y: 1e-3 * ((y / S)[0] * (y / S)[1] - p["c"]),
        settings={"typical": s},
    )


def _hs071(name, xp, convert, rng):
    params = {
        "k": np.array(1.1),
        "area": np.array(24.0),
        "r": np.array(41.0),
        "lo": np.ones(4),
        "hi": np.full(4, 5.0),
    }
    return Family(
        name,
        lambda p, y: p["k"] * y[0] * y[3] * y[:3].sum() + y[2],
        params,
        np.array([1.0, 4.9, 4.9, 1.0]),
        lambda p, y: p["area"] - y.prod(),
        lambda p, y: y @ y - p["r"],
        bounds=lambda p: (p["lo"], p["hi"]),
    )


def _rosenbrock(name, xp, convert, rng):
    n = 9
    params = {"c": np.array(80.0), "a": np.array(1.0), "r": np.array(5.0)}
    return Family(
        name,
        lambda p, y: (p["c"] * (y[1:] - y[:-1] ** 2) ** 2 + (p["a"] - y[:-1]) ** 2).sum(),
        params,
        np.full(n, 0.5),
        lambda p, y: y @ y - p["r"],
    )


# ------------------------------------------------------------------------------- the reference


def _rows(function: Any, p: Any, y: Any) -> torch.Tensor:
    if function is None:
        return torch.zeros(0, dtype=torch.float64)
    found = function(p, y)
    parts = found if isinstance(found, list | tuple) else [found]
    return torch.cat([part.reshape(-1) for part in parts])


def dense_kkt(family: Family, result: Any, v: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of v'y at a solution, from its dense KKT system with exact second derivatives.

    ``family`` is one of torch. Rows with a multiplier above 1e-7 count as active.
    """
    leaves = [torch.tensor(a, requires_grad=True) for a in family.params.values()]
    p = dict(zip(family.params, leaves, strict=True))
    y = torch.tensor(result.y, requires_grad=True)
    bounds = family.bounds(p) if callable(family.bounds) else family.bounds or (None, None)
    rows, duals = [_rows(family.inequalities, p, y)], [result.z_ineq]
    for sign, bound, z in ((1.0, bounds[0], result.z_lower), (-1.0, bounds[1], result.z_upper)):
        if bound is not None:
            rows.append(sign * (bound - y))
            duals.append(z)
    h, z = torch.cat(rows), np.concatenate(duals)
    held = np.flatnonzero(z > 1e-7 * max(1.0, np.abs(z).max(initial=0.0)))
    e = _rows(family.equalities, p, y)
    c = torch.cat([h[held], e])
    mu = torch.tensor(np.concatenate([z[held], result.z_eq]))
    first = torch.autograd.grad(family.objective(p, y) + (mu * c).sum(), y, create_graph=True)[0]
    n, k = y.numel(), c.numel()
    H, J = np.zeros((n, n)), np.zeros((k, n))
    for i in range(n if first.requires_grad else 0):
        found = torch.autograd.grad(first[i], y, retain_graph=True, allow_unused=True)[0]
        H[i] = 0.0 if found is None else found.numpy()
    for i in range(k):
        J[i] = torch.autograd.grad(c[i], y, retain_graph=True)[0].numpy()
    D = np.clip(np.abs(result.y), 1e-3 * np.abs(result.y).max(), None)
    D = family.settings.get("typical", D)
    size = np.linalg.norm(J * D, axis=1)
    K = np.block(
        [
            [D[:, None] * H * D, (J * D).T / size],
            [(J * D) / size[:, None], np.zeros((k, k))],
        ]
    )
    found = np.linalg.lstsq(K, -np.concatenate([D * v, np.zeros(k)]), rcond=1e-12)[0]
    d, eta = torch.tensor(D * found[:n]), torch.tensor(found[n:] / size)
    gradients = torch.autograd.grad((first * d).sum() + (c * eta).sum(), leaves, allow_unused=True)
    return {
        name: np.zeros(leaf.shape) if g is None else g.numpy()
        for name, leaf, g in zip(family.params, leaves, gradients, strict=True)
    }


CANCELS = 1e-3
"""A leaf whose gradient is smaller than this share of the largest is one of cancellation."""


def error_of(found: dict[str, Any], exact: dict[str, np.ndarray]) -> float:
    """The largest error, relative to the largest entry of its leaf, or of all leaves where that of
    its own is what cancellation leaves."""
    largest = max(float(np.abs(g).max()) for g in exact.values())
    worst = 0.0
    for name, g in exact.items():
        size = float(np.abs(g).max())
        scale = size if size > CANCELS * largest else largest
        worst = max(worst, float(np.abs(np.asarray(found[name]) - g).max()) / scale)
    return worst
