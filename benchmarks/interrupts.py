"""Sends Ctrl-C at random times, and looks whether it interrupts and what it leaves behind.

    python benchmarks/interrupts.py --count 10000 --record interrupts.jsonl

One child process at a time solves with one solver and executor. Another process sends it SIGINT:
the child must get a KeyboardInterrupt within a second, without an element that failed before it,
and its next call must give the bits of a call in a process that nobody has interrupted (of solvers
whose calls repeat to the bit). What is in the record is not done again, so that a run goes on where
it was ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXECUTORS = ("serial", "threads")

ROUNDS = 100
"""Interrupts of a child process."""

LATE = 1.0
"""Seconds after which a KeyboardInterrupt comes too late."""

SLOW = {"mpax": 10, "moreau": 40}
"""Rounds of the solvers that take long to start."""

SENDER = """
import os, signal, time
while line := os.read(0, 64):
    time.sleep(float(line))
    os.write(1, str(time.monotonic()).encode())
    os.kill(os.getppid(), signal.SIGINT)
"""


# ------------------------------------------------------------------------------- in the child


def calls(solver: str, executor: str) -> Callable[[], str]:
    """A function that solves programs of some kinds and gives a digest of all bits."""
    import numpy as np
    from scipy import sparse

    import ffoadapt

    rng = np.random.default_rng(0)
    n, m, size = 8, 10, 12
    L, G = rng.normal(size=(size, n, n)), rng.normal(size=(m, n))
    P, q, h = L @ L.transpose(0, 2, 1) + np.eye(n), rng.normal(size=(size, n)), np.ones(m)
    settings: dict[str, Any] = {"solver": solver, "executor": executor, "on_failure": "nan"}
    band = sparse.diags([1.0, 2.0, 1.0], [-1, 0, 1], shape=(30, 30), format="csc")
    chain = ffoadapt.ConeProgram.from_split(band.T @ band, -np.ones(30), band, np.ones(30))

    def call() -> str:
        solution = ffoadapt.qp(P, q, G, h, **settings)
        single = ffoadapt.qp(P[0], q[0], G, h, **settings)
        result = ffoadapt.solve(chain, solver, executor=executor)
        gradient = result.vjp(x=np.ones(30))
        parts = [solution.x, solution.z_ineq, single.x, result.x, result.z, gradient.q, gradient.b]
        if not all(np.isfinite(part).all() for part in parts):
            raise AssertionError("a failed element")
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()

    return call


def _where(error: BaseException) -> str:
    """The innermost lines of its traceback, the last first."""
    frames = traceback.extract_tb(error.__traceback__)[:-6:-1]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames)


def child(solver: str, executor: str, seed: int, rounds: int) -> dict[str, Any]:
    """Be interrupted that often; what went wrong, by kind, and the digest of the first call."""
    import random

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    call, draw = calls(solver, executor), random.Random(seed)
    first = call()
    start = time.monotonic()
    again = call()
    long = time.monotonic() - start
    wrong: Counter[str] = Counter()
    # Some vendors' last digits differ between equal calls: that is no interrupt's fault.
    repeats = again == first and all(call() == first for _ in range(10))
    latest = 0.0
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert sender.stdin is not None and sender.stdout is not None
    to, back = sender.stdin.fileno(), sender.stdout.fileno()  # a file object may write twice
    for _ in range(rounds):
        wait, caught, error = draw.uniform(0.0, 2.5 * long), 0.0, ""
        try:
            os.write(to, str(wait).encode())
            end = time.monotonic() + wait + 3 * LATE
            while time.monotonic() < end and not error:
                try:
                    call()
                except Exception as seen:
                    error = f"{type(seen).__name__}: {seen}, {_where(seen)}"[:400]
            time.sleep(2 * LATE)  # where an error came first
        except KeyboardInterrupt:
            caught = time.monotonic()
        sent = float(os.read(back, 64))
        if error:
            wrong[error] += 1
        if not caught:
            wrong["no KeyboardInterrupt"] += 1
        elif caught - sent > LATE:
            wrong["a late KeyboardInterrupt"] += 1
        latest = max(latest, caught - sent if caught else 0.0)
        try:
            if call() != first and repeats:
                wrong["the next call has other bits"] += 1
        except BaseException as seen:
            wrong[f"the next call raised {type(seen).__name__}: {seen}, {_where(seen)}"[:400]] += 1
    sender.stdin.close()
    sender.wait()
    outcome = {"digest": first} if repeats else {}
    return {**outcome, "repeats": repeats, "wrong": dict(wrong), "latest": latest, "call": long}


# ------------------------------------------------------------------------------- in the parent


def run(solver: str, executor: str, seed: int, rounds: int) -> dict[str, Any]:
    """A child of its own; its death is something that went wrong too."""
    arguments = [solver, executor, str(seed), str(rounds)]
    row: dict[str, Any] = {"solver": solver, "executor": executor}
    row |= {"seed": seed, "rounds": rounds}
    command = [sys.executable, __file__, "--child", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * rounds)
    except subprocess.TimeoutExpired:
        return {**row, "wrong": {"no end": 1}}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {**row, "wrong": {f"exit status {done.returncode}: {last}"[:300]: 1}}
    outcome: dict[str, Any] = json.loads(lines[-1])
    if "Exception ignored" in done.stderr:
        at = done.stderr.index("Exception ignored")
        outcome["wrong"][f"swallowed: {done.stderr[at : at + 300]}"] = 1
    return {**row, **outcome}


def main() -> int:
    """Go on until there are so many interrupts; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="interrupts in all")
    parser.add_argument("--record", type=Path, help="a file with a line a child, added to")
    parser.add_argument("--solver", action="append", help="only this one (may be repeated)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        solver, executor, seed, rounds = options.child
        print(json.dumps(child(solver, executor, int(seed), int(rounds))), flush=True)
        return 0
    import ffoadapt

    solvers = options.solver or ffoadapt.solvers()
    kinds = [(solver, executor) for solver in solvers for executor in EXECUTORS]
    rows: list[dict[str, Any]] = []
    if options.record and options.record.exists():
        rows = [json.loads(line) for line in options.record.read_text().splitlines()]
        rows = [row for row in rows if (row["solver"], row["executor"]) in kinds]
    seed = len(rows)
    while sum(row["rounds"] for row in rows) < options.count:
        solver, executor = kinds[seed % len(kinds)]
        row = run(solver, executor, seed, SLOW.get(solver, ROUNDS))
        known = {r["digest"] for r in rows if "digest" in r and r["solver"] == solver}
        if "digest" in row and known - {row["digest"]}:
            row["wrong"]["another process had other bits"] = 1
        rows.append(row)
        seed += 1
        if options.record:
            with options.record.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(
            f"{solver:9} {executor:8} {row['rounds']:4} interrupts, the latest after "
            f"{row.get('latest', 0.0):.3f} s: {row['wrong'] or 'right'}",
            flush=True,
        )
    wrong: Counter[str] = Counter()
    for row in rows:
        wrong.update(row["wrong"])
    print(f"{sum(row['rounds'] for row in rows)} interrupts, {sum(wrong.values())} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
