"""`SolverSuite`: the conformance checks as pytest tests. pytest is not imported here.

class TestMine(ffoadapt.testing.SolverSuite):
    solver = "mine"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .._plugins.solver import Solver
from ._checks import Case, cases
from ._report import all_waivers, check_waivers
from ._subject import CheckSettings, form_of

__all__ = ["SolverSuite"]


class SolverSuite:
    """One test for each check and problem; subclass it as ``TestMine`` and set ``solver``.

    Attributes
    ----------
    solver
        A name, a `Solver` class or object, or a decorated function.
    solver_options
        Options for every solve.
    tolerance
        How far, relative to their size, points may be from optimal. A solver with the common
        option ``tolerance`` is asked for a hundredth of it.
    waive
        Reasons by the name of a check, of a problem, or "check-problem", or a pattern of these
        (``"*-lp"``): not run, shown as skipped. Besides those of the solver's own `Solver.waive`,
        which ``ffoadapt check`` reads too.
    seed
        Draws the numbers of the problems.
    """

    solver: ClassVar[str | Solver | type[Solver]]
    solver_options: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-6
    waive: ClassVar[Mapping[str, str]] = {}
    seed: ClassVar[int] = 0

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """pytest's hook: one test a case."""
        if "case" in metafunc.fixturenames:
            check_waivers(self.waive)
            chosen = cases(self.seed, form_of(self.solver))
            metafunc.parametrize("case", chosen, ids=[case.id for case in chosen])

    def test_solver(self, case: Case) -> None:
        """A check on a problem."""
        settings = CheckSettings(self.solver_options, self.tolerance, self.seed)
        case.run(self.solver, settings, all_waivers(self.solver, self.waive))
