"""Hunts for the one thing that must not happen: a wrong gradient with the verdict `differentiable`.

    python benchmarks/hunt.py --count 10000 --seed 0        # the table, and every offender
    python benchmarks/hunt.py --case 4711                   # one program in detail

A program is built from a primal-dual solution, in sizes near 1, so that the truth is known without
any solver: with p = s - z, s = Pi(p) and D the derivative of the projection Pi, the optimality
conditions F(x, p) = (Px + q + A'(Pi(p) - p), Ax + Pi(p) - b) = 0 have the derivative

    M = [ P   A'(D - I) ]
        [ A   D         ]

and the solution is differentiable, with the derivative that M gives, exactly where p is at no kink
of Pi and M is regular. D comes from textbook formulas or differences of Pi, never from the ghost
rows of the oracle. The program then changes units and goes to some solver at some tolerance; what
comes back is compared in the units of the construction.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

import ffoadapt
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

WRONG = 1e-4
"""A relative error above this is a wrong gradient ..."""

WRONG_AT_DEFAULTS = 1e-5
"""... or above this where the solver ran at its default tolerance, with polish."""

KINK = 1e-13
"""A program whose margin is below this is at a kink as far as its rounded numbers can tell."""

SINGULAR = 1e-13
"""A reciprocal condition number of M below this is 0 as far as rounded numbers can tell."""

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

    @property
    def q(self) -> np.ndarray:
        return -self.P @ self.x - self.A.T @ self.z

    @property
    def b(self) -> np.ndarray:
        return self.A @ self.x + self.s

    def program(self) -> ConeProgram:
        """The program in the units of the case."""
        R, C, t = self.rows, self.columns, self.objective
        wrap = np.asarray if self.form == "dense" else sparse.csc_matrix
        P, A = wrap(t * C[:, None] * self.P * C), wrap(R[:, None] * self.A * C)
        q, b = t * C * self.q, R * self.b
        if not self.box:
            return ConeProgram(P, q, A, b, self.cones)
        lower = np.where(self.equal, b, b - R * self.width)
        return ConeProgram.from_box(P, q, A, lower, b)

    @property
    def equal(self) -> np.ndarray:
        return np.concatenate(
            [np.full(c.dim, isinstance(c, ZeroCone)) for c in self.cones] or [np.zeros(0, bool)]
        )

    def __str__(self) -> str:
        return (
            f"case {self.number} {self.family} n={self.x.size} m={self.s.size} "
            f"[{' '.join(map(repr, self.cones))}] margin={self.margin:.1e} units={self.units} "
            f"{self.form}{' box' if self.box else ''} {self.solver} tol={self.tolerance} "
            f"polish={self.polish} on {'+'.join(self.cotangents)}"
        )


@dataclass
class Outcome:
    number: int
    text: str
    group: str
    verdict: str
    truth: str
    error: float
    seconds: float
    regular: bool
    report: str = ""

    @property
    def offender(self) -> bool:
        claimed = self.verdict == "differentiable" and self.truth in ("wrong", "kink", "singular")
        return claimed or self.verdict in ("exception", "nan")


# ------------------------------------------------------------------------------- construction


def log_uniform(rng: np.random.Generator, low: float, high: float, size: Any = None) -> Any:
    return 10.0 ** rng.uniform(low, high, size)


def pair(rng: np.random.Generator, cone: Cone, how: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Complementary s, z of one block and the distance to the nearest kink of the projection.

    ``how``: strict; weak, at a kink; or near, at 1e-12 to 1e-2 of one.
    """
    small = {"strict": None, "weak": 0.0, "near": log_uniform(rng, -12, -2)}[how]
    a, c = rng.uniform(0.5, 1.5, 2)
    match cone:
        case ZeroCone():
            return np.zeros(cone.dim), rng.standard_normal(cone.dim), np.inf
        case NonnegativeCone():
            on, size = rng.uniform(size=cone.dim) < 0.5, rng.uniform(0.5, 1.5, cone.dim)
            if small is not None and cone.dim:
                size[rng.integers(cone.dim)] = small
            return np.where(on, 0.0, size), np.where(on, size, 0.0), size.min(initial=np.inf)
        case SecondOrderCone():
            u = rng.standard_normal(cone.dim - 1)
            u /= np.linalg.norm(u)
            low = rng.choice([-c, c]) if small is None else rng.choice([-1.0, 1.0]) * small
            high = rng.choice([1.0, 1.0, -1.0]) * a  # the eigenvalues t - |v| <= t + |v| of p
            low, high = min(low, high), max(low, high)
            p, margin = 0.5 * np.r_[high + low, (high - low) * u], min(abs(low), abs(high))
            if low > 0 or high < 0:  # exactly: the rounding of a zero dual would be an objective
                return np.maximum(np.sign(low), 0) * p, np.minimum(np.sign(low), 0) * p, margin
            s = 0.5 * (max(high, 0) * np.r_[1.0, u] + max(low, 0) * np.r_[1.0, -u])
            return s, s - p, margin
        case PSDCone():
            n = cone.n
            Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
            values = rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n)
            if small is not None:
                values[rng.integers(n)] = small * rng.choice([-1.0, 1.0])
            S, Z = (Q * np.maximum(values, 0)) @ Q.T, (Q * np.maximum(-values, 0)) @ Q.T
            return svec(S), svec(Z), float(np.abs(values).min())
    # the 3-d curves: s on the boundary with its normal, or in a region where Pi is linear
    z_size = c if small is None else small
    where = rng.choice(["curve", "curve", "inside", "apex", "face"]) if small is None else "curve"
    if isinstance(cone, ExponentialCone):
        x, y = rng.uniform(-1, 1), a
        e = np.exp(x / y)
        s, normal = np.array([x, y, y * e]), np.array([-e, -e * (1 - x / y), 1.0])
        if where == "inside":
            return s + np.array([0, 0, 1.0]), np.zeros(3), 0.1
        if where == "apex":  # u < 0, -u exp(v/u) < e w
            v = rng.uniform(-1, 1)
            return np.zeros(3), np.array([-a, v, a * np.exp(-v / a - 1) + c]), 0.1
        if where == "face":
            return np.array([-a, 0.0, c]), np.array([0.0, rng.uniform(0.5, 1.5), 0.0]), 0.1
    else:
        assert isinstance(cone, PowerCone)
        p, (x, y), sign = cone.alpha, rng.uniform(0.5, 1.5, 2), rng.choice([-1.0, 1.0])
        f = x**p * y ** (1 - p)
        s = np.array([x, y, sign * f])
        normal = np.array([p * f / x, (1 - p) * f / y, -sign])
        if where == "inside":
            return s * np.array([1, 1, 0.2]), np.zeros(3), 0.1
        if where == "apex":
            return np.zeros(3), np.array([a, c, 0.1 * sign]), 0.1
    return s, z_size * normal, (1.0 if small is None else small) * 0.1


