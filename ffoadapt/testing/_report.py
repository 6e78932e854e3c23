"""`check_solver`: the conformance checks of a solver without pytest, as a table."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._exceptions import OptionError
from .._runtime.text import told
from ._checks import CHECKS, SMOOTH_CHECKS, cases, known_waivers
from ._subject import AnySolver, CheckFailure, CheckSettings, CheckSkipped, form_of, load

__all__ = ["CheckReport", "CheckResult", "all_waivers", "check_solver", "check_waivers"]


@dataclass(frozen=True)
class CheckResult:
    """What one check said of one problem (``"-"`` where it needs none)."""

    check: str
    problem: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""
    cause: str = ""
    """Of a failed one: what went wrong beneath, the same for checks that fail for one reason."""


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

    @property
    def causes(self) -> list[list[CheckResult]]:
        """The failures by what probably caused them, the first of each the most telling.

        The first check that fails on a problem explains the later ones on it, because the telling
        ones come first; where the same lies beneath on several problems, but for numbers, it is one
        cause.
        """
        firsts: dict[str, str] = {}
        groups: dict[str, list[CheckResult]] = {}
        for result in self.failures:
            key = re.sub(r"[-+]?\d[\d.e+-]*", "#", result.cause or result.detail)
            if result.problem != "-":
                key = firsts.setdefault(result.problem, key)
            groups.setdefault(key, []).append(result)
        return list(groups.values())

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
        every = SMOOTH_CHECKS if self.form == "smooth" else CHECKS
        about = {check.name: check.about for check in every}
        for first, *others in self.causes:
            lines += ["", f"FAILED {first.check}: {about.get(first.check, '')}"]
            lines.append(f"  {first.problem}: {first.detail}")
            same = [r.problem for r in others if r.check == first.check]
            if same:
                lines.append(f"  the same on {', '.join(dict.fromkeys(same))}")
            later = Counter(r.check for r in others if r.check != first.check)
            if later:
                checks = ", ".join(f"{check} ({n})" for check, n in later.items())
                lines.append(
                    f"  perhaps for this reason, since on the same problems, {later.total()} later "
                    f"checks fail: {checks}"
                )
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
        Reasons by the name of a check, of a problem, or "check-problem", or a pattern of these
        (``"*-lp"``): not run, shown as skipped. Besides those of the solver's own `Solver.waive`.

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
    waive = all_waivers(solver, waive)
    _, name = load(solver)
    settings = CheckSettings(dict(solver_options or {}), tolerance, seed)
    results = []
    form = form_of(solver)
    for case in cases(seed, form):
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        detail = cause = ""
        try:
            case.run(solver, settings, waive)
        except CheckSkipped as skipped:
            outcome, detail = "skipped", str(skipped)
        except CheckFailure as failure:
            outcome, detail, cause = "failed", str(failure), _beneath(failure)
        except Exception as error:
            outcome, detail = "failed", told(error)
        problem = case.problem.name if case.problem else "-"
        results.append(CheckResult(case.check.name, problem, outcome, detail, cause))
    return CheckReport(name, tuple(results), form)


def _beneath(failure: BaseException) -> str:
    """The words of the failed check that this one failed by."""
    while isinstance(failure.__cause__, CheckFailure):
        failure = failure.__cause__
    return str(failure)


def all_waivers(solver: AnySolver, waive: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of the solver's class and these, checked."""
    waivers = {**load(solver)[0].waive, **(waive or {})}
    check_waivers(waivers)
    return waivers


def check_waivers(waive: Mapping[str, str]) -> None:
    """Raise `OptionError` where a pattern is for no check."""
    odd = [pattern for pattern in waive if not fnmatch.filter(known_waivers(), pattern)]
    if odd:
        checks = dict.fromkeys(check.name for check in (*CHECKS, *SMOOTH_CHECKS))
        raise OptionError(
            f"waive names {', '.join(map(repr, odd))}; the checks are {', '.join(checks)} (or "
            "problem, or check-problem, or a pattern of these)"
        )
