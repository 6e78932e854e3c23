"""Peaks of memory, growth over many calls, and the cost of building a layer.

Each number comes from a process of its own (this file run as a script), so that none sees what
another allocated. A peak is that of the resident set above where it stood before the call, after
what had been freed was given back to the system.

Of a peak, `solver` is what the bare solver takes for the same program through its own API, and
`kkt` what one bare factorization of the active set's KKT matrix takes; `ours` is the peak without
the solver's. `gradients` is what a user asked for: the outputs and the gradients of all data.
"""

from __future__ import annotations

import ctypes
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Fact", "measure"]

Fact = dict[str, Any]

BUILDS = 5
"""How often a layer is built."""


def measure(quick: bool) -> Iterator[Fact]:
    """Facts: {"what", "n", then numbers}."""
    jobs: list[tuple[str, int]] = [("dense", 200), ("dense", 500), ("sparse", 10_000)]
    jobs += [("growth", 300 if quick else 100_000), ("layer", 300 if quick else 50_000)]
    jobs += [("build", 100)]
    if not quick:
        jobs += [("dense", 1000), ("sparse", 100_000), ("sparse", 1_000_000), ("build", 500)]
    for what, n in jobs:
        yield {"what": what, "n": n, **alone(what, str(n))}


def alone(*arguments: str) -> Fact:
    """What this script prints for these arguments."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failure": done.stderr.strip().splitlines()[-1:]}
    fact: Fact = json.loads(done.stdout.splitlines()[-1])
    return fact


def resident() -> float:
    """MB in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    """MB at most since `forget`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget() -> None:
    """Start the peak again from where memory stands, without what is free but not given back."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def dense(n: int) -> Fact:
    """Forward and backward of one dense program; the KKT factor is that of 1.7 n rows."""
    import peers
    from problems import dense_qp

    problem = dense_qp(n)
    name = _warm(peers.ours_dense, dense_qp(10), problem)
    fact = _call(peers.ours_dense(problem, np.ones(n)))
    active = int((problem.z > 0).sum()) + problem.b.size
    return _shares(fact, "dense", n, name, 8 * (n * n + active * active + n * active))


def sparse(n: int) -> Fact:
    """The same for a sparse program; the factor is qdldl's of the active set's KKT matrix."""
    import peers
    from problems import sparse_qp

    problem = peers.row_major(sparse_qp(n))
    name = _warm(peers.ours_sparse, peers.row_major(sparse_qp(100)), problem)
    fact = _call(peers.ours_sparse(problem, np.ones(n)))
    return _shares(fact, "sparse", n, name, 12 * _fill(problem))


def _warm(make: Any, small: Any, problem: Any) -> str:
    """A small program with the solver of the large one: imports, and buffers of the libraries."""
    import ffoadapt

    choice = ffoadapt.choose_solver(ffoadapt.ConeProgram.from_split(*problem.data))
    contestant = make(small, np.ones(small.n), solver=choice.name)
    contestant.backward(contestant.forward())
    return choice.name


