"""Random programs for `hunt`, built from a primal-dual solution, in sizes near 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from hunt_cones import Exact, log_uniform, pair, project
from scipy import sparse

from ffoadapt import (
    Cone,
    ConeProgram,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)

__all__ = ["Case", "active_count", "draw", "draw_cones", "row_kind"]

SOLVERS = {
    "linear": ("clarabel", "osqp", "scs", "daqp", "highs", "piqp", "proxqp"),
    "curved": ("clarabel", "scs"),
}


@dataclass
class Case:
    """A program in the units of its construction, its solution, and how it is put to a solver."""

    number: int
    family: str
    P: np.ndarray
    A: np.ndarray
    x: np.ndarray
    s: np.ndarray
    z: np.ndarray
    cones: list[Cone]
    margin: float
    rows: np.ndarray
    columns: np.ndarray
    objective: float
    units: str
    form: str
    box: bool
    width: np.ndarray
    solver: str
    tolerance: float | None
    polish: Any
    cotangents: dict[str, np.ndarray] = field(default_factory=dict)
    dtype: str = "float64"
    """What its numbers are rounded to, and handed over as."""
    b_shift: np.ndarray | None = None
    q_shift: np.ndarray | None = None
    """What makes the program contradict itself, or go on without end."""
    gap: float = 0.0
    """By how much it does that; 0 for a program with the solution x, s, z."""
    blind: bool = False
    """x is within the constraints, but not known to be optimal."""
    differentiated: bool = True
    state: int = 0
    """In a closed loop, the size of the state: the first rows set it."""
    step: int = 0

    @property
    def q(self) -> np.ndarray:
        q = -self.P @ self.x - self.A.T @ self.z
        return q if self.q_shift is None else q + self.q_shift

    @property
    def b(self) -> np.ndarray:
        b = self.A @ self.x + self.s
        return b if self.b_shift is None else b + self.b_shift

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """P, q, A, b in the units of the case: the numbers that a solver gets."""
        R, C, t = self.rows, self.columns, self.objective
        P, A = t * np.outer(C, C) * self.P, R[:, None] * self.A * C
        found = P, t * C * self.q, A, R * self.b
        if self.dtype == "float64":
            return found
        P, q, A, b = (v.astype(self.dtype).astype(float) for v in found)
        return P, q, A, b

    @cached_property
    def exact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same numbers in the units of the construction, in extended precision."""
        R, C, t = self.rows.astype(Exact), self.columns.astype(Exact), Exact(self.objective)
        P, q, A, b = self.data
        return P / (t * np.outer(C, C)), q / (t * C), A / np.outer(R, C), b / R

    @property
    def bounds(self) -> list[np.ndarray]:
        """What bounds the rows, in the units of the construction: b, and in a box from below."""
        return [self.b, np.where(self.equal, self.b, self.b - self.width)][: 1 + self.box]

    def program(self) -> ConeProgram:
        """The program in the units of the case."""
        wrap = np.asarray if self.form == "dense" else sparse.csc_matrix
        P, q, A, b = self.data
        if not self.box:
            return ConeProgram(wrap(P), q, wrap(A), b, self.cones)
        return ConeProgram.from_box(wrap(P), q, wrap(A), self.lower, b)

    @property
    def lower(self) -> np.ndarray:
        """The lower bounds of the rows of a box, in the units of the case."""
        b = self.data[3]
        lower = np.where(self.equal, b, b - self.rows * self.width)
        return lower.astype(self.dtype).astype(float)

    @property
    def equal(self) -> np.ndarray:
        return np.concatenate(
            [np.full(c.dim, isinstance(c, ZeroCone)) for c in self.cones] or [np.zeros(0, bool)]
        )

    def __str__(self) -> str:
        return (
            f"case {self.number} {self.family} n={self.x.size} m={self.s.size} "
            f"[{' '.join(map(repr, self.cones))}] margin={self.margin:.1e} units={self.units} "
            f"{self.form}{' box' if self.box else ''} {self.dtype} "
            f"{self.solver} tol={self.tolerance} "
            f"polish={self.polish} on {'+'.join(self.cotangents)}"
        )


def draw_cones(rng: np.random.Generator, family: str) -> list[Cone]:
    k = int(rng.integers(1, 8))
    zero, rows = ZeroCone(int(rng.integers(0, 3))), NonnegativeCone(k)
    soc = [SecondOrderCone(int(rng.integers(2, 6))) for _ in range(rng.integers(1, 4))]
    order = int(rng.integers(2, 6)) if rng.uniform() < 0.97 else int(rng.integers(10, 31))
    psd: list[Cone] = [PSDCone(order)]
    exp: list[Cone] = [ExponentialCone()] * int(rng.integers(1, 4))
    power: list[Cone] = [PowerCone(float(rng.uniform(0.1, 0.9))) for _ in range(rng.integers(1, 4))]
    chosen: dict[str, list[Cone]] = {
        "qp": [zero, rows],
        "lp": [zero, rows],
        "soc": [zero, rows, *soc],
        "psd": [zero, rows, *psd],
        "exp": [zero, rows, *exp],
        "power": [zero, rows, *power],
        "mixed": [zero, rows, *soc, *(psd if order < 6 else []), *exp, *power],
    }
    cones = chosen[family]
    if rng.uniform() < 0.3:
        rng.shuffle(cones)
    if family == "qp" and rng.uniform() < 0.05:
        return []
    return [cone for cone in cones if cone.dim]


