"""Hunts for what must not happen: a wrong gradient that is called `differentiable`, a point that is
called OPTIMAL and is none, a feasible program that is refused.

    python benchmarks/hunt.py --count 10000 --seed 0        # the table, and every offender
    python benchmarks/hunt.py --case 4711                   # one program in detail
    python benchmarks/hunt.py --family all --solver all     # what people hand in, to every solver
    python benchmarks/hunt.py --solver ipm,ipm@torch        # a solver in torch's own arrays

A program is built from a primal-dual solution, in sizes near 1 (`hunt_programs`, `hunt_families`),
so that the truth is known without any solver (`hunt_truth`, `hunt_solution`). It then changes units
and goes to some solver at some tolerance; what comes back is compared in the units of the
construction.

An offender is
- a gradient called `differentiable` that is wrong, or one that is NaN; an exception;
- a point called OPTIMAL that violates a row by more than 1e-6 of its natural size (see
  `hunt_solution`), whether the program has a solution or contradicts itself;
- a point called OPTIMAL with an objective more than 1e-5 of its natural size off the optimum;
- a point called OPTIMAL of a program that is unbounded by more than 1e-5;
- a claim that a feasible program is infeasible or unbounded; with ``solver="auto"`` any failure on
  a program in float64.

Programs rounded to float32 are judged to that precision, and 99.9 % of them must be solved. Looser
tolerances than these that a program is solved with are granted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hunt_families import FAMILIES, draw_family, steps
from hunt_programs import Case, draw
from hunt_solution import missed
from hunt_truth import difference, truth
from scipy import sparse

import ffoadapt
from ffoadapt import NonnegativeCone, Status, ZeroCone
from ffoadapt._plugins.registry import registry

CHUNK = 20
"""Programs that a process gets at a time."""

WRONG = 1e-4
"""A relative error above this is a wrong gradient ..."""

WRONG_AT_DEFAULTS = 1e-5
"""... or above this where the solver ran at its default tolerance, with polish."""

VIOLATED = {"float64": 1e-6, "float32": 1e-5}
"""An OPTIMAL point violates no row by more than this, in natural sizes ..."""

OFF = {"float64": 1e-5, "float32": 1e-4}
"""... and its objective is not further off than this."""

SOLVED = 0.999
"""Of the programs in float32 at least this share is solved."""

RANDOM = "random"
"""The family of `hunt_programs`, which draws its own solver."""


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
    seed: int = 0
    family: str = RANDOM
    solver: str = ""
    asked: str = ""
    status: str = ""
    faults: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether its gradient is wrong, and not called so."""
        claimed = self.verdict == "differentiable" and self.truth in ("wrong", "kink", "singular")
        return claimed or self.verdict in ("exception", "nan")

    @property
    def offender(self) -> bool:
        return self.wrong or bool(self.faults)

    @property
    def single(self) -> bool:
        return " float32 " in self.text

    @property
    def solved(self) -> bool:
        return self.status.startswith("optimal")

    @property
    def again(self) -> str:
        """The command that repeats it."""
        words = f"python benchmarks/hunt.py --seed {self.seed} --case {self.number}"
        words += "" if self.family == RANDOM else f" --family {self.family}"
        return words + (f" --solver {self.asked}" if self.asked else "")


def settings_of(case: Case) -> dict[str, Any]:
    options: dict[str, Any] = {} if case.tolerance is None else {"tolerance": case.tolerance}
    if case.solver == "scs":
        options["max_iterations"] = 20_000
    return {"solver": name_of(case.solver), "solver_options": options, "polish": case.polish}


def name_of(solver: str) -> str:
    """The solver's name, without the framework in whose arrays it is to work ("ipm@torch")."""
    return solver.partition("@")[0]


def solve(case: Case) -> Any:
    if case.solver.endswith("@torch"):
        from hunt_traced import solve_in_torch

        return solve_in_torch(case, settings_of(case))
    return ffoadapt.solve(case.program(), on_failure="nan", **settings_of(case))


