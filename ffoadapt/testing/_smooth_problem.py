"""`SmoothProblem`: a small program of functions, and what a solver of that form is given of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._plugins.registry import registry
from .._program.points import Status
from .._smooth.evaluation import Evaluation
from .._smooth.form import SmoothForm
from .._smooth.functions import Functions
from .._smooth.layer import SmoothLayer
from .._smooth.model import Model
from .._types import Floats

__all__ = ["SmoothProblem"]

Function = Callable[[Floats], tuple[Any, Floats]]
"""y (n,) to a value and its gradient (n,), or to m values and their gradients (m, n)."""


@dataclass(frozen=True, eq=False)
class SmoothProblem:
    """minimize objective(y), inequalities(y) <= 0, equalities(y) = 0, lower <= y <= upper.

    Attributes
    ----------
    name, about
        A word, and a line on what it is there to catch.
    lower, upper
        (n,) bounds, infinite where there are none.
    start
        (n,) where solvers start.
    typical
        (n,) sizes of the variables, for the program whose variables differ by orders of magnitude.
    status
        The status that a solver should report.
    y, duals
        The solution and its multipliers (z_ineq, z_eq, z_lower, z_upper), where they are known.
    regular
        Whether the multipliers are unique and no row is at the edge of being active.
    """

    name: str
    about: str
    objective: Function
    start: Floats
    inequalities: Function | None = None
    equalities: Function | None = None
    lower: Floats | None = None
    upper: Floats | None = None
    typical: Floats | None = None
    status: Status = Status.OPTIMAL
    y: Floats | None = None
    duals: Mapping[str, Floats] = field(default_factory=dict)
    regular: bool = True

    def __repr__(self) -> str:
        return f"SmoothProblem({self.name!r}: {self.about})"

    @property
    def n(self) -> int:
        return self.start.size

    @property
    def solvable(self) -> bool:
        """Whether it has a solution."""
        return self.status.solved

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """(n,) lower and upper, infinite where there are none."""
        low = np.full(self.n, -np.inf) if self.lower is None else self.lower
        high = np.full(self.n, np.inf) if self.upper is None else self.upper
        return low, high

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of constraint that a solver needs."""
        low, high = self.bounds
        there = {
            "bounds": bool(np.isfinite(low).any() or np.isfinite(high).any()),
            "inequalities": self.inequalities is not None,
            "equalities": self.equalities is not None,
        }
        return frozenset(kind for kind, on in there.items() if on)

    def form(self, before: Callable[[], object] = lambda: None) -> SmoothForm:
        """A fresh form; ``before`` is called before each evaluation of the objective."""

        def objective(params: Any, y: Floats) -> Any:
            before()
            return self.objective(y)

        named: dict[str, Any] = {"objective": objective}
        for name in ("inequalities", "equalities"):
            named[name] = _of_y(getattr(self, name))
        framework = registry.get("framework", "numpy")
        model = Model(Functions(framework, named, lambda leaves: None, (self.n,)), [])
        model.check(self.start)
        low, high = self.bounds
        first = Evaluation(model, self.start.copy())
        return SmoothForm(first, low.copy(), high.copy(), self.typical)

    def layer(self, solver: Any, **settings: Any) -> tuple[SmoothLayer, dict[str, Floats]]:
        """A layer whose params tilt the objective and shift the rows, and params of zeros."""
        rows = {
            name: np.size(function(self.start)[0])
            for name in ("inequalities", "equalities")
            if (function := getattr(self, name)) is not None
        }
        params = {"tilt": np.zeros(self.n), **{k: np.zeros(m) for k, m in rows.items()}}

        def objective(p: Any, y: Floats) -> Any:
            value, gradient = self.objective(y)
            moved = {k: np.zeros((1, m)) for k, m in rows.items()}
            return value + p["tilt"] @ y, ({"tilt": y, **moved}, gradient + p["tilt"])

        def shifted(name: str) -> Any:
            function = getattr(self, name)
            if function is None:
                return None

            def values(p: Any, y: Floats) -> Any:
                value, gradient = function(y)
                m = rows[name]
                moved = {k: np.zeros((m, size)) for k, size in rows.items()}
                moved[name] = np.eye(m)
                return value + p[name], ({"tilt": np.zeros((m, self.n)), **moved}, gradient)

            return values

        made = SmoothLayer(
            objective,
            shifted("inequalities"),
            shifted("equalities"),
            self.bounds,
            start=self.start,
            params=params,
            solver=solver,
            typical=self.typical,
            **settings,
        )
        return made, params


def _of_y(function: Function | None) -> Any:
    return None if function is None else lambda params, y: function(y)
