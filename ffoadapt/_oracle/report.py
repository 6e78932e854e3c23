"""How far to trust a gradient, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from .._program.batch import ProgramBatch, largest
from .._program.points import Points
from .._program.structure import Structure
from .._types import Floats
from .active_set import KINK, Scales
from .certificate import Certificate, infeasibility, stationarity

__all__ = [
    "Evidence",
    "GradientReport",
    "Reports",
    "Residuals",
    "Verdict",
    "curved_violations",
    "kkt_residuals",
    "row_margins",
]


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
        "The point, or what rounding leaves of a gradient there, is not accurate enough to "
        "differentiate: the solver stopped early, or the program is badly scaled. Tighten "
        "solver_options={'tolerance': ...}, use another solver, or bring rows and variables to "
        "units in which their numbers are near 1."
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
        Smallest strict-complementarity margin max(s_i, z_i), dimensionless: 0 at a kink, also at
        one that shows nowhere.
    kkt_residual
        Largest relative violation of the optimality conditions by the solver's point.
    gradient_calls, error
        Of programs given as functions: gradients of these that the first derivative took, and the
        estimated relative error of the derivatives; None elsewhere.
    """

    verdict: Verdict
    residual: float
    active: int
    rank_deficiency: int
    margin: float
    kkt_residual: float
    gradient_calls: int | None = None
    error: float | None = None

    @property
    def advice(self) -> str:
        """What the verdict means and what to do about it."""
        return _ADVICE[self.verdict]

    def __str__(self) -> str:
        return (
            f"{self.verdict}: {self.advice}\n"
            f"  ghost residual {self.residual:.1e}, KKT residual {self.kkt_residual:.1e}, "
            f"{self.active} active, rank deficiency {self.rank_deficiency}, "
            f"complementarity margin {self.margin:.1e}" + self._functions()
        )

    def _functions(self) -> str:
        if self.error is None:
            return ""
        return f"\n  {self.gradient_calls} gradient calls, estimated error {self.error:.1e}"


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Of B points, relative: the largest KKT violation, and the largest of those of feasibility
    alone (primal and dual); each (B,)."""

    kkt: Floats
    infeasibility: Floats


def kkt_residuals(batch: ProgramBatch, points: Points, scale: Scales) -> Residuals:
    """Stationarity relative to the objective's gradient, slacks to row norm times size of x.

    Complementarity of a row is |min(s_i, z_i)|, which unlike s_i z_i does not hide a point half
    way to a kink; in a block of a curved cone, whose rows do not pair up, it is s'z. Such blocks
    violate nothing where s and z are paired: projections of one point onto cone and polar cone.
    """
    x, s, z = points.x, points.s, points.z
    structure, free = batch.structure, batch.unbounding
    worst = (largest(stationarity(batch, x, z)) / scale.gradient)[:, 0]
    if structure.m == 0:
        return Residuals(worst, np.zeros_like(worst))
    s_hat, z_hat = scale.slack(s), scale.dual(z)
    if free is not None:
        z_hat = np.where(free, 0.0, z_hat)
    violation = -np.minimum(s_hat, z_hat)  # outside where positive, not complementary if negative
    if structure.equalities:
        at = structure.split[0]
        violation[:, at] = np.abs(s_hat[:, at])
    if not structure.polyhedral:
        violation[:, ~(structure.nonnegative | structure.equality)] = 0.0
    outside = np.maximum.reduce(violation, axis=-1)
    worst = np.maximum(worst, largest(violation)[:, 0])
    if points.exact and structure.polyhedral:
        return Residuals(worst, outside)
    if not points.exact:
        gap = scale.slack(infeasibility(batch, x, s))
        outside = np.maximum(outside, largest(gap)[:, 0])
    if not structure.polyhedral and not points.paired:
        far, gap = curved_violations(structure, s_hat, z_hat)
        outside, worst = np.maximum(outside, far), np.maximum(worst, gap)
    return Residuals(np.maximum(worst, outside), outside)


def curved_violations(structure: Structure, s_hat: Floats, z_hat: Floats) -> tuple[Floats, Floats]:
    """(B,) each: how far blocks of curved cones are outside of these, and the largest |s'z|."""
    outside = worst = np.zeros(len(s_hat))
    for cone, start, count in structure.groups:
        if cone.polyhedral:
            continue
        at = slice(start, start + count * cone.dim)
        s_at, z_at = s_hat[:, at], z_hat[:, at]
        for hat, found in ((s_at, cone.violation), (z_at, cone.dual_violation)):
            far = found(hat.reshape(-1, cone.dim)).reshape(hat.shape[0], -1)
            outside = np.maximum(outside, far.max(axis=-1, initial=0.0))
        gaps = (s_at * z_at).reshape(s_at.shape[0], count, cone.dim).sum(axis=-1)
        worst = np.maximum(worst, np.abs(gaps).max(axis=-1, initial=0.0))
    return outside, worst