def solve_in_dtype(case: Case) -> tuple[str, np.ndarray, str]:
    """Status, x and what was said, of a program handed over as arrays of its dtype."""
    P, q, A, b = (v.astype(case.dtype) for v in case.data)
    settings = settings_of(case)
    try:
        if case.box:
            sol: Any = ffoadapt.box_qp(P, q, A, case.lower.astype(case.dtype), b, **settings)
        elif all(isinstance(cone, ZeroCone | NonnegativeCone) for cone in case.cones):
            on = case.equal
            sol = ffoadapt.qp(P, q, A[~on], b[~on], A[on], b[on], **settings)
        else:
            sol = ffoadapt.cone_program(P, q, A, b, case.cones, **settings)
    except ffoadapt.SolveError as error:
        status = error.statuses.get(0, Status.ERROR).value
        return status, np.full(q.size, np.nan), str(error)
    except ffoadapt.FFOAdaptError as error:
        return "refused", np.full(q.size, np.nan), str(error)
    status = getattr(sol, "status", Status.OPTIMAL)
    return status.value, np.asarray(sol.x, dtype=float), ""


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


def drawn(number: int, seed: int, family: str, solver: str) -> Case:
    """A program; ``solver`` is a name, or empty for the solver that the draw has."""
    case = draw(number, seed) if family == RANDOM else draw_family(number, seed, family)
    return replace(case, solver=solver) if solver else case


def judge(
    number: int, seed: int, family: str = RANDOM, solver: str = "", known: Any = None
) -> Outcome:
    """Draw, solve, differentiate and compare one program; ``known`` is its `truth`."""
    start = time.perf_counter()
    case = drawn(number, seed, family, solver)
    kind, condition, true = "not asked", np.nan, {}
    if case.differentiated:
        kind, condition, true = known or truth(case)
    regular = (
        kind == "smooth" and condition < 1e4 and case.margin > 0.05 and case.units == "none"
    ) and case.polish is not False
    group = case.family.split("+")[0]
    verdict, error, words = "unsolved", np.nan, ""
    status, faults = "", ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status, faults, words, result = judge_steps(case)
        if result is not None and result.status.solved and case.differentiated:
            found = gradient_of(case, result)
            report = result.report()
            verdict, words = report.verdict, str(report).splitlines()[1]
            if not all(np.isfinite(g).all() for g in found.values()):
                verdict = "nan"
            elif true:
                error = error_of(case, found, true)
        elif status.startswith("optimal"):
            verdict = "not asked"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of a solver is no Exception
        verdict, words = "exception", traceback.format_exc()
    if kind == "singular" and error <= 1e-6:
        kind = "right"  # rows so small that only their unit made M look singular
    if kind == "smooth" and verdict not in ("unsolved", "not asked"):
        default = case.tolerance is None and case.polish is not False
        limit = WRONG_AT_DEFAULTS if default else WRONG
        kind = "right" if error <= limit else "wrong"
    return Outcome(
        number,
        f"{case} cond={condition:.1e}",
        group,
        verdict,
        kind,
        error,
        time.perf_counter() - start,
        regular,
        words,
        seed,
        family,
        case.solver,
        solver,
        status,
        faults,
    )


def judge_steps(case: Case) -> tuple[str, tuple[str, ...], str, ffoadapt.Result | None]:
    """Status, faults and words of a program and of those that follow in a closed loop, to the first
    that fails; and the result of the first, where it has one."""
    following: Case | None = case
    first = None
    while following is not None:
        case = following
        if case.dtype == "float64":
            result = solve(case)
            first = first or result
            status, x, words = result.status.value, result.x, str(result.info.get("message", ""))
        else:
            status, x, words = solve_in_dtype(case)
        faults = faults_of(case, status, x)
        if faults or not status.startswith("optimal"):
            break
        following = steps(case, x * case.columns)
    return status, faults, f"{words} (step {case.step})" if case.step else words, first


