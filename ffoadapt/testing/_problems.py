"""The problems of the kit. Each has a known answer, from a closed form or by construction.

By construction: choose x, and slacks s and multipliers z that are complementary; then
q = -Px - A'z and b = Ax + s state a program whose solution they are, to machine precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from .._program.points import Status
from .._types import Floats
from ._cone_problems import cone_problems
from ._problem import Problem

__all__ = ["problems"]


@lru_cache(maxsize=8)
def problems(seed: int = 0) -> tuple[Problem, ...]:
    """All problems of the kit, with numbers drawn from ``seed``."""
    made = [
        _qp(seed),
        _qp(seed, as_sparse=True),
        _boxes(seed),
        _lp(seed),
        _equality_only(seed),
        _unconstrained(seed),
        _infinite_rows(seed),
        _simplex(seed),
        _infeasible(),
        _unbounded(),
    ]
    return (*made, *cone_problems(seed))


def _rng(seed: int, salt: int) -> np.random.Generator:
    return np.random.default_rng([seed, salt])


def _definite(rng: np.random.Generator, n: int) -> Floats:
    root = rng.standard_normal((n, n)) / np.sqrt(n)
    made: Floats = root @ root.T + np.eye(n)
    return made


def _split(
    name: str, about: str, P: Any, G: Any, A: Any, x: Floats, z: Floats, y: Floats, slack: Floats
) -> Problem:
    """The program with Gx <= h, Ax = b that has the solution (x, z, y)."""
    q = -(0.0 if P is None else P @ x) - G.T @ z - A.T @ y
    data = {"P": P, "q": q, "G": G, "h": G @ x + slack, "A": A, "b": A @ x}
    return Problem(name, about, "split", data, x=x, dual={"z_ineq": z, "y_eq": y})


def _half_active(rng: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Multipliers and slacks: the first half of the rows active, none of them weakly."""
    active = np.arange(rows) < rows // 2
    size = rng.uniform(0.5, 1.5, rows)
    return np.where(active, size, 0.0), np.where(active, 0.0, size)


def _qp(seed: int, as_sparse: bool = False) -> Problem:
    rng = _rng(seed, 1 + as_sparse)
    n = 8 if as_sparse else 6
    P, G, A = _definite(rng, n), rng.standard_normal((6, n)), rng.standard_normal((2, n))
    z, slack = _half_active(rng, 6)
    x, y = rng.standard_normal(n), rng.standard_normal(2)
    if not as_sparse:
        about = "strictly convex, equalities, inequalities half of which are active"
        return _split("qp", about, P, G, A, x, z, y, slack)
    ring = np.eye(n) + np.roll(np.eye(n), 1, 0) + np.roll(np.eye(n), -1, 0)
    P = sparse.csc_matrix(np.where(ring > 0, P, 0.0) + n * np.eye(n))
    keep = (np.arange(6)[:, None] + 2 * np.arange(n)) % 3 > 0
    G, A = sparse.csc_matrix(np.where(keep, G, 0.0)), sparse.csc_matrix(A)
    return _split("qp_sparse", "sparse P, G and A", P, G, A, x, z, y, slack)


def _boxes(seed: int) -> Problem:
    """Rows: at u, at l, between, equal, only u (active), only l (active), only l (loose), free."""
    rng = _rng(seed, 3)
    n, inf = 6, np.inf
    P, A, x = _definite(rng, n), rng.standard_normal((8, n)), rng.standard_normal(n)
    y = rng.uniform(0.5, 1.5, 8) * [1, -1, 0, -1, 1, -1, 0, 0]
    room = rng.uniform(0.5, 1.5, (2, 8))
    lower = A @ x - np.where([0, 1, 0, 1, 0, 1, 0, 0], 0.0, room[0])
    upper = A @ x + np.where([1, 0, 0, 1, 1, 0, 0, 0], 0.0, room[1])
    upper[3] = lower[3]
    lower[[4, 7]], upper[[5, 6, 7]] = -inf, inf
    data = {"P": P, "q": -P @ x - A.T @ y, "A": A, "l": lower, "u": upper}
    about = "two-sided bounds: at u, at l, between, equal, one-sided, infinite"
    return Problem("box", about, "box", data, x=x, dual={"y": y})


