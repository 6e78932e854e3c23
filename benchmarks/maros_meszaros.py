"""Gradients through the Maros-Meszaros quadratic programs: are they right, or do they say why not?

    python benchmarks/maros_meszaros.py                 # all; resumes where it was stopped
    python benchmarks/maros_meszaros.py HS76 DUAL4      # these, anew
    python benchmarks/maros_meszaros.py --list

Every problem is solved by the first installed solver that gives an accurate point, then
differentiated for a random cotangent on x. Where the verdict is `differentiable`, the ghost
residual must be at most 1e-8 and the gradient must agree with central differences of tight solves
along random directions in all data at once: q, the bounds (equal ones stay equal), A on its
pattern, and P, by a scaling of its rows and columns that keeps it semidefinite and on its pattern.

The problems are looked for in $FFOADAPT_DATA, then in ../shared/data from the project's root. Each
runs in a process of its own with a time limit. Prints one line a problem and writes a table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.io import loadmat

import ffoadapt
from ffoadapt import ConeProgram
from ffoadapt._plugins.registry import registry
from ffoadapt._solve.options import common_names

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "maros_meszaros.jsonl"
TABLE = ROOT / "docs" / "maros_meszaros.md"

SOLVERS = ("piqp", "clarabel", "highs", "osqp", "scs", "proxqp")
"""Tried in this order until one gives an accurate point; those not installed are left out."""

ACCURATE = 1e-9
"""A relative KKT residual below this ends the search for a solver."""

GHOST = 1e-8
AGREE = 1e-4
DIRECTIONS = 5
LARGEST = 3_000
"""Above this number of variables nothing is compared with differences."""

STEPS = (1e-5, 1e-6, 1e-4, 1e-7, 1e-8)
"""Relative steps; the first two whose central differences agree are believed."""


@dataclass
class Row:
    """What is known of one problem."""

    name: str
    n: int = 0
    m: int = 0
    solver: str = ""
    status: str = ""
    verdict: str = ""
    kkt: float = np.nan
    residual: float = np.nan
    margin: float = np.nan
    active: int = 0
    rank_deficiency: int = 0
    finite: bool = False
    difference: float | None = None
    note: str = ""
    forward: float = np.nan
    backward: float = np.nan
    seconds: float = np.nan

    @property
    def good(self) -> bool:
        """Whether what must hold does."""
        if not self.finite:
            return self.status not in ("optimal", "optimal_inaccurate") and "exc" not in self.note
        if self.verdict != "differentiable":
            return True
        return self.residual <= GHOST and (self.difference is None or self.difference <= AGREE)

    def line(self) -> str:
        difference = "-" if self.difference is None else f"{self.difference:.1e}"
        return (
            f"{'ok ' if self.good else 'BAD'} {self.name:9} n={self.n:<6} m={self.m:<6} "
            f"{self.solver:9} {self.verdict or self.status:22} kkt={self.kkt:.0e} "
            f"ghost={self.residual:.0e} margin={self.margin:.0e} rank-={self.rank_deficiency:<4} "
            f"fd={difference:8} {self.seconds:6.1f}s {self.note}"
        )


def data_folder() -> Path | None:
    """The folder of the .mat files, if it is there."""
    for base in (os.environ.get("FFOADAPT_DATA"), ROOT.parent / "shared" / "data"):
        if base and (Path(base) / "maros_meszaros").is_dir():
            return Path(base) / "maros_meszaros"
    return None


@dataclass
class Problem:
    """minimize 1/2 x'Px + q'x subject to l <= Ax <= u."""

    P: Any
    q: np.ndarray
    A: Any
    l: np.ndarray
    u: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Problem:
        raw = loadmat(path)
        lower, upper = (raw[k].ravel().astype(float) for k in ("l", "u"))
        P = sparse.csc_matrix(raw["P"], dtype=float)
        return cls(
            0.5 * (P + P.T),
            raw["q"].ravel().astype(float),
            sparse.csc_matrix(raw["A"], dtype=float),
            np.where(lower <= -1e19, -np.inf, lower),
            np.where(upper >= 1e19, np.inf, upper),
        )

    def program(self) -> ConeProgram:
        return ConeProgram.from_box(self.P, self.q, self.A, self.l, self.u)


class Direction:
    """A curve t -> problem through the given one, with its tangent."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self.problem = problem
        n, m = problem.q.size, problem.l.size
        self.scaling = rng.standard_normal(n)
        self.q = rng.standard_normal(n) * typical(problem.q)
        self.A = problem.A.copy()
        self.A.data = problem.A.data * rng.standard_normal(problem.A.nnz)
        self.u = rng.standard_normal(m) * typical(problem.u)
        lower = rng.standard_normal(m) * typical(problem.l)
        self.l = np.where(problem.l == problem.u, self.u, lower)

    def at(self, t: float) -> Problem:
        p = self.problem
        D = sparse.diags_array(1 + t * self.scaling)
        return Problem(
            sparse.csc_matrix(D @ p.P @ D),
            p.q + t * self.q,
            p.A + t * self.A,
            p.l + t * self.l,
            p.u + t * self.u,
        )

    def slope(self, gradient: Any) -> tuple[float, float]:
        """The derivative along the curve, and the size of what adds up to it."""
        D = sparse.diags_array(self.scaling)
        dP = sparse.csc_matrix(D @ self.problem.P + self.problem.P @ D)
        finite = [np.isfinite(v) for v in (self.problem.l, self.problem.u)]
        parts = [
            sparse.csc_matrix(gradient.P).multiply(dP).tocsc().data,
            gradient.q * self.q,
            sparse.csc_matrix(gradient.A).multiply(self.A).tocsc().data,
            (gradient.l * self.l)[finite[0]],
            (gradient.u * self.u)[finite[1]],
        ]
        everything = np.concatenate(parts)
        return float(everything.sum()), float(np.linalg.norm(everything))