def faults_of(case: Case, status: str, x: np.ndarray) -> tuple[str, ...]:
    """What is wrong with a status, and a point that is called optimal."""
    allowed = 10.0 * (case.tolerance or 0.0)
    if status == "optimal":
        miss = missed(case, x)
        faults = []
        if not miss.violation <= max(VIOLATED[case.dtype], allowed):
            what = "contradictory" if case.gap and case.q_shift is None else "feasible"
            faults.append(f"violated ({what}), by {miss.violation:.1e} in row {miss.row}")
        if not miss.objective <= max(OFF[case.dtype], allowed):
            faults.append(f"objective off, by {miss.objective:.1e}")
        if case.q_shift is not None and case.gap > max(OFF[case.dtype], allowed):
            faults.append(f"unbounded called optimal, by {case.gap:.1e}")
        return tuple(faults)
    if case.gap or status == "optimal_inaccurate":
        return ()
    if status in (Status.PRIMAL_INFEASIBLE.value, Status.DUAL_INFEASIBLE.value):
        return (f"claimed {status}",) if case.dtype == "float64" else ()
    if case.solver == "auto" and case.dtype == "float64":
        return (f"not solved: {status}",)
    return ()


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


def rows(outcomes: Sequence[Outcome]) -> str:
    """By family and solver: how the solves ended, and what is wrong."""
    names = ("optimal", "inaccurate", "infeasible", "unbounded", "no answer")
    wrongs = ("violated", "objective", "claimed", "not solved", "unbounded", "gradient")
    lines = [
        "| family | solver | programs | " + " | ".join(names) + " | float32 solved | offenders |",
        "|---|---|" + "--:|" * (len(names) + 3),
    ]
    words = {
        "optimal": "optimal",
        "optimal_inaccurate": "inaccurate",
        "primal_infeasible": "infeasible",
        "dual_infeasible": "unbounded",
    }
    asked = {(o.group if o.family != RANDOM else RANDOM, o.asked or "drawn") for o in outcomes}
    for family, solver in sorted(asked):
        some = [
            o
            for o in outcomes
            if (o.group if o.family != RANDOM else RANDOM, o.asked or "drawn") == (family, solver)
        ]
        counts = Counter(words.get(o.status, "no answer") for o in some)
        single = [o for o in some if o.single]
        share = "-"
        if single:
            share = f"{100 * sum(o.solved for o in single) / len(single):.2f} % of {len(single)}"
        kinds = Counter(
            next((w for w in wrongs if fault.startswith(w)), fault)
            for o in some
            for fault in (*o.faults, *(["gradient"] if o.wrong else []))
        )
        wrong = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "0"
        cells = [family, solver, str(len(some)), *(str(counts[name]) for name in names)]
        lines.append(f"| {' | '.join(cells)} | {share} | {wrong} |")
    return "\n".join(lines)


Task = tuple[int, int, str, tuple[str, ...]]


def _judge(task: Task) -> list[Outcome]:
    number, seed, family, solvers = task
    found, known = [], None
    for solver in solvers:
        case = drawn(number, seed, family, solver)
        if solver not in ("", "auto") and not takes(solver, case):
            continue
        if known is None and case.differentiated and len(solvers) > 1:
            known = truth(case)
        found.append(judge(number, seed, family, solver, known))
    return found