def _fill(problem: Any) -> int:
    """Entries of the LDL' factor of the active set's KKT matrix, in a minimum degree order."""
    from scipy import sparse as sp
    from scipy.sparse import linalg

    C = sp.vstack([problem.G.tocsr()[problem.z > 0], problem.A], format="csc")
    K = sp.csc_matrix(sp.bmat([[problem.P, C.T], [C, -1e-6 * sp.identity(C.shape[0])]]))
    lu = linalg.splu(K, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    return int(lu.L.nnz)


def _call(contestant: Any) -> Fact:
    """The peaks of the first call and of the third, both above where memory stood at first."""
    forget()
    before = resident()
    outputs = contestant.forward()
    gradients = contestant.backward(outputs)
    above = peak() - before
    arrays = [v for v in gradients if v is not None]
    asked = sum(v.numel() * v.element_size() for v in arrays) / 2**20
    del outputs, gradients, arrays
    for _ in range(2):
        forget()
        contestant.backward(contestant.forward())
    return {"peak_mb": above, "again_mb": peak() - before, "gradients_mb": asked}


def _shares(fact: Fact, kind: str, n: int, name: str, factor: int) -> Fact:
    """A peak and its parts; ratios are to the size of the KKT factor."""
    bare = alone("bare", str(n), kind, name)
    mega = factor / 2**20
    fact |= {"factor_mb": mega, "ratio": fact["peak_mb"] / mega}
    if "failure" in bare:
        return fact
    ours = fact["peak_mb"] - bare["solver_mb"]
    return fact | bare | {"solver": name, "ours_mb": ours, "ours_ratio": ours / mega}


def bare(n: int, kind: str, name: str) -> Fact:
    """The peaks of the bare solver, and of one factorization of the KKT matrix."""
    import limit
    from problems import dense_qp, sparse_qp

    make = dense_qp if kind == "dense" else sparse_qp
    limit.bare_solvers(make(20))[name]()
    problem, small = make(n), make(20)
    limit.kkt(small, np.ones(small.n))()
    peaks = {}
    runs = {
        "solver_mb": limit.bare_solvers(problem)[name],
        "kkt_mb": limit.kkt(problem, np.ones(n)),
    }
    for what, run in runs.items():
        forget()
        before = resident()
        run()
        peaks[what] = peak() - before
    return peaks


def growth(calls: int) -> Fact:
    """Resident memory over many forward and backward passes of `ffoadapt.qp` of n = 10."""
    import torch
    from problems import dense_qp

    import ffoadapt

    data = [torch.tensor(v) for v in dense_qp(10).data]
    return _grown(lambda *leaves: ffoadapt.qp(*leaves).x, data, calls)


def layer(calls: int) -> Fact:
    """The same for a layer made of a cvxpy problem."""
    import torch
    from problems import cvxpy_problem

    import ffoadapt

    statement, parameters, x, values = cvxpy_problem("qp", 10)
    made = ffoadapt.Layer(statement, parameters, [x])
    return _grown(lambda *leaves: made(*leaves)[0], [torch.tensor(v) for v in values], calls)


def _grown(function: Any, data: list[Any], calls: int) -> Fact:
    """Growth of resident memory after the first tenth of the calls, and in their second half.

    Every call has data of its own, as in training.
    """
    marks, start = {}, time.perf_counter()
    for k in range(calls + 1):
        if k in (calls // 10, calls // 2, calls):
            marks[k] = resident()
        leaves = [v + 1e-6 * (k % 100) for v in data]
        for leaf in leaves:
            leaf.requires_grad_()
        function(*leaves).sum().backward()
    return {
        "calls": calls,
        "growth_mb": marks[calls] - marks[calls // 10],
        "second_half_mb": marks[calls] - marks[calls // 2],
        "resident_mb": marks[calls],
        "seconds": time.perf_counter() - start,
    }


def build(n: int) -> Fact:
    """A layer of the dense program through cvxpy, against cvxpy's own canonicalization.

    Medians of turns; the peak is that of the first.
    """
    import cvxpy as cp
    from problems import cvxpy_problem

    import ffoadapt

    above, ours, theirs = 0.0, [], []
    for size in (5, *[n] * BUILDS):  # the first one imports
        statement, parameters, x, _ = cvxpy_problem("qp", size)
        forget()
        before, start = resident(), time.perf_counter()
        ffoadapt.Layer(statement, parameters, [x])
        ours.append(time.perf_counter() - start)
        above = peak() - before if len(ours) == 2 else above
        statement, parameters, _, values = cvxpy_problem("qp", size)
        for parameter, value in zip(parameters, values, strict=True):
            parameter.value = value
        start = time.perf_counter()
        statement.get_problem_data(cp.CLARABEL)
        theirs.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return {
        "seconds": statistics.median(ours[1:]),
        "peak_mb": above,
        "cvxpy_seconds": statistics.median(theirs[1:]),
        "ratio": statistics.median(ratios),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:])))
