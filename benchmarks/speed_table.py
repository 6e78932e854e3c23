"""Measures every installed solver on one thread: the times from which ``solver="auto"`` chooses.

    python benchmarks/speed_table.py            # measure, print, write benchmarks/results/speed.csv
    python benchmarks/speed_table.py --apply    # and write speed={...} into every plugin's record

A time is that of a whole forward call of `ffoadapt.qp` or `ffoadapt.cone_program` on NumPy arrays,
so that a solver pays for its adapter, and an inaccurate one for the polish it needs; in seconds of
CPU, which with one thread are those of a quiet machine, however busy this one is. A solver whose
polished x is still off by more than `ACCURACY` did not solve the program: its time counts as
`UNSOLVED` seconds, which a size in between feels too (times are interpolated).
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from problems import cvxpy_problem, dense_lp, dense_qp, sparse_lp, sparse_qp

import ffoadapt
from ffoadapt._plugins.registry import registry

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
ACCURACY = 1e-6
UNSOLVED = 1e4
SLOWEST = 5.0  # seconds that the next size may take by extrapolation
HOPELESS = 25.0  # times slower than the fastest: larger sizes are not measured

SIZES = {
    "dense": (10, 50, 100, 200, 500, 1000),
    "sparse": (100, 1_000, 10_000, 100_000),
    "filled": (300, 1_000, 2_000),  # random patterns
}
LP = {"lp": (10, 50, 200), "sparse lp": (100, 1_000, 10_000)}
CONES = {  # families of programs with curved cones, solved in turn, and what divides their sizes
    "second_order": {"soc": 1, "robust": 4},
    "exponential": {"entropy": 1},
    "psd": {"sdp": 7},
}

Row = tuple[str, int, str, float, float]  # kind, n, solver, seconds, error


def main() -> None:
    """Command line."""
    if os.environ.get("OMP_NUM_THREADS") != "1":  # is read when the libraries load: start again
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one})
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--apply", action="store_true", help="edit the plugins' records")
    parser.add_argument("--from-csv", action="store_true", help="do not measure again")
    parser.add_argument("--kinds", default=",".join((*SIZES, *CONES, *LP)))
    # mpax compiles for seconds at the first call of every shape: nothing for a default choice.
    parser.add_argument("--skip", default="mpax", help="solvers to leave out, comma-separated")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for kind in [] if args.from_csv else args.kinds.split(","):
        write(measure_all([kind], set(args.skip.split(","))))
    rows = write([])
    show(rows)
    if args.apply:
        apply(rows)


def measure_all(kinds: list[str], skip: Collection[str] = ()) -> list[Row]:
    """All solvers on all classes; the solvers of a class take turns."""
    rows: list[Row] = []
    sizes = {**SIZES, **LP, **dict.fromkeys(CONES, (20, 50, 200))}
    for kind in kinds:
        needed = {kind if kind in CONES else "nonnegative"}
        declared = sorted(registry.solvers("cone").items())
        able = [name for name, cones in declared if name not in skip and needed <= cones]
        alive = dict.fromkeys(able, (0.0, 0))
        for size in sizes[kind]:
            n, run, truth = program(kind, size)
            fit = {name: run for name, at in alive.items() if affordable(name, kind, size, *at)}
            for name, (seconds, error) in turns(fit, truth).items():
                rows.append((kind, n, name, seconds, error))
                alive[name] = (seconds, size)
                print(f"{kind:10} {n:7} {name:10} {seconds * 1e3:10.3f} ms  error {error:.1e}")
            best = min((alive[name][0] for name in fit), default=0.0)
            alive = {name: alive[name] for name in fit if alive[name][0] < HOPELESS * best}
    return rows


def affordable(name: str, kind: str, size: int, seconds: float, last: int) -> bool:
    """Whether a size is likely to take less than `SLOWEST` seconds, by the last one."""
    if not last:
        return True
    takes_sparse = "sparse" in registry.get("solver", name).matrices
    power = 1.5 if kind.startswith("sparse") and takes_sparse else 3.0
    return seconds * (size / last) ** power < SLOWEST


def program(kind: str, size: int) -> tuple[int, Callable[[str], Any], Any]:
    """(n of the canonical program, x of a solver's name, the known x)."""
    if kind in CONES:
        return cone_programs([(family, max(4, size // k)) for family, k in CONES[kind].items()])
    make: dict[str, Callable[[int], Any]] = {
        "dense": dense_qp,
        "sparse": sparse_qp,
        "filled": functools.partial(sparse_qp, pattern="random"),
        "lp": dense_lp,
        "sparse lp": sparse_lp,
    }
    problem = make[kind](size)

    def quadratic(name: str) -> Any:
        return ffoadapt.qp(*problem.data, solver=name, executor="serial").x

    return problem.n, quadratic, problem.x


def cone_programs(families: list[tuple[str, int]]) -> tuple[int, Callable[[str], Any], Any]:
    """`program` of these families in turn; all must be right."""
    stated = [cvxpy_problem(family, n) for family, n in families]

    @functools.cache
    def layers(name: str, tolerance: float | None) -> list[Any]:
        options = None if tolerance is None else {"tolerance": tolerance}
        settings = {"solver_options": options, "executor": "serial"}
        return [
            ffoadapt.Layer(statement, parameters, [x], solver=name, **settings)
            for statement, parameters, x, _ in stated
        ]

    def run(name: str, tolerance: float | None = None) -> Any:
        gradients = [
            np.ravel(layer(*values)[0])
            for layer, (*_, values) in zip(layers(name, tolerance), stated, strict=True)
        ]
        return np.concatenate(gradients)

    sizes = [layer.program.structure.n for layer in layers("clarabel", None)]
    return int(np.exp(np.mean(np.log(sizes)))), run, run("clarabel", 1e-10)


def turns(runs: dict[str, Callable[[str], Any]], truth: Any) -> dict[str, tuple[float, float]]:
    """(median seconds, error of x) of each solver, interleaved; infinite where it fails."""
    times: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    points = {}
    for name, run in runs.items():
        try:
            points[name] = run(name)
            start = time.process_time()
            run(name)
            times[name] = [time.process_time() - start]
        except Exception as error:
            print(f"  {name}: {type(error).__name__}: {str(error)[:150]}")
            errors[name] = float("inf")
    for name, x in points.items():
        errors[name] = float(np.abs(x - truth).max() / max(1.0, np.abs(truth).max()))
    spent = time.process_time()
    for k in range(30):
        if k >= 4 and time.process_time() - spent > 2.0:
            break
        for name, seen in times.items():
            if seen[0] > 0.5 and k > 1:
                continue
            start = time.process_time()
            runs[name](name)
            seen.append(time.process_time() - start)
    return {
        name: (statistics.median(times[name]) if name in times else float("inf"), error)
        for name, error in errors.items()
    }


def write(rows: list[Row]) -> list[Row]:
    """Merge into results/speed.csv and return the whole."""
    path = RESULTS / "speed.csv"
    known: dict[tuple[str, int, str], Row] = {}
    if path.exists():
        with path.open() as file:
            for kind, n, name, seconds, error in list(csv.reader(file))[1:]:
                known[kind, int(n), name] = (kind, int(n), name, float(seconds), float(error))
    again = {(row[0], row[2]) for row in rows}
    merged = [row for row in known.values() if (row[0], row[2]) not in again] + rows
    merged.sort()
    RESULTS.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "n", "solver", "seconds", "error"))
        writer.writerows((k, n, s, f"{t:.3g}", f"{e:.1e}") for k, n, s, t, e in merged)
    return merged


def show(rows: list[Row]) -> None:
    """What auto takes, as Markdown, also into results/speed.md."""
    solvers = sorted({row[2] for row in rows})
    lines = ["| class | n | " + " | ".join(solvers) + " | fastest |"]
    lines.append("|---|---|" + "---|" * (len(solvers) + 1))
    for kind in dict.fromkeys(row[0] for row in rows):
        for n in sorted({row[1] for row in rows if row[0] == kind}):
            cell = {row[2]: row for row in rows if row[:2] == (kind, n)}
            good = {s: row[3] for s, row in cell.items() if solved(row)}
            words = [_words(cell.get(s)) for s in solvers]
            best = min(good, key=good.__getitem__) if good else "-"
            lines.append(f"| {kind} | {n:,} | " + " | ".join(words) + f" | {best} |")
    text = "\n".join(lines)
    print(text)
    (RESULTS / "speed.md").write_text(text + "\n")


def solved(row: Row) -> bool:
    return bool(np.isfinite(row[3]) and row[4] <= ACCURACY)


def _words(row: Row | None) -> str:
    if row is None:
        return "-"
    if not np.isfinite(row[3]):
        return "fails"
    return f"{row[3] * 1e3:.3g}" if solved(row) else f"off by {row[4]:.0e}"


def entries(rows: list[Row], solver: str) -> dict[tuple[str, int], float]:
    """The record's table for one solver; kinds in which it solved nothing have no entry."""
    times = {}
    for kind in (*SIZES, *CONES):
        mine = [row for row in rows if row[0] == kind and row[2] == solver]
        if any(solved(row) for row in mine):
            times |= {
                (kind, n): float(f"{t:.2g}") if solved(row) else UNSOLVED
                for row in mine
                for _, n, _, t, _ in [row]
            }
    return times


def apply(rows: list[Row]) -> None:
    """Write SPEED = {...} into the __init__ of every plugin that registers a measured solver."""
    for path in sorted(ROOT.glob("plugins/ffoadapt-*/src/*/__init__.py")):
        text = path.read_text()
        match = re.search(r'SolverSpec\(\s*"(\w+)"', text)
        if match is None or not (table := entries(rows, match[1])):
            continue
        lines = [f'    ("{kind}", {n}): {t:g},' for (kind, n), t in table.items()]
        block = "\n".join(
            ["# Seconds a solve, by benchmarks/speed_table.py.", "SPEED = {", *lines, "}"]
        )
        if "SPEED = {" in text:
            text = re.sub(r"# Seconds a solve[^\n]*\nSPEED = \{.*?\n\}", block, text, flags=re.S)
        else:
            text = re.sub(r"\n\n\n@hookimpl", f"\n\n{block}\n\n\n@hookimpl", text, count=1)
            text = re.sub(
                r"(SolverSpec\(.*?),?(\s*)\)(?=\s*\])",
                lambda m: f"{m[1]}, speed=SPEED,{m[2]})",
                text,
                count=1,
                flags=re.S,
            )
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