def takes(solver: str, case: Case) -> bool:
    """Whether a solver has the cones of the program."""
    cones = registry.solvers("cone").get(name_of(solver))
    return cones is None or {cone.kind for cone in case.cones} <= cones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--family",
        default=RANDOM,
        help=f"{RANDOM} (the default), {', '.join(FAMILIES)}; several with commas; all but the "
        "first by turns: all",
    )
    parser.add_argument(
        "--solver",
        default=None,
        help="a name (ipm@torch for one in torch's arrays), several with commas, auto, or all "
        "installed; where nothing is said, auto, "
        "and for random programs the solver that was drawn",
    )
    parser.add_argument(
        "--log", type=Path, help="outcomes as JSON lines; those in it are not redone"
    )
    parser.add_argument("--case", type=int, default=None, help="judge this one program only")
    options = parser.parse_args()
    families = list(FAMILIES) if options.family == "all" else options.family.split(",")
    for name in families:
        if name != RANDOM and name not in FAMILIES:
            parser.error(f"there is no family {name!r}; there are {RANDOM}, {', '.join(FAMILIES)}")
    solvers = solvers_of(options.solver, families)
    if options.case is not None:
        family = families[options.case % len(families)]
        for outcome in _judge((options.case, options.seed, family, solvers)):
            print(outcome.text, outcome.report, sep="\n")
            print(f"  {outcome.verdict}; {outcome.truth}, error {outcome.error:.1e}")
            print(f"  {outcome.status}{''.join(f'; {fault}' for fault in outcome.faults)}")
        return
    numbers = range(options.first, options.first + options.count)
    todo = [(k, options.seed, families[k % len(families)], solvers) for k in numbers]
    outcomes = list(logged(options.log))
    done = {(o.number, o.seed, o.family) for o in outcomes}
    todo = [task for task in todo if task[:3] not in done]
    start = time.perf_counter()
    judged = 0
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for some in pool.map(_judge, todo, chunksize=CHUNK):
                judged += 1
                outcomes += some
                if options.log is not None:
                    with options.log.open("a") as file:
                        file.writelines(json.dumps(asdict(o)) + "\n" for o in some)
                for outcome in some:
                    if outcome.offender:
                        show(outcome)
        except BrokenProcessPool:
            cases = [task[0] for task in todo[judged : judged + CHUNK * options.jobs]]
            raise SystemExit(f"a solver ended its process in one of the cases {cases}") from None
    seconds = time.perf_counter() - start
    print(f"\n{len(outcomes)} programs, seed {options.seed}, {seconds:.0f} s\n")
    print(table([o for o in outcomes if "not asked" not in (o.verdict, o.truth)]))
    for name in sorted({o.group for o in outcomes}):
        regular = [o for o in outcomes if o.regular and o.group == name and o.verdict in VERDICTS]
        regular = [o for o in regular if o.verdict != "unsolved"]
        claimed = sum(o.verdict == "differentiable" for o in regular)
        if regular:
            share = 100 * claimed / len(regular)
            print(f"regular {name} programs called differentiable: {share:.1f} % of {len(regular)}")
    print(f"\n{rows(outcomes)}")
    offenders = sum(o.offender for o in outcomes)
    print(f"\n{offenders} offenders; again with: python benchmarks/hunt.py --case NUMBER")
    single = [o for o in outcomes if o.single]
    if sum(o.solved for o in single) < SOLVED * len(single):
        print(f"fewer than {SOLVED:.1%} of the programs in float32 were solved")


def show(outcome: Outcome) -> None:
    what = [*outcome.faults]
    if outcome.wrong:
        what.append(f"{outcome.verdict}; {outcome.truth}, error {outcome.error:.1e}")
    print(f"OFFENDER ({'; '.join(what)})")
    print(f"  {outcome.text}\n  {outcome.again}\n{outcome.report}", flush=True)


def solvers_of(wanted: str | None, families: Sequence[str]) -> tuple[str, ...]:
    """The solvers asked for; an empty name is the one that the draw has."""
    if wanted is None:
        return ("",) if families == [RANDOM] else ("auto",)
    if wanted == "all":
        return ("auto", *ffoadapt.solvers())
    return tuple(wanted.split(","))


def logged(log: Path | None) -> Iterable[Outcome]:
    if log is None or not log.exists():
        return
    for line in log.read_text().splitlines():
        fields = json.loads(line)
        yield Outcome(**{**fields, "faults": tuple(fields["faults"])})


if __name__ == "__main__":
    main()
