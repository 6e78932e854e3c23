"""What the gradient of a program of `hunt` really is, found without any solver and any oracle.

With p = s - z, s = Pi(p) and D the derivative of the projection Pi, the optimality conditions
F(x, p) = (Px + q + A'(Pi(p) - p), Ax + Pi(p) - b) = 0 have the derivative

    M = [ P   A'(D - I) ]
        [ A   D         ]

and the solution is differentiable, with the derivative that M gives, exactly where p is at no kink
of Pi and M is regular. Programs are built from a solution, but their data are rounded, and those of
an ill-conditioned one have their solution elsewhere: Newton's method in extended precision finds
that of the very numbers that the solver gets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hunt_cones import Exact, project
from hunt_programs import Case

__all__ = ["difference", "truth"]

KINK = 1e-13
"""A program whose margin is below this is at a kink as far as its rounded numbers can tell."""

SINGULAR = 1e-13
"""A reciprocal condition number of M below this is 0 as far as rounded numbers can tell."""

SURE = 1e-6
"""A reference whose own relative error may be above this is none."""

Solve = Callable[[np.ndarray], np.ndarray]


def truth(case: Case) -> tuple[str, float, dict[str, np.ndarray]]:
    """``smooth``, ``kink``, ``singular`` or ``no reference``; the condition of M; the gradient."""
    x, p = case.x.astype(Exact), (case.s - case.z).astype(Exact)
    s, M = linearized(case, p)
    values = np.linalg.svd(equilibrated(M.astype(float))[0], compute_uv=False)
    if case.margin < KINK:
        return "kink", np.inf, {}
    if not values[-1]:
        return "singular", np.inf, {}
    condition = float(values[0] / values[-1])
    try:
        if not values[-1] > SINGULAR * values[0]:
            return "singular", condition, gradient(case, x, s, p, M)
        found, before = (gradient(case, *point) for point in solution(case, x, p))
        if not difference(case, before, found) <= SURE:
            return "no reference", np.inf, {}
        return "smooth", condition, found
    except np.linalg.LinAlgError:
        return ("no reference" if values[-1] > SINGULAR * values[0] else "singular"), np.inf, {}


def linearized(case: Case, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pi(p) and M."""
    m, at = p.size, 0
    s, D = np.zeros(m, Exact), np.zeros((m, m), Exact)
    for cone in case.cones:
        rows = slice(at, at + cone.dim)
        s[rows], D[rows, rows] = project(cone, p[rows], case.s[rows], case.z[rows])
        at += cone.dim
    whole = np.round(D)  # rounding where D is 0 or 1 would be curvature beside a tiny P
    D = np.where(np.abs(D - whole) < 1e-16, whole, D)
    P, _, A, _ = case.exact
    return s, np.block([[P, A.T @ (D - np.eye(m))], [A, D]])


Point = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def solution(case: Case, x: np.ndarray, p: np.ndarray) -> tuple[Point, Point]:
    """x, s, p and M at the solution of the rounded data, from those of the construction; and one
    Newton step before that: they differ by what extended precision leaves open."""
    P, q, A, b = case.exact
    n, last, before = x.size, np.inf, None
    for _ in range(12):
        s, M = linearized(case, p)
        here = x, s, p, M
        wrong = np.concatenate((P @ x + q + A.T @ (s - p), A @ x + s - b))
        step = solver(M)(wrong)
        x, p = x - step[:n], p - step[n:]
        size = float(np.abs(step).max(initial=0.0))
        if before is not None and not 1e-17 < size < last:
            return here, before
        last, before = size, here
    raise np.linalg.LinAlgError(f"Newton's method ended with a step of {size}")


def gradient(
    case: Case, x: np.ndarray, s: np.ndarray, p: np.ndarray, M: np.ndarray
) -> dict[str, np.ndarray]:
    n, m, z = x.size, p.size, s - p
    D = M[n:, n:]
    lower = D - np.eye(m)
    v = {k: case.cotangents.get(k, np.zeros(m)) for k in ("s", "z")}
    right = np.concatenate((case.cotangents["x"], D @ v["s"] + lower @ v["z"]))
    solved = solver(M.T)(right)
    w, zeta = -solved[:n], solved[n:]
    found = {
        "q": w,
        "b": zeta,
        "A": np.outer(z, w) - np.outer(zeta, x),
        "P": 0.5 * (np.outer(w, x) + np.outer(x, w)),
    }
    return {name: value.astype(float) for name, value in found.items()}


def solver(M: np.ndarray) -> Solve:
    """M^-1 in extended precision: the inverse of LAPACK, refined until nothing changes."""
    scaled, rows, columns = equilibrated(M)
    inverse = np.linalg.inv(scaled.astype(float)).astype(Exact)

    def solve(right: np.ndarray) -> np.ndarray:
        right = rows * right
        found, last = 0 * right, np.inf
        for _ in range(60):
            change = inverse @ (right - scaled @ found)
            size = float(np.abs(change).max(initial=0.0))
            if not size < last:
                break
            found, last = found + change, size
        if not last <= SURE * float(np.abs(found).max(initial=0.0)):
            raise np.linalg.LinAlgError("refinement does not converge")
        return columns * found

    return solve


def difference(case: Case, found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> float:
    """The largest relative error of the gradient of a datum; the contract of `differentiable`.

    Gradients are compared in units of the program's own, so that nobody's choice of units decides:
    with r_i the norm of row i of A, X the largest of |x_j| and of the distances |b_i|/r_i of
    constraints from 0, and g the size of the gradient of the objective, the units are g/X for P, g
    for q, r_i for row i of A and r_i X for b_i. Where a gradient is 0, as that of P is where x = 0,
    there is no error relative to it: what is below 1e-3 of the largest of the four is taken
    relative to that.
    """
    r = np.linalg.norm(case.A, axis=1)
    r[r == 0] = 1.0
    curvature = np.abs(case.P).max(initial=0.0)
    reach = max(np.abs(bound / r).max(initial=0.0) for bound in case.bounds)
    g = max(np.abs(case.q).max(initial=0.0), np.abs(case.z * r).max(initial=0.0))
    X = max(np.abs(case.x).max(initial=0.0), reach)
    if not reach and curvature:
        X = max(X, g / curvature)
    X = X or 1.0
    g = max(g, curvature * X) or 1.0
    units = {"P": g / X, "q": g, "A": r[:, None], "b": r * X}
    size = {k: float(np.linalg.norm(v * units[k])) for k, v in true.items()}
    floor = max(1e-3 * max(size.values()), 1e-6)
    return max(
        float(np.linalg.norm((found[k] - v) * units[k])) / max(size[k], floor)
        for k, v in true.items()
    )


def equilibrated(M: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """diag(r) M diag(c), r, c: units in which no row and no column is much larger than others.

    What is singular there is so in any units.
    """
    M, scales = M.copy(), [np.ones(len(M)), np.ones(len(M))]
    for _ in range(20):
        for axis in (1, 0):
            largest = np.abs(M).max(axis=axis).astype(float)
            scale = 1.0 / np.sqrt(np.where(largest > 0, largest, 1.0))
            M *= np.expand_dims(scale, axis)
            scales[1 - axis] = scales[1 - axis] * scale
    return M, scales[0], scales[1]
