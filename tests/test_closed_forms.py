"""Gradients against closed forms, and against the implicit function theorem written out anew.

Every problem here is known exactly: it has a closed-form solution, or it is built backwards from
complementary s and z (q = -Px - A'z, b = Ax + s). The reference then differentiates

    Px + q + A'z = 0,    Ax + s - b = 0,    C(s, z) = 0

at the exact point, with C smooth equations that complementarity implies (s_i z_i = 0; Jordan
products; SZ + ZS = 0; the equation of a boundary and of its normal), their Jacobian by complex
steps. It shares no formula with the oracle: no ghost rows, no scaling, no solver, no tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import brentq

import ffoadapt
from ffoadapt import (
    POLYHEDRAL,
    Cone,
    ConeProgram,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)

SOLVERS = {
    "exact": (0.0, 1e-9),
    "clarabel": (1e-10, 1e-6),
    "osqp": (1e-8, 1e-4),
    "scs": (1e-8, 1e-4),
}
"""Solver: the tolerance it runs at, and the relative error of gradients that is allowed. ``exact``
hands over the exact solution: what is left is the error of the oracle alone."""

CURVED_TOLERANCE = 1e-12
"""Clarabel's on curved cones. It bounds the gap s'z, which along a curved boundary grows with the
square of the distance from the solution: 1e-10 leaves an error of 1e-5 in x, s and z. (From 5
rows on, its second-order cones stop at 1e-6 or so, "AlmostSolved"; hence the small ball.)"""


# --- the reference --------------------------------------------------------------------------------


def triangle(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and factors of the scaled lower triangle, stacked by columns."""
    columns, rows = np.triu_indices(n)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def svec(S: np.ndarray) -> np.ndarray:
    rows, columns, factors = triangle(S.shape[0])
    return S[rows, columns] * factors


def smat(s: np.ndarray, n: int) -> np.ndarray:
    rows, columns, factors = triangle(n)
    S = np.zeros((n, n), dtype=s.dtype)
    S[rows, columns] = S[columns, rows] = s / factors
    return S


