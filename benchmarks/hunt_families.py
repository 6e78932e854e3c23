"""Families of programs that people hand in, for `hunt`: built from their solutions, sizes near 1.

Where `hunt_programs` draws anything, these are of kinds: rows that all but contradict each other,
dependent rows, numbers rounded to float32, units, transport, assignment, model predictive control.
Linear, quadratic and curved programs come in each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from hunt_cones import log_uniform, pair
from hunt_programs import Case, active_count, draw_cones, row_kind

from ffoadapt import Cone, ExponentialCone, NonnegativeCone, ZeroCone

__all__ = ["FAMILIES", "draw_family", "steps"]

Rng = np.random.Generator


@dataclass
class Parts:
    """A program and its solution while it is put together."""

    P: np.ndarray
    A: np.ndarray
    x: np.ndarray
    s: np.ndarray
    z: np.ndarray
    cones: list[Cone]
    margin: float
    words: list[str]
    b_shift: np.ndarray | None = None
    q_shift: np.ndarray | None = None
    gap: float = 0.0
    blind: bool = False
    box: bool | None = None
    state: int = 0

    def append(
        self, cone: Cone, A: np.ndarray, s: np.ndarray | float = 0.0, z: np.ndarray | float = 0.0
    ) -> None:
        """Rows of one more cone, with their slacks and multipliers."""
        k = cone.dim
        self.A = np.vstack([self.A, np.reshape(A, (k, -1))])
        self.s = np.concatenate([self.s, np.broadcast_to(s, k)])
        self.z = np.concatenate([self.z, np.broadcast_to(z, k)])
        self.cones = [*self.cones, cone]

    def contradict(self, gap: float) -> None:
        """Move the bound of the last row by ``gap``, beyond what the others allow."""
        self.b_shift = np.zeros(self.s.size)
        self.b_shift[-1] = -gap
        self.gap = max(abs(gap), self.gap)

    @property
    def curved(self) -> bool:
        return not all(cone.polyhedral for cone in self.cones)

    @property
    def equalities(self) -> np.ndarray:
        return np.flatnonzero(row_kind(self.cones, (ZeroCone,)))

    @property
    def blocks(self) -> Iterator[tuple[Cone, slice]]:
        at = 0
        for cone in self.cones:
            yield cone, slice(at, at + cone.dim)
            at += cone.dim


def base(rng: Rng, equalities: int = 0) -> Parts:
    """A consistent program of any kind, away from kinks, with at least so many equality rows."""
    kinds = ("qp", "lp", "soc", "psd", "exp", "power", "mixed")
    kind = str(rng.choice(kinds, p=(0.35, 0.25, 0.1, 0.08, 0.1, 0.07, 0.05)))
    cones = [cone for cone in draw_cones(rng, kind) if cone.dim and cone.dim < 30]
    have = sum(cone.dim for cone in cones if isinstance(cone, ZeroCone))
    if have < equalities:
        cones.append(ZeroCone(equalities - have))
    pairs = [pair(rng, cone, "strict") for cone in cones]
    s = np.concatenate([np.zeros(0), *(p[0] for p in pairs)])
    z = np.concatenate([np.zeros(0), *(p[1] for p in pairs)])
    tight = max(active_count(cones, s, z), 1)
    n = tight if kind == "lp" and rng.uniform() < 0.8 else tight + int(rng.integers(0, 5))
    rank = 0 if kind == "lp" else int(rng.choice([n, n, n // 2]))
    L = rng.standard_normal((n, rank)) / np.sqrt(n)
    P = L @ L.T + (0.3 * np.eye(n) if rank == n else 0.0)
    A = rng.standard_normal((s.size, n))
    if rng.uniform() < 0.3:
        A *= rng.uniform(size=A.shape) < 0.6
    margin = min((float(p[2]) for p in pairs), default=np.inf)
    return Parts(P, A, rng.standard_normal(n), s, z, cones, margin, [kind])


# --- rows that repeat, imply and contradict each other --------------------------------------------


def combined(rng: Rng, parts: Parts) -> tuple[np.ndarray, str]:
    """A row that the equality rows imply."""
    rows = parts.equalities
    if rng.uniform() < 0.5 or rows.size < 2:
        factor = float(rng.choice([1.0, -1.0, 3.0, rng.uniform(0.1, 10.0)]))
        return factor * parts.A[rng.choice(rows)], "twice"
    weights = rng.choice([-1.0, 1.0, 0.5, 2.0, rng.standard_normal()], rows.size)
    return weights @ parts.A[rows], "sum"


def contradictory(rng: Rng) -> Parts:
    """Rows that contradict each other by 1e-9 to 1e-3 of their size, or leave as little room."""
    gap = float(log_uniform(rng, -9, -3))
    parts = base(rng, equalities=int(rng.integers(1, 4)))
    room = rng.uniform() < 0.2
    faces = [
        rows
        for cone, rows in parts.blocks
        if not cone.polyhedral and parts.z[rows].any() and parts.s[rows].any()
    ]
    if faces and rng.uniform() < 0.6:  # a half space that touches a curved cone from outside
        rows = faces[rng.integers(len(faces))]
        a, word = -parts.z[rows] @ parts.A[rows], "touching"
        how = "inequality"
    else:
        a, word = combined(rng, parts)
        how = str(rng.choice(["equality", "inequality", "pair", "box"]))
        how = "pair" if how == "box" and parts.curved else how
    size = float(np.linalg.norm(a)) or 1.0
    a = a / size if rng.uniform() < 0.3 else a
    gap *= float(np.linalg.norm(a)) or 1.0
    parts.words += [word, how]
    if how == "equality":
        parts.append(ZeroCone(1), a, z=rng.standard_normal())
        parts.contradict(gap * rng.choice([-1.0, 1.0]))
        return parts
    if how in ("pair", "box"):  # of new directions too
        a = a if rng.uniform() < 0.5 else rng.standard_normal(a.size)
    if how == "pair":
        parts.append(NonnegativeCone(1), -a, z=rng.choice([0.0, rng.uniform(0.5, 1.5)]))
    parts.append(NonnegativeCone(1), a, s=gap if room else 0.0, z=0.0 if room else rng.uniform())
    if room:
        parts.margin = min(parts.margin, gap)
    elif how == "box":  # its lower bound is above its upper one, see `Case.width`
        parts.gap = gap
    else:
        parts.contradict(gap)
    parts.box = how == "box"
    parts.words.append("room" if room else "contradicts")
    return parts


def dependent(rng: Rng) -> Parts:
    """Rows that others imply, exactly."""
    parts = base(rng, equalities=int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(1, 4))):
        a, word = combined(rng, parts)
        parts.words.append(word)
        how = rng.uniform()
        if how < 0.6:
            parts.append(ZeroCone(1), a, z=rng.standard_normal())
        elif how < 0.8:  # one side of an equality, again
            parts.append(NonnegativeCone(1), a, z=rng.choice([0.0, rng.uniform(0.5, 1.5)]))
        elif how < 0.9:  # an equality as two inequalities
            a = rng.standard_normal(a.size)
            parts.append(NonnegativeCone(1), a, z=rng.uniform(0.0, 1.5))
            parts.append(NonnegativeCone(1), -a, z=rng.uniform(0.0, 1.5))
        else:
            parts.append(ZeroCone(1), 0.0 * a)
    return parts


def nearly(rng: Rng) -> Parts:
    """Rows that others all but imply: consistent, and known to be."""
    parts = base(rng, equalities=int(rng.integers(1, 3)))
    a, word = combined(rng, parts)
    gap = float(log_uniform(rng, -9, -3))
    parts.words += [word, f"{gap:.0e}"]
    parts.append(ZeroCone(1), a + gap * rng.standard_normal(a.size), z=rng.standard_normal())
    return parts


def rounded(rng: Rng) -> Parts:
    """Consistent numbers, rounded to float32: what holds exactly holds to 1e-7 afterwards."""
    parts = base(rng) if rng.uniform() < 0.5 else dependent(rng)
    n = parts.x.size
    if "sum" in parts.words or "twice" in parts.words:
        parts.blind = True  # rounding turns implied rows: what they say then decides the optimum
    if not parts.curved and rng.uniform() < 0.4 and n > 1:  # a variable that is held at its bound
        e = np.zeros(n)
        e[rng.integers(n)] = rng.uniform(0.3, 3.0)
        parts.append(ZeroCone(1), e * rng.uniform(0.3, 3.0), z=rng.standard_normal())
        parts.append(NonnegativeCone(1), e, z=rng.uniform(0.0, 1.5))
        parts.words.append("held")
    if parts.P.any() and rng.uniform() < 0.3:  # a covariance of few samples
        L = rng.standard_normal((n, max(n // 2, 1))) * 0.02
        parts.P = L @ L.T
        parts.words.append("covariance")
    if not determined(parts):  # rounding would let it fall along a flat direction, without end
        rows = np.vstack([np.eye(n), -np.eye(n)])
        parts.append(NonnegativeCone(2 * n), rows, s=rng.uniform(0.5, 2.0, 2 * n))
        parts.words.append("bounded")
    return parts


def determined(parts: Parts) -> bool:
    """Whether P and the rows that hold determine x."""
    held = parts.z.astype(bool)
    held[parts.equalities] = True
    both = np.vstack([parts.P / (np.abs(parts.P).max() or 1.0), parts.A[held]])
    return bool(np.linalg.matrix_rank(both, tol=1e-4) == parts.x.size)


def in_units(rng: Rng) -> Parts:
    return base(rng) if rng.uniform() < 0.7 else dependent(rng)


def unbounded(rng: Rng) -> Parts:
    """A direction that nothing stops lowers the objective by 1e-9 to 0.1 of its size."""
    parts = base(rng)
    column = -rng.uniform(0.5, 1.5, parts.s.size) * row_kind(parts.cones, (NonnegativeCone,))
    parts.A = np.hstack([parts.A, column[:, None] * (rng.uniform() < 0.7)])
    parts.P, parts.x = np.pad(parts.P, (0, 1)), np.append(parts.x, 0.0)
    parts.gap, parts.box = float(log_uniform(rng, -9, -1)), False
    parts.q_shift = np.zeros(parts.x.size)
    parts.q_shift[-1] = (parts.A.T @ parts.z)[-1] - parts.gap  # q is -gap there
    return parts


# --- programs of known structure ------------------------------------------------------------------


def marginal_rows(k: int, l: int) -> np.ndarray:
    """The rows of the sums over the second and over the first index of a (k, l) matrix."""
    ones = np.ones
    return np.vstack([np.kron(np.eye(k), ones((1, l))), np.kron(ones((1, k)), np.eye(l))])


def transport(rng: Rng) -> Parts:
    """Mass from k places to l others: linear, quadratic, or with entropy."""
    k, l = (int(v) for v in rng.integers(2, 6, 2))
    kind = str(rng.choice(["linear", "quadratic", "entropy"], p=(0.45, 0.3, 0.25)))
    if kind == "entropy":
        k, l = min(k, 3), min(l, 4)
    E, n = marginal_rows(k, l), k * l
    E = E[:-1] if rng.uniform() < 0.15 else E  # without the row that the others imply
    dual = rng.uniform(-1.0, 1.0, len(E))
    if kind == "entropy":  # of (x, t): min c'x - w t, (t, x, 1) in the exponential cone
        x, weight = rng.dirichlet(np.ones(n)) * n + 1e-3, float(rng.uniform(0.1, 1.0))
        t = -x * np.log(x)
        A = np.hstack([E, np.zeros((len(E), n))])
        s, z = [np.zeros(len(E))], [dual]
        for i in range(n):
            rows = np.zeros((3, 2 * n))
            rows[0, n + i] = rows[1, i] = -1.0
            e = 1.0 / x[i]  # exp(t / x)
            A = np.vstack([A, rows])
            s.append(np.array([t[i], x[i], 1.0]))
            z.append(weight * x[i] * np.array([-e, -e * (1.0 - t[i] / x[i]), 1.0]))
        cones: list[Cone] = [ZeroCone(len(E)), *[ExponentialCone()] * n]
        point = np.concatenate([x, t])
        P = np.zeros((2 * n, 2 * n))
        return Parts(P, A, point, np.hstack(s), np.hstack(z), cones, 0.1, ["entropy"])
    on = tree(rng, k, l) if kind == "linear" else rng.uniform(size=n) < 0.5
    x = np.where(on, rng.uniform(0.2, 1.8, n), 0.0)
    z = np.where(on, 0.0, rng.uniform(0.3, 1.5, n))
    P = np.eye(n) * (0.0 if kind == "linear" else rng.uniform(0.05, 1.0))
    A, point = np.vstack([E, -np.eye(n)]), np.concatenate([np.zeros(len(E)), x])
    cones = [ZeroCone(len(E)), NonnegativeCone(n)]
    return Parts(P, A, x, point, np.concatenate([dual, z]), cones, 0.2, [kind])


def tree(rng: Rng, k: int, l: int) -> np.ndarray:
    """The entries of a (k, l) matrix that are a spanning tree of its rows and columns."""
    on, group = np.zeros((k, l), bool), np.arange(k + l)
    for i in rng.permutation(k * l):
        a, b = group[i // l], group[k + i % l]
        if a != b:
            on.flat[i] = True
            group[group == a] = b
    return on.ravel()


def assignment(rng: Rng) -> Parts:
    """A permutation: a vertex at which 2N - 1 variables share the 2N rows, one of them implied."""
    N = int(rng.integers(2, 7)) if rng.uniform() < 0.96 else int(rng.integers(7, 13))
    E, n = marginal_rows(N, N), N * N
    x = np.eye(N)[rng.permutation(N)].ravel()
    if rng.uniform() < 0.5:
        z = np.where(x > 0, 0.0, rng.uniform(0.05, 1.0, n))
    else:  # as costs of U(0, 1) have it: some reduced costs are small
        z = np.where(x > 0, 0.0, rng.uniform(0.0, 1.0, n) ** 2 + 1e-4)
    dual = rng.uniform(-1.0, 1.0, 2 * N)
    cones: list[Cone] = [ZeroCone(2 * N), NonnegativeCone(n)]
    A, s = np.vstack([E, -np.eye(n)]), np.concatenate([np.zeros(2 * N), x])
    P = np.zeros((n, n))
    return Parts(P, A, x, s, np.concatenate([dual, z]), cones, float(z[z > 0].min()), ["linear"])


def control(rng: Rng) -> Parts:
    """A double integrator with bounds on input and speed over N steps: z = (X_0 .. X_N, U)."""
    N, dt = int(rng.integers(3, 7)), float(rng.uniform(0.05, 0.3))
    F, g = np.array([[1.0, dt], [0.0, 1.0]]), np.array([dt * dt / 2, dt])
    fastest, states = float(rng.uniform(0.3, 1.0)), 2 * (N + 1)
    n = states + N
    X, U = np.zeros((N + 1, 2)), np.zeros(N)
    X[0] = rng.normal(), rng.uniform(-1.0, 1.0) * fastest
    for k in range(N):
        u = float(rng.choice([-1.0, 1.0, rng.uniform(-1.0, 1.0)]))
        low, high = ((side * fastest - X[k, 1]) / dt for side in (-1.0, 1.0))
        U[k] = np.clip(u, max(low, -1.0), min(high, 1.0))
        X[k + 1] = F @ X[k] + g * U[k]
        if abs(abs(X[k + 1, 1]) - fastest) < 1e-12:
            X[k + 1, 1] = np.sign(X[k + 1, 1]) * fastest
    E = np.zeros((states, n))
    E[:, :states] = np.eye(states)
    for k in range(N):
        E[2 * k + 2 : 2 * k + 4, 2 * k : 2 * k + 2] = -F
        E[2 * k + 2 : 2 * k + 4, states + k] = -g
    bounded = [*range(1, states, 2), *range(states, n)]
    rows = np.eye(n)[bounded]
    most = np.where(np.array(bounded) < states, fastest, 1.0)
    point = np.concatenate([X.ravel(), U])
    s = np.concatenate([most - rows @ point, most + rows @ point])
    s[np.abs(s) < 1e-12] = 0.0
    z = np.where(s == 0.0, rng.uniform(0.3, 1.5, s.size), 0.0)
    weights = np.concatenate([np.tile([rng.uniform(0.5, 2.0), 0.01], N + 1), np.full(N, 0.05)])
    cones: list[Cone] = [ZeroCone(states), NonnegativeCone(s.size)]
    A, dual = np.vstack([E, rows, -rows]), rng.normal(size=states)
    slack = np.concatenate([np.zeros(states), s])
    margin = float(s[s > 0].min(initial=np.inf))
    z = np.concatenate([dual, z])
    return Parts(np.diag(weights), A, point, slack, z, cones, margin, ["loop"], state=2)


FAMILIES: dict[str, Callable[[Rng], Parts]] = {
    "contradictory": contradictory,
    "dependent": dependent,
    "nearly": nearly,
    "float32": rounded,
    "units": in_units,
    "unbounded": unbounded,
    "transport": transport,
    "assignment": assignment,
    "control": control,
}

CLOSED_LOOP = 4
"""Steps after the first of a closed loop."""


def draw_family(number: int, seed: int, family: str) -> Case:
    """Program ``number`` of a family in the series ``seed``, for ``solver="auto"``."""
    rng = np.random.default_rng([seed, number, zlib.crc32(family.encode())])
    parts = FAMILIES[family](rng)
    n, m = parts.x.size, parts.s.size
    single = family == "float32" or (
        family in ("transport", "assignment", "control") and rng.uniform() < 0.4
    )
    R, C, t, units = np.ones(m), np.ones(n), 1.0, "none"
    if family == "units":
        units, R, C, t = extreme(rng, parts.cones, m, n)
    elif family == "transport" and rng.uniform() < 0.5:
        mass = float(log_uniform(rng, -3, 6))
        R, C, units = R * mass, C / mass, f"mass {mass:.0e}"
    elif family not in ("float32", "control") and rng.uniform() < 0.2:
        units, R, C, t = extreme(rng, parts.cones, m, n, 4.0)
    box = parts.box
    if box is None:
        box = not parts.curved and bool(m) and rng.uniform() < 0.25
    width = parts.s + rng.uniform(3.0, 5.0, m)
    if parts.box and parts.gap:
        width[-1] = -parts.gap
    tolerance = None if single or rng.uniform() < 0.7 else float(log_uniform(rng, -9, -6))
    names = ("x",) if box or not m or rng.uniform() < 0.6 else ("x", "z")
    sizes = {"x": n, "z": m}
    return Case(
        number,
        "+".join([family, *parts.words]),
        *(parts.P, parts.A, parts.x, parts.s, parts.z, parts.cones, parts.margin),
        *(R, C, t, units),
        "dense" if single else str(rng.choice(["dense", "sparse"])),
        bool(box),
        width,
        "auto",
        tolerance,
        "auto",
        {name: rng.standard_normal(sizes[name]) for name in names},
        dtype="float32" if single else "float64",
        b_shift=parts.b_shift,
        q_shift=parts.q_shift,
        gap=parts.gap,
        blind=parts.blind,
        differentiated=rng.uniform() < 0.25 and not (single or parts.gap or n + m > 60),
        state=parts.state,
    )


def extreme(
    rng: Rng, cones: list[Cone], m: int, n: int, most: float = 8.0
) -> tuple[str, np.ndarray, np.ndarray, float]:
    """Units 10^-most to 10^most; those of every column by half as much."""
    R, C, t = np.ones(m), np.ones(n), 1.0
    kinds = ("objective", "rows", "columns", "each row", "each column", "all")
    units = str(rng.choice(kinds))
    if units in ("objective", "all"):
        t = float(log_uniform(rng, -most, most))
    if units in ("rows", "all"):
        R *= log_uniform(rng, -most, most)
    if units in ("columns", "all"):
        C *= log_uniform(rng, -most, most)
    if units == "each column":
        C = log_uniform(rng, -most / 2, most / 2, n)
    if units == "each row":
        at = 0
        for cone in cones:  # the rows of a curved cone share their unit
            free = isinstance(cone, ZeroCone | NonnegativeCone)
            R[at : at + cone.dim] = log_uniform(rng, -most, most, cone.dim if free else None)
            at += cone.dim
    return units, R, C, t


def steps(case: Case, x: np.ndarray) -> Case | None:
    """The next program of a closed loop: it begins where the solution x says that this one goes.

    x is in the units of the construction. What solves the next one is not known.
    """
    if not case.state or case.step >= CLOSED_LOOP:
        return None
    shift = np.zeros(case.s.size) if case.b_shift is None else case.b_shift.copy()
    k = case.state
    shift[:k] += x[k : 2 * k] - case.b[:k]
    return replace(case, b_shift=shift, step=case.step + 1, blind=True, differentiated=False)