def draw(number: int, seed: int) -> Case:
    """Program ``number`` of the series ``seed``."""
    rng = np.random.default_rng([seed, number])
    families = ("qp", "lp", "soc", "psd", "exp", "power", "mixed")
    family = str(rng.choice(families, p=(0.28, 0.15, 0.15, 0.12, 0.1, 0.1, 0.1)))
    cones = draw_cones(rng, family)
    trouble = str(rng.choice(["strict", "weak", "near"], p=(0.7, 0.12, 0.18)))
    marked = int(rng.integers(len(cones))) if cones else 0
    pairs = [pair(rng, c, trouble if i == marked else "strict") for i, c in enumerate(cones)]
    s = np.concatenate([np.zeros(0), *(p[0] for p in pairs)])
    z = np.concatenate([np.zeros(0), *(p[1] for p in pairs)])
    margin = min((float(p[2]) for p in pairs), default=np.inf)
    m = s.size
    tight = active_count(cones, s, z)
    n = int(rng.choice([max(tight, 1), tight + int(rng.integers(1, 6)), int(rng.integers(1, 9))]))
    if family == "lp" and rng.uniform() < 0.6:
        n = max(tight, 1)
    n = 1 if rng.uniform() < 0.03 else n
    rank = {"lp": 0}.get(family, int(rng.choice([n, n, n, n // 2, 0])))
    L = rng.standard_normal((n, rank)) / np.sqrt(n)
    P = L @ L.T + (0.3 * np.eye(n) if rank == n else 0.0)
    A = rng.standard_normal((m, n))
    if rng.uniform() < 0.4:
        A *= rng.uniform(size=(m, n)) < 0.6
    odd = rng.uniform()
    linear = np.flatnonzero(row_kind(cones, (ZeroCone, NonnegativeCone)))
    if odd < 0.08 and linear.size > 1:  # a row twice, both as they are
        i, j = rng.choice(linear, 2, replace=False)
        A[i], family = rng.choice([1.0, 3.0, -1.0]) * A[j], family + "+twice"
    elif odd < 0.12 and linear.size:
        A[rng.choice(linear)], family = 0.0, family + "+zero"
    elif odd < 0.16 and linear.size > 2:
        i, j, k = rng.choice(linear, 3, replace=False)
        A[i], family = A[j] - 2 * A[k], family + "+sum"
    elif odd < 0.20 and linear.size > 1:
        i, j = rng.choice(linear, 2, replace=False)
        A[i] = A[j] + log_uniform(rng, -12, -2) * rng.standard_normal(n)
        family += "+nearly"
    elif odd < 0.24 and n > 1:  # curvature that all but vanishes
        Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        P, family = (Q * log_uniform(rng, -12, 0, n)) @ Q.T, family + "+flat"
        P = 0.5 * (P + P.T)
    units, R, C, t = draw_units(rng, cones, m, n)
    curved = not all(c.polyhedral for c in cones)
    solver = str(rng.choice(SOLVERS["curved" if curved else "linear"]))
    tolerance = None if rng.uniform() < 0.4 else float(log_uniform(rng, -10, -3))
    if tolerance is not None and solver in ("highs", "daqp"):
        tolerance = None
    names = [("x",), ("x",), ("x", "z"), ("x", "s", "z")][rng.integers(4)]
    sizes = {"x": n, "s": m, "z": m}
    box = not curved and bool(cones) and rng.uniform() < 0.25
    names = ("x",) if box or not m else names
    return Case(
        number,
        family if trouble == "strict" else f"{family}+{trouble}",
        *(P, A, rng.standard_normal(n) * rng.choice([1.0, 1.0, 0.0]), s, z, cones, margin),
        *(R, C, t, units),
        str(rng.choice(["dense", "sparse"])),
        bool(box),
        rng.uniform(3.0, 5.0, m),
        solver,
        tolerance,
        ["auto", True, False][rng.choice(3, p=(0.85, 0.05, 0.1))],
        {name: rng.standard_normal(sizes[name]) for name in names},
    )


def draw_units(
    rng: np.random.Generator, cones: list[Cone], m: int, n: int
) -> tuple[str, np.ndarray, np.ndarray, float]:
    R, C, t = np.ones(m), np.ones(n), 1.0
    units = str(
        rng.choice(
            ["none", "objective", "rows", "columns", "each row", "each column"],
            p=(0.6, 0.1, 0.1, 0.1, 0.06, 0.04),
        )
    )
    if units == "objective":
        t = float(log_uniform(rng, -8, 8))
    elif units == "rows":
        R[:] = log_uniform(rng, -8, 8)
    elif units == "columns":
        C[:] = log_uniform(rng, -8, 8)
    elif units == "each column":
        C = log_uniform(rng, -2, 2, n)
    elif units == "each row":
        at = 0
        for cone in cones:  # the rows of a curved cone share their unit
            free = isinstance(cone, ZeroCone | NonnegativeCone)
            R[at : at + cone.dim] = log_uniform(rng, -4, 4, cone.dim if free else None)
            at += cone.dim
    return units, R, C, t


def row_kind(cones: list[Cone], kinds: tuple[type, ...]) -> np.ndarray:
    return np.concatenate(
        [np.zeros(0, bool), *(np.full(c.dim, isinstance(c, kinds)) for c in cones)]
    )


def active_count(cones: list[Cone], s: np.ndarray, z: np.ndarray) -> int:
    """How many directions of s are fixed: the rank of I - D, D with all curvature at 0."""
    count, at = 0, 0
    for cone in cones:
        block = slice(at, at + cone.dim)
        D = project(cone, s[block] - z[block], s[block], z[block])[1]
        count += cone.dim - round(float(np.trace(D)))
        at += cone.dim
    return max(count, 0)