def typical(values: np.ndarray) -> np.ndarray:
    """The sizes of the entries; those of zeros are the median of the others, of infinities 0."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    return np.where(size > 0, size, np.median(size[size > 0]) if size.any() else 1.0)


def attempt(problem: Problem, solver: str, limit: float, tight: bool = False) -> Any:
    """The result of one solver, or None."""
    options: dict[str, Any] = {"tolerance": 1e-11} if tight else {}
    if "time_limit" in common_names(registry.get("solver", solver)):
        options["time_limit"] = limit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = ffoadapt.solve(
            problem.program(),
            solver,
            solver_options=options,
            on_failure="nan",
            polish=True if tight else "auto",
        )
    return result


def best_solution(problem: Problem, limit: float) -> tuple[str, Any, Any]:
    """Solver, result and report of the first accurate solution, or of the most accurate one."""
    best: tuple[float, str, Any, Any] | None = None
    failures: list[str] = []
    start = time.perf_counter()
    for solver in SOLVERS:
        if solver not in ffoadapt.solvers() or (best and time.perf_counter() - start > limit):
            continue
        try:
            result = attempt(problem, solver, limit)
        except ffoadapt.FFOAdaptError as error:
            failures.append(f"{solver}: {error}")
            continue
        if not result.status.solved:
            failures.append(f"{solver}: {result.status.value}")
            continue
        report = result.report()
        if best is None or report.kkt_residual < best[0]:
            best = report.kkt_residual, solver, result, report
        if report.kkt_residual <= ACCURATE:
            break
    if best is None:
        raise RuntimeError("; ".join(failures))
    return best[1:]


def examine(path: Path, limit: float) -> Row:
    """Solve, differentiate, report, compare."""
    problem = Problem.load(path)
    row = Row(path.stem, problem.q.size, problem.l.size)
    start = time.perf_counter()
    rng = np.random.default_rng(sum(path.stem.encode()))
    try:
        row.solver, result, _ = best_solution(problem, limit)
        row.status = result.status.value
    except RuntimeError as error:
        row.status, row.note = "unsolved", str(error)[:200]
        return row
    row.forward = time.perf_counter() - start
    v = rng.standard_normal(row.n)
    begin = time.perf_counter()
    gradient = result.vjp(x=v)
    row.backward = time.perf_counter() - begin
    row.finite = all(
        np.isfinite(g.data if sparse.issparse(g) else g).all() for g in vars(gradient).values()
    )
    report = result.report()
    row.verdict, row.kkt, row.residual = report.verdict, report.kkt_residual, report.residual
    row.margin, row.active = report.margin, report.active
    row.rank_deficiency = report.rank_deficiency
    if report.verdict == "differentiable" and row.n <= LARGEST:
        row.difference, row.note = compare(problem, row.solver, gradient, v, rng, limit)
    row.seconds = time.perf_counter() - start
    return row


def compare(
    problem: Problem,
    solver: str,
    gradient: Any,
    v: np.ndarray,
    rng: np.random.Generator,
    limit: float,
) -> tuple[float | None, str]:
    """The largest relative disagreement with differences over the directions that have any."""
    worst, compared = 0.0, 0
    for _ in range(DIRECTIONS):
        direction = Direction(problem, rng)
        slope, size = direction.slope(gradient)
        difference = difference_along(direction, solver, v, size, limit)
        if difference is not None:
            worst = max(worst, abs(difference - slope) / max(size, abs(slope), 1e-300))
            compared += 1
    note = "" if compared == DIRECTIONS else f"differences along {compared} of {DIRECTIONS}"
    return (worst if compared else None), note


def difference_along(
    direction: Direction, solver: str, v: np.ndarray, size: float, limit: float
) -> float | None:
    """A central difference that does not change with the step; None where there is none."""
    values: list[float] = []
    for step in STEPS:
        ends = []
        for t in (step, -step):
            for name in (solver, *(s for s in SOLVERS if s != solver)):
                try:
                    result = attempt(direction.at(t), name, limit, tight=True)
                except ffoadapt.FFOAdaptError:
                    continue
                if result.status.solved and result.report().kkt_residual <= ACCURATE:
                    ends.append(float(v @ result.x))
                    break
        if len(ends) < 2:
            continue
        new = (ends[0] - ends[1]) / (2 * step)
        if any(abs(new - old) <= 0.2 * AGREE * max(size, abs(new)) for old in values):
            return new
        values.append(new)
    return None


def child(path: Path, limit: float, connection: Any) -> None:
    try:
        row = examine(path, limit)
    except BaseException:
        row = Row(path.stem, status="exception", note=traceback.format_exc()[-300:])
    connection.send(row)


def run(path: Path, limit: float) -> Row:
    """`examine` in a process of its own, ended after 6 times the limit."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(path, limit, theirs))
    process.start()
    theirs.close()
    try:
        row: Row = ours.recv() if ours.poll(6 * limit) else Row(path.stem, status="time limit")
    except EOFError:
        row = Row(path.stem, status="crashed")
    process.terminate()
    process.join()
    return row


