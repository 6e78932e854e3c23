"""`check_solver`: the conformance checks of a solver without pytest, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._exceptions import OptionError
from .._text import told
from ._checks import CHECKS, SMOOTH_CHECKS, cases, known_waivers
from ._subject import AnySolver, CheckFailure, CheckSettings, CheckSkipped, form_of, load

__all__ = ["CheckReport", "CheckResult", "check_solver", "check_waivers"]


@dataclass(frozen=True)
class CheckResult:
    """What one check said of one problem (``"-"`` where it needs none)."""

    check: str
    problem: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What all checks said of a solver; ``str()`` is a table, failures explained below it."""

    solver: str
    results: tuple[CheckResult, ...]
    form: Literal["cone", "smooth"] = "cone"

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> list[CheckResult]:
        """The failed ones."""
        return [result for result in self.results if result.outcome == "failed"]

    def __str__(self) -> str:
        total = Counter(result.outcome for result in self.results)
        counts = ", ".join(f"{total[k]} {k}" for k in ("passed", "failed", "skipped"))
        lines = [f"solver {self.solver!r}: {counts}", ""]
        width = max((len(result.check) for result in self.results), default=5)
        lines.append(f"{'check':<{width}}  passed  failed  skipped")
        for check in dict.fromkeys(result.check for result in self.results):
            seen = Counter(r.outcome for r in self.results if r.check == check)
            cells = (seen["passed"], seen["failed"], seen["skipped"])
            row = f"{check:<{width}}  " + "  ".join(
                f"{n or '-':>{w}}" for n, w in zip(cells, (6, 6, 7), strict=True)
            )
            lines.append(row)
        lines += self._explained()
        return "\n".join(lines)

    def _explained(self) -> list[str]:
        lines = []
        checks = SMOOTH_CHECKS if self.form == "smooth" else CHECKS
        about = {check.name: check.about for check in checks}
        shown: dict[str, int] = Counter()
        for result in self.failures:
            shown[result.check] += 1
            if shown[result.check] == 1:
                lines += ["", f"FAILED {result.check}: {about.get(result.check, '')}"]
            if shown[result.check] <= 3:
                lines.append(f"  {result.problem}: {result.detail}")
            elif shown[result.check] == 4:
                count = sum(r.check == result.check for r in self.failures)
                lines.append(f"  and {count - 3} more")
        reasons = Counter(r.detail for r in self.results if r.outcome == "skipped")
        if reasons:
            lines += ["", "skipped:", *(f"  {n:4d} x {why}" for why, n in reasons.most_common())]
        return lines


def check_solver(
    solver: AnySolver,
    *,
    solver_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-6,
    waive: Mapping[str, str] | None = None,
) -> CheckReport:
    """Run the conformance checks of a solver.

    Parameters
    ----------
    solver
        A name from `ffoadapt.solvers`, a `Solver` object, or a decorated function.
    solver_options
        Options for every solve.
    seed
        Draws the numbers of the problems.
    tolerance
        How far, relative to their size, points may be from optimal.
    waive
        Reasons by the name of a check, of a problem, or "check-problem": not run, shown as
        skipped.

    Returns
    -------
    CheckReport
        ``.results`` (`CheckResult`: check, problem, outcome, detail), ``.ok``; print it for a
        table with every failure explained.

    Raises
    ------
    PluginError
        Where there is no such solver or it cannot be loaded.
    """
    check_waivers(waive)
    _, name = load(solver)
    settings = CheckSettings(dict(solver_options or {}), tolerance, seed)
    results = []
    form = form_of(solver)
    for case in cases(seed, form):
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        detail = ""
        try:
            case.run(solver, settings, waive)
        except CheckSkipped as skipped:
            outcome, detail = "skipped", str(skipped)
        except CheckFailure as failure:
            outcome, detail = "failed", str(failure)
        except Exception as error:
            outcome, detail = "failed", told(error)
        problem = case.problem.name if case.problem else "-"
        results.append(CheckResult(case.check.name, problem, outcome, detail))
    return CheckReport(name, tuple(results), form)


def check_waivers(waive: Mapping[str, str] | None) -> None:
    """Raise `OptionError` where a waived name is that of no check."""
    odd = sorted(set(waive or ()) - known_waivers())
    if odd:
        checks = dict.fromkeys(check.name for check in (*CHECKS, *SMOOTH_CHECKS))
        raise OptionError(
            f"waive names {', '.join(map(repr, odd))}; the checks are {', '.join(checks)} (or "
            "problem, or check-problem)"
        )
