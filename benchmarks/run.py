"""Ours against the peers and the limit: forward and backward, gradients checked in the same run.

    python benchmarks/run.py                      # everything: tens of minutes
    python benchmarks/run.py --quick              # under 3 minutes
    python benchmarks/run.py --rows dense,cone    # some rows
    python benchmarks/run.py --profile dense:100  # where our time goes in one cell

Peers that are not installed are skipped, and the reason is printed. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import memory
import numpy as np
import peers
import report
import report_cost
import rows
import scaling
from problems import dense_qp, sparse_qp
from rows import Cell, Plan

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parent / "docs" / "assets"

TABLES: dict[str, Callable[[Plan], Iterator[Cell]]] = {
    "dense": lambda plan: rows.dense(plan, batched=False),
    "batch": lambda plan: rows.dense(plan, batched=True),
    "sparse": rows.sparse,
    "cone": rows.cone,
    "overhead": rows.overhead,
}
FACTS = {
    "memory": memory.measure,
    "scaling": scaling.measure,
    "report_cost": report_cost.measure,
}
PROFILED = ("dense", "batch", "local", "random", "soc", "entropy", "sdp", "qp")
"""Rows with a single program of ours: dense ones, patterns of sparse ones, kinds of cone."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cells")
    parser.add_argument("--rows", default=",".join((*TABLES, *FACTS)), help="comma-separated")
    parser.add_argument("--out", type=Path, help="folder of CSV and Markdown")
    parser.add_argument("--json", type=Path, help="all cells into one file")
    parser.add_argument("--no-peers", action="store_true", help="only ours and the limit")
    parser.add_argument("--plots", action="store_true", help="also write docs/assets/*.svg")
    parser.add_argument("--profile", metavar="ROW:N[:B]", help="cProfile of ours in one cell")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.profile:
        parts = args.profile.split(":")
        if not 2 <= len(parts) <= 3 or not all(n.isdecimal() and int(n) for n in parts[1:]):
            parser.error(f"--profile {args.profile}; expected ROW:N or ROW:N:B, such as dense:100")
        if parts[0] not in PROFILED:
            parser.error(f"--profile has no row {parts[0]!r}; it has {', '.join(PROFILED)}")
        profile(*parts)
        return
    # A quick run is for looking; the numbers of the docs come from full ones.
    folder = args.out or HERE / "results" / ("quick" if args.quick else "")
    absent = peers.missing()
    for name, why in absent.items():
        print(f"skipped {name}: {why}")
    skipped = frozenset(peers.MODULES if args.no_peers else absent)
    plan, everything, start = Plan(args.quick, skipped), [], time.perf_counter()
    for name in args.rows.split(","):
        print(f"\n== {name} ({time.perf_counter() - start:.0f} s)", flush=True)
        if name in FACTS:
            print(report.save_facts(list(FACTS[name](args.quick)), name, folder))
            continue
        cells = []
        for cell in TABLES[name](plan):
            cells.append(cell)
            print(line(cell), flush=True)
            report.save(cells, name, folder)  # after each, for who stops a long run
        everything += cells
        print(report.markdown(cells))
        print("\n".join(report.summary(cells)))
        if args.plots and name in ("dense", "batch"):
            report.plot(cells, name, ASSETS)
    if args.json:
        args.json.write_text(json.dumps([asdict(cell) for cell in everything], indent=1))
    print(f"\n{time.perf_counter() - start:.0f} s; tables in {folder}")


def line(cell: Cell) -> str:
    """One cell on one line."""
    head = f"{cell.row:14} n={cell.n:<8} B={cell.batch:<4} {cell.name:24}"
    if cell.note:
        return f"{head} {cell.note}"
    times = f"{cell.forward:10.3f} + {cell.backward:9.3f} ms"
    verdict = "" if cell.right else "  WRONG"
    ratios = f"{cell.ratio:8.2f} ({cell.cpu_ratio:.2f}) x ours"
    return f"{head} {times}  {ratios}  error {cell.error:.1e}{verdict}"


def profile(row: str, n: str, batch: str = "1") -> None:
    """The 15 functions with the most own time, forward and backward together."""
    size, B = int(n), int(batch)
    if row in ("dense", "batch"):
        problem = dense_qp(size, B)
        contestant = peers.ours_dense(problem, np.ones(problem.q.shape))
    elif row in ("local", "random"):
        problem = peers.row_major(sparse_qp(size, row))
        contestant = peers.ours_sparse(problem, np.ones(size))
    else:
        contestant = peers.ours_cone(row, size, np.ones((size, size) if row == "sdp" else size))
    assert contestant.backward is not None
    contestant.backward(contestant.forward())
    profiler, calls = cProfile.Profile(time.process_time), 0  # of CPU: others may be busy
    end = time.perf_counter() + 2.0
    profiler.enable()
    while calls < 3 or time.perf_counter() < end:
        contestant.backward(contestant.forward())
        calls += 1
    profiler.disable()
    print(f"{row} n={n} B={B}: {calls} calls")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


if __name__ == "__main__":
    main()