def write_table(rows: list[Row], path: Path) -> None:
    verdicts = sorted({r.verdict or r.status for r in rows})
    counts = ", ".join(f"{sum((r.verdict or r.status) == v for r in rows)} `{v}`" for v in verdicts)
    compared = [r for r in rows if r.difference is not None]
    lines = [
        "# The Maros-Meszaros problems",
        "",
        "Written by `python benchmarks/maros_meszaros.py`: gradients for a random cotangent on x.",
        "`fd` is the largest relative disagreement with central differences of tight solves along "
        f"{DIRECTIONS} random directions in all data, for verdict `differentiable` and up to "
        f"{LARGEST:,} variables.",
        "",
        f"{len(rows)} problems: {counts}. {len(compared)} compared with differences, "
        f"the worst by {max((r.difference for r in compared), default=0.0):.1e}. "
        f"{sum(not r.good for r in rows)} break a promise.",
        "",
        "| problem | n | rows | solver | verdict | KKT | ghost | margin | rank deficiency | fd |",
        "|---|--:|--:|---|---|--:|--:|--:|--:|--:|",
    ]
    for r in sorted(rows, key=lambda r: r.name):
        difference = "" if r.difference is None else f"{r.difference:.1e}"
        lines.append(
            f"| {r.name} | {r.n} | {r.m} | {r.solver} | {r.verdict or r.status} | {r.kkt:.0e} | "
            f"{r.residual:.0e} | {r.margin:.0e} | {r.rank_deficiency} | {difference} |"
        )
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="problems; all that have no result yet if none")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one solve")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    folder = data_folder()
    if folder is None:
        print("skipped: no maros_meszaros folder in $FFOADAPT_DATA or in ../shared/data")
        return
    paths = sorted(folder.glob("*.mat"), key=lambda p: p.stat().st_size)
    if options.list:
        print(*(p.stem for p in paths))
        return
    done: dict[str, Row] = {}
    if options.results.exists():
        for line in options.results.read_text().splitlines():
            row = Row(**json.loads(line))
            done[row.name] = row
    for path in paths:
        if path.stem not in options.names if options.names else path.stem in done:
            continue
        row = done[path.stem] = run(path, options.limit)
        print(row.line(), flush=True)
        options.results.parent.mkdir(parents=True, exist_ok=True)
        with options.results.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    write_table(list(done.values()), options.table)
    bad = [row.name for row in done.values() if not row.good]
    print(f"{len(done)} problems, {len(bad)} break a promise{': ' if bad else ''}{' '.join(bad)}")


if __name__ == "__main__":
    main()