def _lp(seed: int) -> Problem:
    rng = _rng(seed, 4)
    G, A = rng.standard_normal((6, 5)), rng.standard_normal((2, 5))
    z, slack = _half_active(rng, 6)
    x, y = rng.standard_normal(5), rng.standard_normal(2)
    return _split("lp", "no quadratic term; the solution is a vertex", None, G, A, x, z, y, slack)


def _equality_only(seed: int) -> Problem:
    rng = _rng(seed, 5)
    n, p = 5, 2
    P, A = _definite(rng, n), rng.standard_normal((p, n))
    x, y = rng.standard_normal(n), rng.standard_normal(p)
    inverse: Floats = np.linalg.inv(np.block([[P, A.T], [A, np.zeros((p, p))]]))
    return Problem(
        "equality_only",
        "no inequality: one linear system",
        "split",
        {"P": P, "q": -P @ x - A.T @ y, "G": None, "h": None, "A": A, "b": A @ x},
        x=x,
        dual={"z_ineq": np.zeros(0), "y_eq": y},
        jacobian={"q": -inverse[:n, :n], "b": inverse[:n, n:]},
    )


def _unconstrained(seed: int) -> Problem:
    rng = _rng(seed, 6)
    P, x = _definite(rng, 4), rng.standard_normal(4)
    return Problem(
        "unconstrained",
        "no constraint at all (m = 0)",
        "cone",
        {"P": P, "q": -P @ x, "A": np.zeros((0, 4)), "b": np.zeros(0)},
        x=x,
        dual={"z": np.zeros(0)},
        jacobian={"q": np.asarray(-np.linalg.inv(P), np.float64)},
    )


def _infinite_rows(seed: int) -> Problem:
    rng = _rng(seed, 7)
    P, G, A = _definite(rng, 4), rng.standard_normal((4, 4)), rng.standard_normal((1, 4))
    z, slack = _half_active(rng, 4)
    slack[2] = np.inf
    x, y = rng.standard_normal(4), rng.standard_normal(1)
    return _split("infinite_rows", "an entry of h is inf", P, G, A, x, z, y, slack)


def _simplex(seed: int) -> Problem:
    """minimize 1/2 |x|^2 + q'x, x >= 0, sum x = 1: x = max(-q - y, 0)."""
    rng = _rng(seed, 8)
    n = 5
    x = np.where(np.arange(n) < 3, rng.uniform(0.5, 1.5, n), 0.0)
    x /= x.sum()
    z, y = np.where(x > 0, 0.0, rng.uniform(0.5, 1.5, n)), 0.3
    support = (x > 0).astype(float)
    return Problem(
        "simplex",
        "projection onto the probability simplex",
        "split",
        {
            "P": np.eye(n),
            "q": -x + z - y,
            "G": -np.eye(n),
            "h": np.zeros(n),
            "A": np.ones((1, n)),
            "b": np.ones(1),
        },
        x=x,
        dual={"z_ineq": z, "y_eq": np.array([y])},
        jacobian={
            "q": -np.diag(support) + np.outer(support, support) / support.sum(),
            "b": support[:, None] / support.sum(),
        },
    )


def _rows(*rows: Sequence[float]) -> Floats:
    return np.array(rows, dtype=np.float64)


def _infeasible() -> Problem:
    """x + y <= -1 with x, y >= 0."""
    return Problem(
        "infeasible",
        "no point satisfies the constraints",
        "split",
        {
            "P": np.eye(2),
            "q": np.ones(2),
            "G": _rows([1, 1], [-1, 0], [0, -1]),
            "h": _rows([-1, 0, 0])[0],
            "A": None,
            "b": None,
        },
        status=Status.PRIMAL_INFEASIBLE,
        repair={"h": _rows([1, 0.2, 0.1])[0]},
    )


def _unbounded() -> Problem:
    """minimize x - y with x, y >= 0."""
    return Problem(
        "unbounded",
        "the objective has no lower bound",
        "split",
        {
            "P": None,
            "q": _rows([1, -1])[0],
            "G": _rows([-1, 0], [0, -1]),
            "h": np.zeros(2),
            "A": None,
            "b": None,
        },
        status=Status.DUAL_INFEASIBLE,
        repair={"q": np.ones(2)},
    )