def row_margins(batch: ProgramBatch, points: Points, scale: Scales) -> Floats:
    """(B,) the smallest strict-complementarity margin max(s_i, z_i) of rows in nonnegative cones;
    inf where there are none."""
    larger = np.maximum(scale.slack(points.s), scale.dual(points.z))
    here = batch.structure.nonnegative
    if batch.unbounding is not None:
        here = here & ~batch.unbounding
    return np.minimum.reduce(np.where(here, larger, np.inf), axis=-1, initial=np.inf)


UNSOLVED = GradientReport("inaccurate_solution", np.nan, 0, 0, np.nan, np.inf)
"""The report of an element that has no solution."""


@dataclass(slots=True, eq=False)
class Evidence:
    """What is known of the points of a batch and of their ghost problems, each (B,).

    Attributes
    ----------
    solved
        Whether there is a solution.
    kkt, margin
        The residual of the point, and the least margin of its rows and curved cones.
    residual
        The relative residual of the latest gradient.
    active, deficiency
        The counts of the factorization, see `GradientReport`.
    dependent, free
        The two kinds of deficiency, dependent rows and directions that are not determined, as far
        as they show in what is asked of the program, and there are any in other units too.
    unproven
        Whether there is only what looks like one of these, as a matter of units.
    certificate
        See `certificate`; None where nothing there is in doubt.
    quiet
        Whether nothing that is weakly active shows in what is asked, see `_visibility`.
    biased
        Whether there is a proximal term, whose bias counts as an error of the response in x.
    """

    solved: NDArray[np.bool_]
    kkt: Floats
    margin: Floats
    residual: Floats
    active: NDArray[np.int64]
    deficiency: NDArray[np.int64]
    dependent: NDArray[np.int64]
    free: NDArray[np.int64]
    unproven: NDArray[np.bool_]
    certificate: Certificate | None
    quiet: NDArray[np.bool_]
    biased: bool

    def beyond_doubt(self) -> NDArray[np.bool_]:
        """Where the verdict is ``differentiable``."""
        c = self.certificate
        regular = self.solved & (self.dependent + self.free == 0) & ~self.unproven
        regular &= (self.kkt <= INACCURATE) & (self.residual <= GHOST)
        regular &= (self.margin >= KINK) | self.quiet
        if c is not None:
            regular &= ((c.shift <= SHIFT) | self.quiet) & (c.distance <= ERROR)
            regular &= (c.z_error <= ERROR) & (c.x_error <= ERROR)
        return regular

    def verdict(self, i: int) -> Verdict:
        """The gravest that applies to element ``i``."""
        kkt, margin, c = self.kkt.item(i), self.margin.item(i), self.certificate
        dependent, free = self.dependent.item(i), self.free.item(i)
        verdict: Verdict = "differentiable"
        unclear = self.unproven.item(i)
        if dependent or free:
            if margin < max(KINK, 10 * kkt):
                verdict = "weakly_active"
        else:
            kink = not margin >= KINK or (c and not c.shift[i] <= SHIFT)
            if kink and not self.quiet.item(i):
                verdict = "weakly_active"
            elif c and not c.distance[i] <= ERROR:
                unclear = True
            if c and not (c.z_error[i] <= ERROR and c.x_error[i] <= ERROR):
                if self.biased and not c.x_error[i] <= ERROR:
                    verdict = "not_unique"
                else:
                    unclear = True  # the rank is full, but rounding decides
        if dependent:
            verdict = "dependent_constraints"
        if free:
            verdict = "not_unique"
        if not self.residual.item(i) <= GHOST:
            verdict = "not_unique"
            unclear |= not self.deficiency.item(i)
        if unclear or not kkt <= INACCURATE or not self.solved.item(i):
            verdict = "inaccurate_solution"
        return verdict


class Reports(Sequence[GradientReport]):
    """The reports of a batch in its order, each made when it is looked at."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @classmethod
    def none(cls) -> Reports:
        """Those of an empty batch."""
        marks, numbers = np.zeros(0, dtype=bool), np.zeros(0)
        counts = np.zeros(0, dtype=np.int64)
        known = marks, numbers, numbers, numbers, counts, counts, counts, counts, marks
        return cls(Evidence(*known, None, marks, False))

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts alone, which is faster than to look at each report."""
        known = self._evidence
        if len(self) == 1:
            return [known.verdict(0)]
        verdicts: list[Verdict] = ["differentiable"] * len(self)
        for i in np.flatnonzero(~known.beyond_doubt()).tolist():
            verdicts[i] = known.verdict(i)
        return verdicts

    def __len__(self) -> int:
        return len(self._evidence.kkt)

    def __repr__(self) -> str:
        counts = Counter(self.verdicts).most_common()
        return f"Reports({', '.join(f'{count} {verdict}' for verdict, count in counts)})"

    @overload
    def __getitem__(self, index: int) -> GradientReport: ...
    @overload
    def __getitem__(self, index: slice) -> list[GradientReport]: ...
    def __getitem__(self, index: int | slice) -> GradientReport | list[GradientReport]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        known, i = self._evidence, range(len(self))[index]
        if not known.solved.item(i):
            return UNSOLVED
        return GradientReport(
            known.verdict(i),
            known.residual.item(i) + 0.0,
            known.active.item(i),
            known.deficiency.item(i),
            known.margin.item(i),
            known.kkt.item(i) + 0.0,  # no -0.0
        )
