"""How far to trust a gradient, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._program import ProgramBatch
from .._solution import Points
from .active_set import KINK, Scales, groups
from .certificate import Certificate

__all__ = ["UNSOLVED", "GradientReport", "Residuals", "Verdict", "kkt_residuals", "make_report"]

Floats = NDArray[np.float64]

Verdict = Literal[
    "differentiable",
    "weakly_active",
    "dependent_constraints",
    "not_unique",
    "inaccurate_solution",
]

INACCURATE = 1e-4
"""A relative KKT residual above this says that the point is no solution."""

GHOST = 1e-8
"""A relative residual of the ghost solve above this says that it has no solution."""

SHIFT = 0.1
"""Where the solution may be this share of its margin away from the point, so may be a kink."""

ERROR = 1e-6
"""A gradient with an estimated relative error above this is not called the derivative."""

_ADVICE: dict[str, str] = {
    "differentiable": "The solution map is differentiable here and this is its derivative.",
    "weakly_active": (
        "Some constraint holds with (almost) zero multiplier: the solution has a kink here and the "
        "gradient is one element of the generalized Jacobian. A tighter solver tolerance tells "
        "whether the kink is real."
    ),
    "dependent_constraints": (
        "Active constraints depend on each other, so their multipliers are not unique: the "
        "minimum-norm ones were used. Gradients of q and P are not affected; those of constraint "
        "data may be one-sided. Remove redundant constraints if you can."
    ),
    "not_unique": (
        "The solution is not unique: the gradient is the least-squares one. Add a small quadratic "
        "term to the objective if you need a derivative in the usual sense."
    ),
    "inaccurate_solution": (
        "The solver's point does not satisfy the optimality conditions well enough to "
        "differentiate. Tighten solver_options={'tolerance': ...} or use another solver."
    ),
}


@dataclass(frozen=True, slots=True)
class GradientReport:
    """Why to trust a gradient, or not.

    Attributes
    ----------
    verdict
        ``differentiable`` | ``weakly_active`` | ``dependent_constraints`` | ``not_unique`` |
        ``inaccurate_solution``; the gravest that applies.
    residual
        Relative residual of the ghost solve K w = v.
    active
        Number of equality rows of the ghost problem (active constraints).
    rank_deficiency
        Dependent active rows plus directions in which the solution is not determined; for sparse
        programs a lower bound.
    margin
        Smallest strict-complementarity margin max(s_i, z_i), dimensionless: 0 at a kink.
    kkt_residual
        Largest relative violation of the optimality conditions by the solver's point.
    """

    verdict: Verdict
    residual: float
    active: int
    rank_deficiency: int
    margin: float
    kkt_residual: float

    @property
    def advice(self) -> str:
        """What the verdict means and what to do about it."""
        return _ADVICE[self.verdict]

    def __str__(self) -> str:
        return (
            f"{self.verdict}: {self.advice}\n"
            f"  ghost residual {self.residual:.1e}, KKT residual {self.kkt_residual:.1e}, "
            f"{self.active} active, rank deficiency {self.rank_deficiency}, "
            f"complementarity margin {self.margin:.1e}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Of B points, relative: the largest KKT violation, the largest of those of feasibility alone
    (primal and dual), and the smallest strict-complementarity margin of single rows; each (B,)."""

    kkt: Floats
    infeasibility: Floats
    margin: Floats


def kkt_residuals(batch: ProgramBatch, points: Points, scale: Scales) -> Residuals:
    """Stationarity relative to the objective's gradient, slacks to row norm times size of x.

    Complementarity of a row is |min(s_i, z_i)|, which unlike s_i z_i does not hide a point half
    way to a kink; in a block of a curved cone, whose rows do not pair up, it is s'z.
    """
    x, s, z = points.x, points.s, points.z
    structure = batch.structure
    stationarity = batch.multiply("P", x) + batch.q + batch.multiply("A", z, transpose=True)
    worst = np.abs(stationarity).max(axis=-1, initial=0.0) / scale.gradient[:, 0]
    margin = np.full_like(worst, np.inf)
    if structure.m == 0:
        return Residuals(worst, np.zeros_like(worst), margin)
    b, free = batch.b, np.isposinf(batch.b)
    if free.any():
        s, b = np.where(free, 0.0, s), np.where(free, 0.0, b)
    primal = batch.multiply("A", x) + s - b
    s_hat, z_hat = scale.slack(s), scale.dual(z)
    if free.any():
        primal, z_hat = np.where(free, 0.0, primal), np.where(free, 0.0, z_hat)
    outside = np.abs(scale.slack(primal)).max(axis=-1)
    for cone, start, count in groups(structure):
        at = slice(start, start + count * cone.dim)
        s_at, z_at = s_hat[:, at], z_hat[:, at]
        if cone.kind == "nonnegative":
            smaller = np.minimum(s_at, z_at)
            worst = np.maximum(worst, smaller.max(axis=-1))
            outside = np.maximum(outside, -smaller.min(axis=-1))
            larger = np.maximum(s_at, z_at)
            if free.any():
                larger = np.where(free[:, at], np.inf, larger)
            margin = np.minimum(margin, larger.min(axis=-1))
            continue
        for hat, violation in ((s_at, cone.violation), (z_at, cone.dual_violation)):
            found = violation(hat.reshape(-1, cone.dim)).reshape(hat.shape[0], -1)
            outside = np.maximum(outside, found.max(axis=-1, initial=0.0))
        if not cone.polyhedral:
            gaps = (s_at * z_at).reshape(s_at.shape[0], count, cone.dim).sum(axis=-1)
            worst = np.maximum(worst, np.abs(gaps).max(axis=-1, initial=0.0))
    return Residuals(np.maximum(worst, outside), outside, margin)


UNSOLVED = GradientReport("inaccurate_solution", np.nan, 0, 0, np.nan, np.inf)
"""The report of an element that has no solution."""


def make_report(
    *,
    kkt: float,
    margin: float,
    residual: float,
    active: int,
    dependent: int,
    free: int,
    certificate: Certificate,
    i: int,
    seen: bool = True,
) -> GradientReport:
    """The report of element ``i`` of a ``certificate``.

    ``kkt`` is the residual of its point and ``margin`` the least of its rows and curved cones;
    ``residual`` is that of the gradient, and the counts those of its factorization. Where what is
    not determined is not ``seen``, it counts for nothing but `GradientReport.rank_deficiency`.
    """
    deficiency = dependent + free
    if not seen:
        dependent = free = 0
    verdict: Verdict = "differentiable"
    if dependent or free:
        if margin < max(KINK, 10 * kkt):
            verdict = "weakly_active"
    else:
        if not margin >= KINK or not certificate.shift[i] <= SHIFT:
            verdict = "weakly_active"
        elif not certificate.distance[i] <= ERROR:
            verdict = "inaccurate_solution"
        if not certificate.z_error[i] <= ERROR:
            verdict = "dependent_constraints"
        if not certificate.x_error[i] <= ERROR:
            verdict = "not_unique"
    if dependent:
        verdict = "dependent_constraints"
    if free or not residual <= GHOST:
        verdict = "not_unique"
    if not kkt <= INACCURATE:
        verdict = "inaccurate_solution"
    return GradientReport(verdict, residual, active, deficiency, margin, kkt)