def svec(S: np.ndarray) -> np.ndarray:
    columns, rows = np.triu_indices(len(S))
    return S[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


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
        count += cone.dim - round(float(np.trace(derivative(cone, s[block] - z[block]))))
        at += cone.dim
    return max(count, 0)


# ------------------------------------------------------------------------------------ the truth


def derivative(cone: Cone, p: np.ndarray, margin: float = np.inf) -> np.ndarray:
    """The Jacobian of the projection onto the cone at p, which is ``margin`` away from kinks."""
    m = p.size
    match cone:
        case ZeroCone():
            return np.zeros((m, m))
        case NonnegativeCone():
            return np.diag((p > 0).astype(float))
        case SecondOrderCone():
            t, r = p[0], float(np.linalg.norm(p[1:]))
            if t >= r:
                return np.eye(m)
            if t <= -r:
                return np.zeros((m, m))
            u = p[1:] / r
            D = np.zeros((m, m))
            D[0, 0], D[0, 1:], D[1:, 0] = 0.5, 0.5 * u, 0.5 * u
            D[1:, 1:] = 0.5 * ((1 + t / r) * np.eye(m - 1) - (t / r) * np.outer(u, u))
            return D
        case PSDCone():
            return psd_derivative(cone.n, p)
    h = step_of(margin)
    steps = h * np.vstack((np.eye(3), -np.eye(3)))
    steps = np.vstack((steps, 0.5 * steps))
    moved = cone.project(p + steps)
    coarse, fine = (moved[:3] - moved[3:6]) / (2 * h), (moved[6:9] - moved[9:]) / h
    D = (4 * fine - coarse) / 3
    D = np.where(np.abs(D - np.round(D)) < 1e-8, np.round(D), D)  # linear regions are exact
    return 0.5 * (D + D.T)


def step_of(margin: float) -> float:
    """The step of differences of the projections that have no simple derivative."""
    return 1e-6 if margin < KINK else min(1e-6, 0.05 * margin)


def psd_derivative(n: int, p: np.ndarray) -> np.ndarray:
    columns, rows = np.triu_indices(n)
    factor = np.where(rows == columns, 1.0, np.sqrt(2.0))
    M = np.zeros((n, n))
    M[rows, columns] = M[columns, rows] = p / factor
    values, U = np.linalg.eigh(M)
    plus = np.maximum(values, 0.0)
    gap = values[:, None] - values
    positive = (values > 0).astype(float)
    same = np.sign(values)[:, None] == np.sign(values)
    ratio = np.where(same, positive[:, None], 0.0)
    ratio = np.where(same, ratio, (plus[:, None] - plus) / np.where(same, 1.0, gap))
    D = np.empty((p.size, p.size))
    for k in range(p.size):
        E = np.zeros((n, n))
        E[rows[k], columns[k]] = E[columns[k], rows[k]] = 1.0 / factor[k]
        D[k] = svec(U @ (ratio * (U.T @ E @ U)) @ U.T)
    return 0.5 * (D + D.T)


def truth(case: Case) -> tuple[str, float, dict[str, np.ndarray]]:
    """``smooth``, ``kink`` or ``singular``; the condition number of M; the gradient."""
    n, m = case.x.size, case.s.size
    D, at = np.zeros((m, m)), 0
    for cone in case.cones:
        block = slice(at, at + cone.dim)
        D[block, block] = derivative(cone, (case.s - case.z)[block], case.margin)
        at += cone.dim
    whole = np.round(D)  # rounding where D is 0 or 1 would be curvature beside a tiny P
    D = np.where(np.abs(D - whole) < 1e-14 * max(m, 10), whole, D)
    lower = D - np.eye(m)
    M = np.block([[case.P, case.A.T @ lower], [case.A, D]])
    values = np.linalg.svd(equilibrated(M), compute_uv=False)
    if case.margin >= KINK and not values[-1]:
        return "singular", np.inf, {}
    if case.margin < KINK:
        return "kink", np.inf, {}
    regular = bool(values[-1] > SINGULAR * values[0])
    v = {k: case.cotangents.get(k, np.zeros(m)) for k in ("s", "z")}
    right = np.concatenate((case.cotangents["x"], D @ v["s"] + lower @ v["z"]))
    try:
        solved = np.linalg.solve(M.T, right)
    except np.linalg.LinAlgError:
        return "singular", np.inf, {}
    if not np.isfinite(solved).all():
        return "singular", np.inf, {}
    exact_M, exact_right = M.T.astype(np.longdouble), right.astype(np.longdouble)
    for _ in range(30 if regular else 0):
        solved = solved + np.linalg.solve(
            M.T, (exact_right - exact_M @ solved.astype(np.longdouble)).astype(float)
        )
    w, zeta = -solved[:n], solved[n:]
    gradient = {
        "q": w,
        "b": zeta,
        "A": np.outer(case.z, w) - np.outer(zeta, case.x),
        "P": 0.5 * (np.outer(w, case.x) + np.outer(case.x, w)),
    }
    return "smooth" if regular else "singular", float(values[0] / values[-1]), gradient


def equilibrated(M: np.ndarray) -> np.ndarray:
    """M in units in which no row and no column is much larger than others: what is singular then
    is so in any units."""
    M = M.copy()
    for _ in range(20):
        for axis in (0, 1):
            largest = np.abs(M).max(axis=axis, keepdims=True)
            M /= np.sqrt(np.where(largest > 0, largest, 1.0))
    return M


# --------------------------------------------------------------------------------- the judgement


def solve(case: Case) -> ffoadapt.Result:
    options: dict[str, Any] = {} if case.tolerance is None else {"tolerance": case.tolerance}
    if case.solver == "scs":
        options["max_iterations"] = 20_000
    return ffoadapt.solve(
        case.program(),
        case.solver,
        solver_options=options,
        on_failure="nan",
        polish=case.polish,
    )


def gradient_of(case: Case, result: ffoadapt.Result) -> dict[str, np.ndarray]:
    """The gradient of the layer, in the units of the construction."""
    R, C, t = case.rows, case.columns, case.objective
    scale = {"x": C, "s": 1 / R, "z": R / t}
    found = result.vjp(**{k: v * scale[k] for k, v in case.cotangents.items()})
    b = found.l + found.u if case.box else found.b
    P, A = (v.toarray() if sparse.issparse(v) else np.asarray(v) for v in (found.P, found.A))
    return {
        "q": t * C * found.q,
        "b": R * b,
        "A": R[:, None] * A * C,
        "P": t * C[:, None] * P * C,
    }


def distance(case: Case, found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> float:
    """The largest relative error of a gradient; what is below 1e-3 of the others counts as that."""
    if case.form == "sparse":  # gradients on the pattern
        true = {**true, "A": true["A"] * (case.A != 0), "P": true["P"] * (case.P != 0)}
    everything = max(float(np.linalg.norm(g)) for g in true.values())
    floor = max(1e-3 * everything, 1e-6)
    return max(
        float(np.linalg.norm(found[k] - g)) / max(float(np.linalg.norm(g)), floor)
        for k, g in true.items()
    )


def judge(number: int, seed: int) -> Outcome:
    """Draw, solve, differentiate and compare one program."""
    start = time.perf_counter()
    case = draw(number, seed)
    kind, condition, true = truth(case)
    regular = (
        kind == "smooth" and condition < 1e4 and case.margin > 0.05 and case.units == "none"
    ) and case.polish is not False
    group = case.family.split("+")[0]
    verdict, error, words = "unsolved", np.nan, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = solve(case)
        if result.status.solved:
            found = gradient_of(case, result)
            report = result.report()
            verdict, words = report.verdict, str(report).splitlines()[1]
            if not all(np.isfinite(g).all() for g in found.values()):
                verdict = "nan"
            elif true:
                error = distance(case, found, true)
    except Exception:
        verdict, words = "exception", traceback.format_exc()
    if kind == "singular" and error <= 1e-6:
        kind = "right"  # rows so small that only their unit made M look singular
    if kind == "smooth" and verdict != "unsolved":
        default = case.tolerance is None and case.polish is not False
        limit = WRONG_AT_DEFAULTS if default else WRONG
        # The reference itself: the rounded data have their solution and their kinks elsewhere.
        doubt = 100 * condition * 2.2e-16 * max(1.0, 1e-3 / case.margin)
        if any(isinstance(c, ExponentialCone | PowerCone) for c in case.cones):
            doubt += 1e-14 * condition / step_of(case.margin)
        limit += doubt
        kind = "no reference" if doubt > 0.1 else "right" if error <= limit else "wrong"
    text = f"{case} cond={condition:.1e}"
    return Outcome(
        number, text, group, verdict, kind, error, time.perf_counter() - start, regular, words
    )


VERDICTS = (
    "differentiable",
    "weakly_active",
    "dependent_constraints",
    "not_unique",
    "inaccurate_solution",
    "unsolved",
    "nan",
    "exception",
)
TRUTHS = ("right", "wrong", "kink", "singular", "no reference")


def table(outcomes: Iterable[Outcome]) -> str:
    """The confusion table in markdown."""
    counts = Counter((o.verdict, o.truth if o.truth != "smooth" else "right") for o in outcomes)
    lines = ["| verdict | " + " | ".join(TRUTHS) + " |", "|---|" + "---|" * len(TRUTHS)]
    for verdict in VERDICTS:
        row = [counts[verdict, kind] for kind in TRUTHS]
        if any(row):
            lines.append(f"| {verdict} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def _judge(pair: tuple[int, int]) -> Outcome:
    return judge(*pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", type=int, default=None, help="judge this one program only")
    options = parser.parse_args()
    if options.case is not None:
        outcome = judge(options.case, options.seed)
        print(outcome.text, outcome.report, sep="\n")
        print(f"  {outcome.verdict}; {outcome.truth}, error {outcome.error:.1e}")
        return
    todo = [(k, options.seed) for k in range(options.first, options.first + options.count)]
    start = time.perf_counter()
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for outcome in pool.imap(_judge, todo, chunksize=20):
            outcomes.append(outcome)
            if outcome.offender:
                print(f"OFFENDER ({outcome.verdict}; {outcome.truth}, error {outcome.error:.1e})")
                print(f"  {outcome.text}\n{outcome.report}", flush=True)
    print(f"\n{len(outcomes)} programs, seed {options.seed}, {time.perf_counter() - start:.0f} s\n")
    print(table(outcomes))
    for name in sorted({o.group for o in outcomes}):
        regular = [o for o in outcomes if o.regular and o.group == name and o.verdict != "unsolved"]
        claimed = sum(o.verdict == "differentiable" for o in regular)
        if regular:
            share = 100 * claimed / len(regular)
            print(f"regular {name} programs called differentiable: {share:.1f} % of {len(regular)}")
    offenders = sum(o.offender for o in outcomes)
    print(f"\n{offenders} offenders; again with: python benchmarks/hunt.py --case NUMBER")


if __name__ == "__main__":
    main()