def complementarity(cone: Cone, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    """dim analytic equations that hold near a strictly complementary pair; on the boundary of the
    curved cones (s and z both nonzero)."""
    if isinstance(cone, ZeroCone):
        return s
    if isinstance(cone, NonnegativeCone):
        return s * z
    if isinstance(cone, SecondOrderCone):  # the Jordan product
        return np.concatenate(([s @ z], s[0] * z[1:] + z[0] * s[1:]))
    if isinstance(cone, PSDCone):
        S, Z = smat(s, cone.n), smat(z, cone.n)
        return svec(S @ Z + Z @ S)
    x, y, t = s
    if isinstance(cone, ExponentialCone):  # t = y exp(x/y), z along (-e, -e(1 - x/y), 1)
        e = np.exp(x / y)
        return np.array([y * e - t, z[0] + z[2] * e, z[1] + z[2] * e * (1 - x / y)])
    a, sign = cone.alpha, np.sign(t.real)  # x^a y^(1-a) = |t|, z along (af/x, (1-a)f/y, -sign)
    f = x**a * y ** (1 - a)
    return np.array(
        [f - sign * t, z[0] + sign * z[2] * a * f / x, z[1] + sign * z[2] * (1 - a) * f / y]
    )


def complex_step(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray) -> np.ndarray:
    columns = [function(at + 1e-30j * e).imag / 1e-30 for e in np.eye(at.size)]
    return np.array(columns).T


@dataclass
class Case:
    """A program and its exact solution (x, s, z)."""

    P: np.ndarray
    q: np.ndarray
    A: np.ndarray
    b: np.ndarray
    cones: list[Cone]
    x: np.ndarray
    z: np.ndarray

    @cached_property
    def s(self) -> np.ndarray:
        return self.b - self.A @ self.x

    @cached_property
    def kinds(self) -> set[str]:
        return {cone.kind for cone in self.cones if cone.dim}

    @cached_property
    def jacobian(self) -> np.ndarray:
        n, m = self.q.size, self.b.size
        Cs, Cz = np.zeros((m, m)), np.zeros((m, m))
        at = 0
        for cone in self.cones:
            rows = slice(at, at + cone.dim)
            s, z = self.s[rows], self.z[rows]
            assert np.abs(complementarity(cone, s, z)).max(initial=0) < 1e-10  # the case is right
            Cs[rows, rows] = complex_step(lambda v, c=cone, z=z: complementarity(c, v, z), s)
            Cz[rows, rows] = complex_step(lambda v, c=cone, s=s: complementarity(c, s, v), z)
            at += cone.dim
        eye, none = np.eye(m), np.zeros
        return np.block(
            [
                [self.P, none((n, m)), self.A.T],
                [self.A, eye, none((m, m))],
                [none((m, n)), Cs, Cz],
            ]
        )

    def gradient(
        self, x: np.ndarray | float = 0, s: np.ndarray | float = 0, z: np.ndarray | float = 0
    ) -> dict[str, np.ndarray]:
        """d<v, (x, s, z)>/d(P, q, A, b), P among symmetric matrices."""
        n, m = self.q.size, self.b.size
        v = np.concatenate((x + np.zeros(n), s + np.zeros(m), z + np.zeros(m)))
        mu = np.linalg.solve(self.jacobian.T, v)
        one, two = mu[:n], mu[n : n + m]
        P = -np.outer(one, self.x)
        A = -np.outer(self.z, one) - np.outer(two, self.x)
        return {"P": 0.5 * (P + P.T), "q": -one, "A": A, "b": two}


def backwards(rng: np.random.Generator, P: Any, A: Any, cones: list[Cone]) -> Case:
    """The program with this P and A that has a random strictly complementary solution."""
    x = rng.standard_normal(P.shape[0])
    pairs = [complementary(rng, cone) for cone in cones]
    s, z = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return Case(P, -P @ x - A.T @ z, A, A @ x + s, cones, x, z)


def complementary(rng: np.random.Generator, cone: Cone) -> tuple[np.ndarray, np.ndarray]:
    """s in the cone and z in its dual with s'z = 0, on the boundary where it is curved."""
    a, c = rng.uniform(0.5, 1.5, 2)
    if isinstance(cone, ZeroCone):
        return np.zeros(cone.dim), rng.standard_normal(cone.dim)
    if isinstance(cone, NonnegativeCone):
        on = np.arange(cone.dim) % 2 == 0
        size = rng.uniform(0.5, 1.5, cone.dim)
        return np.where(on, 0.0, size), np.where(on, size, 0.0)
    if isinstance(cone, SecondOrderCone):
        u = rng.standard_normal(cone.dim - 1)
        u /= np.linalg.norm(u)
        return a * np.concatenate(([1.0], u)), c * np.concatenate(([1.0], -u))
    if isinstance(cone, PSDCone):
        Q = np.linalg.qr(rng.standard_normal((cone.n, cone.n)))[0]
        size, rank = rng.uniform(0.5, 1.5, cone.n), (cone.n + 1) // 2
        S = (Q[:, :rank] * size[:rank]) @ Q[:, :rank].T
        Z = (Q[:, rank:] * size[rank:]) @ Q[:, rank:].T
        return svec(S), svec(Z)
    if isinstance(cone, ExponentialCone):
        x, y = rng.uniform(-1, 1), rng.uniform(0.5, 1.5)
        e = np.exp(x / y)
        return np.array([x, y, y * e]), c * np.array([-e, -e * (1 - x / y), 1.0])
    assert isinstance(cone, PowerCone)
    (x, y), sign, p = rng.uniform(0.5, 1.5, 2), rng.choice([-1.0, 1.0]), cone.alpha
    f = x**p * y ** (1 - p)
    return np.array([x, y, sign * f]), c * np.array([p * f / x, (1 - p) * f / y, -sign])


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    L = rng.standard_normal((n, n)) / np.sqrt(n)
    return L @ L.T + 0.5 * np.eye(n)


# --- the problems ---------------------------------------------------------------------------------


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def qp(n: int) -> Case:
    """n/5 equalities, n inequalities of which half are active."""
    rng = rng_of(f"qp{n}")
    cones = [ZeroCone(n // 5), NonnegativeCone(n)]
    A = rng.standard_normal((n // 5 + n, n)) / np.sqrt(n)
    return backwards(rng, spd(rng, n), A, cones)


def qp_sparse(n: int) -> Case:
    """As `qp`, with a banded P and a few entries in each row of A."""
    rng = rng_of(f"sparse{n}")
    band = sparse.random_array(
        (n, n), density=2 / n, random_state=rng, data_sampler=rng.standard_normal
    )
    P = (band @ band.T).toarray() + np.eye(n)
    rows = n // 5 + n
    A = sparse.random_array(
        (rows, n), density=3 / n, random_state=rng, data_sampler=rng.standard_normal
    )
    A = A.toarray()
    A[np.arange(rows), rng.permutation(rows) % n] += 2.0
    return backwards(rng, P, A, [ZeroCone(n // 5), NonnegativeCone(n)])


def equality_only() -> Case:
    rng = rng_of("equality")
    return backwards(rng, spd(rng, 8), rng.standard_normal((3, 8)), [ZeroCone(3)])


def project_simplex(v: np.ndarray) -> tuple[np.ndarray, float]:
    """Sparsemax (Martins & Astudillo 2016): max(v - tau, 0)."""
    ordered = np.sort(v)[::-1]
    means = (np.cumsum(ordered) - 1) / np.arange(1, v.size + 1)
    tau = means[np.flatnonzero(ordered > means)[-1]]
    return np.maximum(v - tau, 0.0), float(tau)


def sparsemax() -> Case:
    v = rng_of("simplex").standard_normal(9)
    x, tau = project_simplex(v)
    A = np.vstack((np.ones(9), -np.eye(9)))
    b = np.concatenate(([1.0], np.zeros(9)))
    z = np.concatenate(([tau], x - v + tau))
    return Case(np.eye(9), -v, A, b, [ZeroCone(1), NonnegativeCone(9)], x, z)


def box() -> Case:
    rng = rng_of("box")
    d, v = rng.uniform(0.5, 2.0, 7), 2 * rng.standard_normal(7)
    lower, upper = -rng.uniform(0.3, 0.8, 7), rng.uniform(0.3, 0.8, 7)
    x = np.clip(v, lower, upper)
    y = d * (v - x)
    A = np.vstack((np.eye(7), -np.eye(7)))
    z = np.concatenate((np.maximum(y, 0), np.maximum(-y, 0)))
    return Case(np.diag(d), -d * v, A, np.r_[upper, -lower], [NonnegativeCone(14)], x, z)


def pool(v: np.ndarray) -> list[list[int]]:
    """The blocks of isotonic regression, by pooling adjacent violators."""
    blocks: list[list[int]] = []
    for i in range(v.size):
        blocks.append([i])
        while len(blocks) > 1 and v[blocks[-2]].mean() >= v[blocks[-1]].mean():
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return blocks


def isotonic() -> Case:
    """min 1/2 |x - v|^2, x_1 <= x_2 <= ...: block means; the multipliers are partial sums."""
    n = 12
    v = np.linspace(-1, 1, n) + rng_of("isotonic").standard_normal(n)
    x = np.empty(n)
    for block in pool(v):
        x[block] = v[block].mean()
    A = np.eye(n)[:-1] - np.eye(n)[1:]
    return Case(
        np.eye(n), -v, A, np.zeros(n - 1), [NonnegativeCone(n - 1)], x, np.cumsum(v - x)[:-1]
    )


def ball() -> Case:
    """min 1/2 |Cx - d|^2, |x| <= r: (C'C + mu I) x = C'd with |x| = r."""
    rng = rng_of("ball")
    C, d, r = rng.standard_normal((9, 3)), rng.standard_normal(9), 0.3
    P, q = C.T @ C, -C.T @ d
    at = lambda mu: np.linalg.solve(P + mu * np.eye(3), -q)  # noqa: E731
    mu = brentq(lambda mu: np.linalg.norm(at(mu)) - r, 0, 1e3, xtol=1e-15, rtol=1e-15)
    x = at(mu) * (r / np.linalg.norm(at(mu)))
    A = np.vstack((np.zeros(3), -np.eye(3)))
    # -A'z = (z_1..): Px + q = z_v = -mu x, and z_0 = |z_v|.
    z = mu * np.concatenate(([r], -x))
    return Case(P, q, A, np.r_[r, np.zeros(3)], [SecondOrderCone(4)], x, z)


def project_soc() -> Case:
    rng = rng_of("soc")
    v = rng.standard_normal(5)
    p = np.concatenate(([0.4], v))
    t = 0.5 * (1 + 0.4 / np.linalg.norm(v))
    x = np.concatenate(([t * np.linalg.norm(v)], t * v))
    return Case(np.eye(6), -p, -np.eye(6), np.zeros(6), [SecondOrderCone(6)], x, x - p)


def softmax(c: np.ndarray) -> np.ndarray:
    e = np.exp(c - c.max())
    return e / e.sum()


def entropy() -> Case:
    """max c'p + entropy(p) on the simplex: p = softmax(c), with (-t_i, p_i, 1) in the cone.

    Variables (p, t); minimize -c'p + 1't subject to t_i >= p_i log p_i, which is
    p_i exp(-t_i/p_i) <= 1, and 1'p = 1.
    """
    n = 5
    c = rng_of("entropy").standard_normal(n)
    p = softmax(c)
    A, b = np.zeros((1 + 3 * n, 2 * n)), np.zeros(1 + 3 * n)
    A[0, :n], b[0] = 1.0, 1.0
    k = np.arange(n)
    A[1 + 3 * k, n + k] = 1.0  # s = -t
    A[2 + 3 * k, k] = -1.0  # s = p
    b[3 + 3 * k] = 1.0
    z = np.zeros(1 + 3 * n)
    # d/dt: 1 + z_x = 0, so the normal c(-e, -e(1 - x/y), 1) has c = 1/e = p; x/y = -log p.
    z[1 + 3 * k], z[2 + 3 * k], z[3 + 3 * k] = -1.0, -(1 + np.log(p)), p
    z[0] = (c + z[2 + 3 * k])[0]  # d/dp_i: -c_i + z_0 - z_y = 0
    x = np.concatenate((p, p * np.log(p)))
    q = np.concatenate((-c, np.ones(n)))
    cones = [ZeroCone(1)] + [ExponentialCone()] * n
    return Case(np.zeros((2 * n, 2 * n)), q, A, b, cones, x, z)


def project_psd() -> Case:
    """min 1/2 |x - svec(M)|^2, x in the cone: clip the eigenvalues."""
    M = rng_of("psd").standard_normal((4, 4))
    M = M + M.T
    values, U = np.linalg.eigh(M)
    x, p = svec((U * np.maximum(values, 0)) @ U.T), svec(M)
    return Case(np.eye(10), -p, -np.eye(10), np.zeros(10), [PSDCone(4)], x, x - p)


def nearest_correlation() -> Case:
    """min 1/2 |X - C|^2, diag X = 1, X psd; C = X - Z - Diag(y) for a known X of rank 2."""
    rng, n = rng_of("correlation"), 4
    V = rng.standard_normal((n, 2))
    V /= np.linalg.norm(V, axis=1)[:, None]
    X = V @ V.T
    N = np.linalg.qr(np.c_[V, rng.standard_normal((n, 2))])[0][:, 2:]
    Z = (N * rng.uniform(0.5, 1.5, 2)) @ N.T
    y = rng.standard_normal(n)
    x, z = svec(X), svec(Z)
    diagonal = np.array([svec(np.diag(e)) for e in np.eye(n)])
    A = np.vstack((diagonal, -np.eye(x.size)))
    q = -x + z - diagonal.T @ y
    b = np.concatenate((np.ones(n), np.zeros(x.size)))
    return Case(np.eye(x.size), q, A, b, [ZeroCone(n), PSDCone(n)], x, np.concatenate((y, z)))


def power() -> Case:
    """Two power cones, one of them with t < 0, coupled by P and an equality."""
    rng = rng_of("power")
    cones = [ZeroCone(1), PowerCone(0.3), PowerCone(0.6), NonnegativeCone(2)]
    return backwards(rng, spd(rng, 6), rng.standard_normal((9, 6)), cones)


def mixed() -> Case:
    """Every cone, in an order that no solver keeps."""
    rng = rng_of("mixed")
    cones = [
        *(PSDCone(3), PowerCone(0.7), NonnegativeCone(3), ExponentialCone(), ZeroCone(2)),
        *(SecondOrderCone(4), PSDCone(2), ZeroCone(1), SecondOrderCone(3), ExponentialCone()),
    ]
    m, n = sum(cone.dim for cone in cones), 20
    return backwards(rng, spd(rng, n), rng.standard_normal((m, n)), cones)


PROBLEMS: dict[str, Callable[[], Case]] = {
    "qp5": lambda: qp(5),
    "qp50": lambda: qp(50),
    "qp200": lambda: qp(200),
    "sparse50": lambda: qp_sparse(50),
    "sparse200": lambda: qp_sparse(200),
    "equality_only": equality_only,
    "sparsemax": sparsemax,
    "box": box,
    "isotonic": isotonic,
    "ball": ball,
    "project_soc": project_soc,
    "entropy": entropy,
    "project_psd": project_psd,
    "nearest_correlation": nearest_correlation,
    "power": power,
    "mixed": mixed,
}


@cache
def case_of(name: str) -> Case:
    return PROBLEMS[name]()


def exact(case: Case) -> Any:
    """A solver that knows the answer."""
    kinds = {"zero", "nonnegative", "second_order", "psd", "exponential", "power"}
    return ffoadapt.conic_solver(lambda *_: (case.x, case.s, case.z), cones=kinds)


@cache
def solved(name: str, solver: str, form: str) -> ffoadapt.Result:
    case = case_of(name)
    wrap = sparse.csc_matrix if form == "sparse" else np.asarray
    program = ConeProgram(wrap(case.P), case.q, wrap(case.A), case.b, case.cones)
    return solve(program, case, solver)


def solve(program: ConeProgram, case: Case, solver: str) -> ffoadapt.Result:
    if solver == "exact":
        return ffoadapt.solve(program, exact(case))
    tolerance = SOLVERS[solver][0]
    if solver == "clarabel" and not case.kinds <= POLYHEDRAL:
        tolerance = CURVED_TOLERANCE
    return ffoadapt.solve(program, solver, solver_options={"tolerance": tolerance})


def skip_unsupported(solver: str, case: Case) -> None:
    if solver == "osqp" and not case.kinds <= POLYHEDRAL:
        pytest.skip(f"osqp has no cones {sorted(case.kinds - POLYHEDRAL)}")


def error(found: Any, reference: np.ndarray) -> float:
    """Relative error in the 2-norm; of a sparse gradient on its pattern alone."""
    if sparse.issparse(found):
        found = found.tocoo()
        reference = reference[found.row, found.col]
        found = found.data
    size = np.linalg.norm(reference)
    return float(np.linalg.norm(found - reference) / (size or 1.0))


def cotangents(case: Case) -> list[dict[str, np.ndarray]]:
    """On x, s and z alone and together."""
    rng = np.random.default_rng(7)
    n, m = case.q.size, case.b.size
    v = {"x": rng.standard_normal(n), "s": rng.standard_normal(m), "z": rng.standard_normal(m)}
    return [{"x": v["x"]}, {"s": v["s"]}, {"z": v["z"]}, v]


# --- tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_gradient_of_cone_program(solver: str, name: str, form: str) -> None:
    case = case_of(name)
    skip_unsupported(solver, case)
    result = solved(name, solver, form)
    tolerance = SOLVERS[solver][1]
    assert error(result.x, case.x) < tolerance
    assert error(result.s, case.s) < tolerance
    assert error(result.z, case.z) < tolerance
    assert result.report().verdict == "differentiable"
    for v in cotangents(case):
        reference = case.gradient(**v)
        found = result.vjp(**v)
        for datum, expected in reference.items():
            assert error(getattr(found, datum), expected) < tolerance, (datum, list(v))


POLYHEDRAL_PROBLEMS = [n for n in PROBLEMS if case_of(n).kinds <= POLYHEDRAL]


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("name", POLYHEDRAL_PROBLEMS)
@pytest.mark.parametrize("solver", [s for s in SOLVERS if s != "exact"])
def test_gradient_of_split_program(solver: str, name: str, form: str) -> None:
    """Gx <= h, Ax = b: the same rows under other names."""
    case = case_of(name)
    p = sum(cone.dim for cone in case.cones if cone.kind == "zero")
    wrap = sparse.csr_matrix if form == "sparse" else np.asarray
    program = ConeProgram.from_split(
        wrap(case.P), case.q, wrap(case.A[p:]), case.b[p:], wrap(case.A[:p]), case.b[:p]
    )
    result = solve(program, case, solver)
    rng = np.random.default_rng(3)
    v_x, v_z = rng.standard_normal(case.q.size), rng.standard_normal(case.b.size)
    found = result.vjp(x=v_x, z_ineq=v_z[p:], y_eq=v_z[:p])
    reference = case.gradient(x=v_x, z=v_z)
    expected = {
        **{"P": reference["P"], "q": reference["q"], "G": reference["A"][p:]},
        **{"h": reference["b"][p:], "A": reference["A"][:p], "b": reference["b"][:p]},
    }
    for datum, value in expected.items():
        assert error(getattr(found, datum), value) < SOLVERS[solver][1], datum


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("n", [5, 50])
@pytest.mark.parametrize("solver", [s for s in SOLVERS if s != "exact"])
def test_gradient_of_box_program(solver: str, n: int, form: str) -> None:
    """l <= Ax <= u with rows of every sort: at l, at u, between, equal, and with infinite sides."""
    rng = rng_of(f"rows{n}")
    m = n + 2
    P, A, x = spd(rng, n), rng.standard_normal((m, n)) / np.sqrt(n), rng.standard_normal(n)
    sort = np.arange(m) % 5
    y = np.where(sort == 0, -1.0, np.where(sort == 1, 1.0, 0.0)) * rng.uniform(0.5, 1.5, m)
    y = np.where(sort == 2, rng.standard_normal(m), y)  # an equality: any sign
    slack = rng.uniform(0.5, 1.5, m)
    s = A @ x
    lower = np.where((sort == 0) | (sort == 2), s, np.where(sort == 3, -np.inf, s - slack))
    upper = np.where((sort == 1) | (sort == 2), s, np.where(sort == 0, np.inf, s + slack))
    q = -P @ x - A.T @ y
    wrap = sparse.csc_matrix if form == "sparse" else np.asarray
    options = {"tolerance": SOLVERS[solver][0]}
    program = ConeProgram.from_box(wrap(P), q, wrap(A), lower, upper)
    result = ffoadapt.solve(program, solver, solver_options=options)
    assert error(result.y, y) < SOLVERS[solver][1]

    v_x, v_y = rng.standard_normal(n), rng.standard_normal(m)
    on = np.diag((y != 0.0).astype(float))
    # dPx + Pdx + dq + dA'y + A'dy = 0; on (dA x + A dx - dbound) + (1 - on) dy = 0
    J = np.block([[P, A.T], [on @ A, np.eye(m) - on]])
    mu = np.linalg.solve(J.T, np.concatenate((v_x, v_y)))
    one, two = mu[:n], on @ mu[n:]
    found = result.vjp(x=v_x, y=v_y)
    expected = {
        "P": -0.5 * (np.outer(one, x) + np.outer(x, one)),
        "q": -one,
        "A": -np.outer(y, one) - np.outer(two, x),
        "l": np.where(y < 0, two, 0.0),
        "u": np.where(y > 0, two, 0.0),
    }
    for datum, value in expected.items():
        assert error(getattr(found, datum), value) < SOLVERS[solver][1], datum


@pytest.mark.parametrize("name", ["qp5", "sparsemax", "mixed"])
def test_reference_against_finite_differences(name: str) -> None:
    """What guards the reference itself: differences of solves as tight as they come."""
    case, rng, t = case_of(name), np.random.default_rng(5), 1e-5
    n, m = case.q.size, case.b.size
    v = {"x": rng.standard_normal(n), "s": rng.standard_normal(m), "z": rng.standard_normal(m)}
    S = rng.standard_normal((n, n))
    moves = {"P": S + S.T, "q": rng.standard_normal(n), "b": rng.standard_normal(m)}
    moves["A"] = rng.standard_normal((m, n))
    reference = case.gradient(**v)

    def value(datum: str, step: float) -> float:
        data = {"P": case.P, "q": case.q, "A": case.A, "b": case.b}
        data[datum] = data[datum] + step * moves[datum]
        # Polish does the rest. Asked for more, Clarabel stalls at points just good enough to stay.
        options = {"tolerance": 1e-10}
        r = ffoadapt.solve(
            ConeProgram(**data, cones=case.cones), "clarabel", solver_options=options
        )
        assert r.info["status"] == "Solved"
        return float(v["x"] @ r.x + v["s"] @ r.s + v["z"] @ r.z)

    for datum, move in moves.items():
        slope = (value(datum, t) - value(datum, -t)) / (2 * t)
        size = np.linalg.norm(reference[datum]) * np.linalg.norm(move)
        assert abs(slope - np.vdot(reference[datum], move)) < 1e-6 * size, datum


# --- closed forms of whole Jacobians --------------------------------------------------------------


def jacobian(name: str, datum: str, output: str, solver: str, size: int) -> np.ndarray:
    """d output / d datum, one vjp a row."""
    result = solved(name, solver, "dense")
    full = getattr(result, output).size
    return np.array([getattr(result.vjp(**{output: e}), datum) for e in np.eye(full)[:size]])


@pytest.mark.parametrize("solver", SOLVERS)
def test_closed_form_sparsemax(solver: str) -> None:
    case = case_of("sparsemax")
    on = (case.x > 0).astype(float)
    expected = np.diag(on) - np.outer(on, on) / on.sum()
    assert error(-jacobian("sparsemax", "q", "x", solver, 9), expected) < SOLVERS[solver][1]
    # sum x = r: dx/dr = on/|on|
    found = jacobian("sparsemax", "b", "x", solver, 9)[:, 0]
    assert error(found, on / on.sum()) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_closed_form_box(solver: str) -> None:
    case = case_of("box")
    d, free = case.P.diagonal(), (case.z[:7] + case.z[7:]) == 0
    assert 0 < free.sum() < 7
    expected = -np.diag(free / d)
    assert error(jacobian("box", "q", "x", solver, 7), expected) < SOLVERS[solver][1]
    found = jacobian("box", "b", "x", solver, 7)
    expected = np.hstack((np.diag(case.z[:7] > 0), -np.diag(case.z[7:] > 0).astype(float)))
    assert error(found, expected) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_closed_form_isotonic(solver: str) -> None:
    blocks = pool(-case_of("isotonic").q)
    assert 1 < len(blocks) < 12
    expected = np.zeros((12, 12))
    for block in blocks:
        expected[np.ix_(block, block)] = 1 / len(block)
    assert error(-jacobian("isotonic", "q", "x", solver, 12), expected) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", ["exact", "clarabel", "scs"])
def test_closed_form_softmax(solver: str) -> None:
    """d softmax/dc = diag(p) - pp'; the datum is q = -c."""
    p = softmax(-case_of("entropy").q[:5])
    found = -jacobian("entropy", "q", "x", solver, 5)[:, :5]
    assert error(found, np.diag(p) - np.outer(p, p)) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", ["exact", "clarabel", "scs"])
def test_closed_form_soc_projection(solver: str) -> None:
    """1/2 [[1, u'], [u, (1 + t/|v|) I - t/|v| uu']]."""
    p = -case_of("project_soc").q
    t, v = p[0], p[1:]
    r = np.linalg.norm(v)
    u = v / r
    inner = (1 + t / r) * np.eye(5) - t / r * np.outer(u, u)
    expected = 0.5 * np.block([[np.ones((1, 1)), u[None]], [u[:, None], inner]])
    assert error(-jacobian("project_soc", "q", "x", solver, 6), expected) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", ["exact", "clarabel", "scs"])
def test_closed_form_psd_projection(solver: str) -> None:
    """U ((U'HU) * D) U' with D the divided differences of max(., 0) (Daleckii & Krein)."""
    values, U = np.linalg.eigh(smat(-case_of("project_psd").q, 4))
    assert values[0] < 0 < values[-1]
    top, gap = np.maximum(values, 0), values[:, None] - values
    D = np.where(gap != 0, (top[:, None] - top) / np.where(gap != 0, gap, 1), values > 0)
    expected = np.array([svec(U @ ((U.T @ smat(h, 4) @ U) * D) @ U.T) for h in np.eye(10)]).T
    assert error(-jacobian("project_psd", "q", "x", solver, 10), expected) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", ["exact", "clarabel", "scs"])
def test_closed_form_ball_radius(solver: str) -> None:
    """dx/dr = r (P + mu)^-1 x / x'(P + mu)^-1 x, from |x|^2 = r^2."""
    case = case_of("ball")
    mu = np.linalg.norm(case.z[1:]) / 0.3
    h = np.linalg.solve(case.P + mu * np.eye(3), case.x)
    expected = 0.3 * h / (case.x @ h)
    assert np.linalg.norm(case.x) == pytest.approx(0.3)
    assert error(jacobian("ball", "b", "x", solver, 3)[:, 0], expected) < SOLVERS[solver][1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_closed_form_equalities(solver: str) -> None:
    """dx/db = P^-1 A'S^-1, dx/dq = -P^-1 + P^-1 A'S^-1 A P^-1, dz/db = -S^-1, S = A P^-1 A'."""
    case = case_of("equality_only")
    inverse = np.linalg.inv(case.P)
    S = np.linalg.inv(case.A @ inverse @ case.A.T)
    tolerance = SOLVERS[solver][1]
    K = inverse @ case.A.T @ S
    assert error(jacobian("equality_only", "b", "x", solver, 8), K) < tolerance
    expected = -inverse + K @ case.A @ inverse
    assert error(jacobian("equality_only", "q", "x", solver, 8), expected) < tolerance
    assert error(jacobian("equality_only", "b", "z", solver, 3), -S) < tolerance
    assert error(jacobian("equality_only", "q", "z", solver, 3), -K.T) < tolerance
