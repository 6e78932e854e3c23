"""Hunts for the one thing that must not happen: a wrong gradient with the verdict `differentiable`.

    python benchmarks/hunt.py --count 10000 --seed 0        # the table, and every offender
    python benchmarks/hunt.py --case 4711                   # one program in detail

A program is built from a primal-dual solution, in sizes near 1 (`hunt_programs`), so that the truth
is known without any solver (`hunt_truth`). It then changes units and goes to some solver at some
tolerance; what comes back is compared in the units of the construction.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hunt_programs import Case, draw
from hunt_truth import difference, truth
from scipy import sparse

import ffoadapt

WRONG = 1e-4
"""A relative error above this is a wrong gradient ..."""

WRONG_AT_DEFAULTS = 1e-5
"""... or above this where the solver ran at its default tolerance, with polish."""


@dataclass
class Outcome:
    number: int
    text: str
    group: str
    verdict: str
    truth: str
    error: float
    seconds: float
    regular: bool
    report: str = ""

    @property
    def offender(self) -> bool:
        claimed = self.verdict == "differentiable" and self.truth in ("wrong", "kink", "singular")
        return claimed or self.verdict in ("exception", "nan")


def solve(case: Case) -> ffoadapt.Result:
    options: dict[str, Any] = {} if case.tolerance is None else {"tolerance": case.tolerance}
    if case.solver == "scs":
        options["max_iterations"] = 20_000
    return ffoadapt.solve(
        case.program(),
        case.solver,
        solver_options=options,
        on_failure="nan",
        polish=case.polish,
    )


def gradient_of(case: Case, result: ffoadapt.Result) -> dict[str, np.ndarray]:
    """The gradient of the layer, in the units of the construction."""
    R, C, t = case.rows, case.columns, case.objective
    scale = {"x": C, "s": 1 / R, "z": R / t}
    found = result.vjp(**{k: v * scale[k] for k, v in case.cotangents.items()})
    b = found.l + found.u if case.box else found.b
    P, A = (v.toarray() if sparse.issparse(v) else np.asarray(v) for v in (found.P, found.A))
    return {
        "q": t * C * found.q,
        "b": R * b,
        "A": R[:, None] * A * C,
        "P": t * C[:, None] * P * C,
    }


def error_of(case: Case, found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> float:
    if case.form == "sparse":  # gradients on the pattern
        true = {**true, "A": true["A"] * (case.A != 0), "P": true["P"] * (case.P != 0)}
    return difference(case, found, true)


def judge(number: int, seed: int) -> Outcome:
    """Draw, solve, differentiate and compare one program."""
    start = time.perf_counter()
    case = draw(number, seed)
    kind, condition, true = truth(case)
    regular = (
        kind == "smooth" and condition < 1e4 and case.margin > 0.05 and case.units == "none"
    ) and case.polish is not False
    group = case.family.split("+")[0]
    verdict, error, words = "unsolved", np.nan, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = solve(case)
        if result.status.solved:
            found = gradient_of(case, result)
            report = result.report()
            verdict, words = report.verdict, str(report).splitlines()[1]
            if not all(np.isfinite(g).all() for g in found.values()):
                verdict = "nan"
            elif true:
                error = error_of(case, found, true)
    except Exception:
        verdict, words = "exception", traceback.format_exc()
    if kind == "singular" and error <= 1e-6:
        kind = "right"  # rows so small that only their unit made M look singular
    if kind == "smooth" and verdict != "unsolved":
        default = case.tolerance is None and case.polish is not False
        limit = WRONG_AT_DEFAULTS if default else WRONG
        kind = "right" if error <= limit else "wrong"
    text = f"{case} cond={condition:.1e}"
    return Outcome(
        number, text, group, verdict, kind, error, time.perf_counter() - start, regular, words
    )


VERDICTS = (
    "differentiable",
    "weakly_active",
    "dependent_constraints",
    "not_unique",
    "inaccurate_solution",
    "unsolved",
    "nan",
    "exception",
)
TRUTHS = ("right", "wrong", "kink", "singular", "no reference")


def table(outcomes: Iterable[Outcome]) -> str:
    """The confusion table in markdown."""
    counts = Counter((o.verdict, o.truth if o.truth != "smooth" else "right") for o in outcomes)
    lines = ["| verdict | " + " | ".join(TRUTHS) + " |", "|---|" + "---|" * len(TRUTHS)]
    for verdict in VERDICTS:
        row = [counts[verdict, kind] for kind in TRUTHS]
        if any(row):
            lines.append(f"| {verdict} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def _judge(pair: tuple[int, int]) -> Outcome:
    return judge(*pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", type=int, default=None, help="judge this one program only")
    options = parser.parse_args()
    if options.case is not None:
        outcome = judge(options.case, options.seed)
        print(outcome.text, outcome.report, sep="\n")
        print(f"  {outcome.verdict}; {outcome.truth}, error {outcome.error:.1e}")
        return
    todo = [(k, options.seed) for k in range(options.first, options.first + options.count)]
    start = time.perf_counter()
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for outcome in pool.imap(_judge, todo, chunksize=20):
            outcomes.append(outcome)
            if outcome.offender:
                print(f"OFFENDER ({outcome.verdict}; {outcome.truth}, error {outcome.error:.1e})")
                print(f"  {outcome.text}\n{outcome.report}", flush=True)
    print(f"\n{len(outcomes)} programs, seed {options.seed}, {time.perf_counter() - start:.0f} s\n")
    print(table(outcomes))
    for name in sorted({o.group for o in outcomes}):
        regular = [o for o in outcomes if o.regular and o.group == name and o.verdict != "unsolved"]
        claimed = sum(o.verdict == "differentiable" for o in regular)
        if regular:
            share = 100 * claimed / len(regular)
            print(f"regular {name} programs called differentiable: {share:.1f} % of {len(regular)}")
    offenders = sum(o.offender for o in outcomes)
    print(f"\n{offenders} offenders; again with: python benchmarks/hunt.py --case NUMBER")


if __name__ == "__main__":
    main()
