"""How far to trust a gradient, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from .active_set import KINK

if TYPE_CHECKING:
    from .verdicts import Facts

__all__ = ["Finding", "GradientReport", "Reports", "Verdict", "shift_of"]


# In the order of their gravity.
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one point and its ghost problem, of matrices or of functions.

    Attributes
    ----------
    kkt, margin
        The residual of the point and its least margin, see `GradientReport`.
    residual, limit
        Of the ghost solve, and above which it has no solution.
    dependent, free
        Whether rows depend on each other, and whether there are directions in which the solution is
        not determined.
    shift, errors
        Of the certificate: the largest share of its margin by which a row may move on the way to
        the solution, and its estimates of relative errors.
    quiet
        Whether nothing that is weakly active shows in what is asked.
    unclear
        Whether it is known that rounding decides, or that the point is no solution.
    """

    kkt: float
    margin: float
    residual: float
    limit: float = GHOST
    dependent: bool = False
    free: bool = False
    shift: float = 0.0
    errors: tuple[float, ...] = ()
    quiet: bool = False
    unclear: bool = False

    @property
    def verdict(self) -> Verdict:
        """The gravest that applies."""
        accurate = self.kkt <= INACCURATE and all(error <= ERROR for error in self.errors)
        if self.unclear or not accurate:
            return "inaccurate_solution"
        if self.free or not self.residual <= self.limit:
            return "not_unique"
        if self.dependent:
            return "dependent_constraints"
        kink = not self.margin >= KINK or not self.shift <= SHIFT
        return "weakly_active" if kink and not self.quiet else "differentiable"


def shift_of(kkt: float, margin: float) -> float:
    """By which share of the least margin a row may move where the point's residual is all that is
    known of its distance to the solution."""
    return kkt / margin if margin > 0.0 else np.inf


UNSOLVED = GradientReport("inaccurate_solution", np.nan, 0, 0, np.nan, np.inf)
"""The report of an element that has no solution."""


class Reports(Sequence[GradientReport]):
    """The reports of a batch in its order, each made when it is looked at."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts alone, which is faster than to look at each report."""
        known = self._facts
        if len(self) == 1:
            return [known.verdict(0)]
        verdicts: list[Verdict] = ["differentiable"] * len(self)
        for i in np.flatnonzero(~known.beyond_doubt()).tolist():
            verdicts[i] = known.verdict(i)
        return verdicts

    def __len__(self) -> int:
        return len(self._facts.kkt)

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
        known, i = self._facts, range(len(self))[index]
        if not known.solved.item(i):
            return UNSOLVED
        return GradientReport(
            known.verdict(i),
            known.residual.item(i) + 0.0,
            known.rank.active.item(i),
            known.rank.deficiency.item(i),
            known.margin.item(i),
            known.kkt.item(i) + 0.0,  # no -0.0
        )
