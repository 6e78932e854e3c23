"""The rows of the table: one race per cell between ours, the peers and the limit.

Each function yields `Cell`s: what was measured, whether the gradients are right, and the ratios.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import limit
import numpy as np
import peers
from measure import Contestant, Timing, median_ratio, race
from problems import QP, cvxpy_problem, cvxpy_values, dense_qp, sparse_qp
from reference import gradient_error, reference
from threadpoolctl import ThreadpoolController

__all__ = [
    "LIMIT",
    "OURS",
    "RIGHT",
    "Cell",
    "Plan",
    "best_peer",
    "cone",
    "dense",
    "overhead",
    "sparse",
]

RIGHT = 1e-2
"""Relative error of the gradients above which a contestant is wrong, and out of the ratios."""

LIMIT, OURS = "limit", "ffoadapt"


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    quick: bool
    missing: frozenset[str]

    @property
    def budget(self) -> float:
        """Seconds a cell."""
        return 1.0 if self.quick else 4.0


@dataclass(frozen=True)
class Cell:
    """One contestant in one cell; times in ms, ratios against ours (NaN where they mean nothing).

    ``ratio`` is the median over the rounds of this contestant's total over ours; ``cpu`` and
    ``cpu_ratio`` are the same of the seconds of CPU, ``least`` the least total of all rounds.
    """

    row: str
    n: int
    batch: int
    name: str
    forward: float
    backward: float
    total: float
    least: float
    cpu: float
    ratio: float
    cpu_ratio: float
    error: float
    note: str = ""

    @property
    def right(self) -> bool:
        return self.error <= RIGHT and math.isfinite(self.total)


def dense(plan: Plan, batched: bool) -> Iterator[Cell]:
    """The dense quadratic programs of the table, B = 1 or the batches."""
    if batched:
        sizes = [(n, B) for B in (32, 128) for n in (10, 50, 100, 200) if n * B <= 12_800]
        sizes = [(10, 32), (50, 32), (10, 128)] if plan.quick else sizes
    else:
        sizes = [(n, 1) for n in (10, 50, 100, 200, 500, 1000)]
        sizes = sizes[:4] if plan.quick else sizes
    for n, B in sizes:
        problem = dense_qp(n, B)
        v = cotangent(problem)
        skip = set(plan.missing)
        if n > (50 if plan.quick else 200) or n * n * B > (3e4 if plan.quick else 1e6):
            skip.add("cvxpylayers")  # seconds a call, and gigabytes to build its layer
        if n > (50 if plan.quick else 100):
            skip |= {"ffolayer", "Moreau IPM"}  # slow, and their gradients are wrong by then
        if n > 500 or (plan.quick and n > 100):
            skip.add("qpth")
        contestants = [peers.ours_dense(problem, v), *peers.dense_peers(problem, v, skip)]
        contestants += limits(problem, v)
        expected = reference(problem, v)
        yield from cells("batch" if batched else "dense", n, B, contestants, plan, expected)


def sparse(plan: Plan) -> Iterator[Cell]:
    """Projections with 7 nonzeros a row, on a local and on a random pattern."""
    sizes = [("local", 1_000), ("random", 1_000), ("local", 10_000)]
    if not plan.quick:
        sizes += [("local", 100_000)]
    for pattern, n in sizes:
        problem = peers.row_major(sparse_qp(n, pattern))
        v = cotangent(problem)
        skip = set(plan.missing)
        if n > (1_000 if plan.quick else 10_000):
            skip.add("cvxpylayers")
        contestants = [peers.ours_sparse(problem, v)]
        if n <= 10_000:  # above, minutes a call
            contestants += peers.sparse_peers(problem, v, skip)
        contestants += limits(problem, v, slow=n > 10_000)
        expected = reference(problem, v)
        yield from cells(f"sparse {pattern}", n, 1, contestants, plan, expected)


def cone(plan: Plan) -> Iterator[Cell]:
    """Cone programs through the cvxpy modeler, and the dense quadratic program through it."""
    sizes = [("soc", 50, 1), ("soc", 200, 1), ("entropy", 50, 1), ("sdp", 10, 1), ("qp", 50, 1)]
    if not plan.quick:
        sizes += [("soc", 500, 1), ("entropy", 200, 1), ("sdp", 30, 1), ("qp", 100, 1)]
        sizes += [("qp", 200, 1), ("soc", 50, 32), ("entropy", 50, 32), ("sdp", 10, 32)]
    for kind, n, B in sorted(sizes):
        shape = (n, n) if kind == "sdp" else (n,)
        v = np.random.default_rng(n).standard_normal(shape if B == 1 else (B, *shape))
        skip = set(plan.missing) | ({"cvxpylayers"} if kind == "qp" and n > 100 else set())
        contestants = [peers.ours_cone(kind, n, v), *peers.cone_peers(kind, n, v, skip)]
        contestants += cone_limit(kind, n, B)
        expected = directional(kind, n, v if B > 1 else v[None])
        yield from cells(f"cone {kind}", n, B, contestants, plan, expected)


def overhead(plan: Plan) -> Iterator[Cell]:
    """A solver that does nothing: what is left is ours. Batches share no data."""
    import ffoadapt

    for n, B in ((10, 1), (10, 32), (10, 1024)):
        one = dense_qp(n)
        problem = one
        if B > 1:
            problem = QP(*(np.stack([v] * B) for v in (*one.data, one.x, one.z, one.y)))

        @ffoadapt.split_solver
        def null(
            P: Any, q: Any, G: Any, h: Any, A: Any, b: Any, options: Any, one: QP = one
        ) -> Any:
            return one.x, one.z, one.y

        v = cotangent(problem)
        ours = peers.ours_dense(problem, v, solver=null)
        yield from cells("overhead", n, B, [ours], plan, reference(problem, v))


def cotangent(problem: QP) -> Any:
    return np.random.default_rng(problem.n).standard_normal(problem.q.shape)


def limits(problem: QP, v: Any, slow: bool = False) -> list[Contestant]:
    """The fastest bare solver (tried first), then the KKT system, for every element in turn."""
    elements = [problem.element(i) for i in range(problem.batch)]
    cotangents = v.reshape(problem.batch, -1)
    trial = limit.bare_solvers(elements[0])
    if slow:
        trial = {name: trial[name] for name in ("piqp", "clarabel") if name in trial}
    if not trial:
        return []
    with one_thread():
        name = min(trial, key=lambda key: _quickest(trial[key]))
    solves = [limit.bare_solvers(element)[name] for element in elements]
    systems = [limit.kkt(e, c) for e, c in zip(elements, cotangents, strict=True)]
    return [_bare(LIMIT, solves, systems)]


def cone_limit(kind: str, n: int, B: int) -> list[Contestant]:
    """Clarabel on cvxpy's own canonical data."""
    import cvxpy as cp
    from cvxpy.reductions.solvers.conic_solvers.clarabel_conif import dims_to_solver_cones
    from scipy import sparse

    statement, parameters, _, _ = cvxpy_problem(kind, n)
    solves, systems = [], []
    for values in cvxpy_values(kind, n, B):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.value = value
        data, _, _ = statement.get_problem_data(cp.CLARABEL)
        size = data["c"].size
        P = sparse.triu(data.get("P", sparse.csc_matrix((size, size))), format="csc")
        A, cones = sparse.csc_matrix(data["A"]), dims_to_solver_cones(data["dims"])
        solves.append(limit.bare_cone_solver(P, data["c"], A, data["b"], cones))
        systems.append(limit.cone_kkt(P, A))
    return [_bare(LIMIT, solves, systems)]


def _bare(name: str, solves: list[Any], systems: list[Any]) -> Contestant:
    def forward() -> None:
        for solve in solves:
            solve()

    def backward(_: None) -> None:
        for system in systems:
            system()

    return Contestant(name, forward, backward, lambda _: {}, one_thread)


_controller: list[ThreadpoolController] = []


def one_thread() -> Any:
    """A context in which BLAS and OpenMP have one thread; the controller is built once."""
    if not _controller:
        _controller.append(ThreadpoolController())
    return _controller[0].limit(limits=1)


def _quickest(run: Any) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def directional(kind: str, n: int, v: Any) -> dict[str, Any]:
    """{"slope": d<v, x>/dt, "moves"} along one direction of all data, by central differences, for
    the problems of a batch together; v (B, *shape of x).

    Tight solves by Clarabel through cvxpy: nothing of the library.
    """
    import cvxpy as cp

    statement, parameters, x, _ = cvxpy_problem(kind, n)
    step, slope, each = 1e-3, 0.0, []
    for values, v_i in zip(cvxpy_values(kind, n, len(v)), v, strict=True):
        each.append(moves(values, v_i))
        for sign in (1.0, -1.0):
            for parameter, value, move in zip(parameters, values, each[-1], strict=True):
                parameter.value = value + sign * step * move
            tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
            statement.solve(solver=cp.CLARABEL, **tight)
            slope += sign * float(np.vdot(v_i, x.value)) / (2.0 * step)
    return {"slope": np.array(slope), "moves": [np.stack(move) for move in zip(*each, strict=True)]}


def moves(values: list[Any], v: Any) -> list[Any]:
    """A direction for every parameter, symmetric where the value is.

    A parameter of the shape of x moves along v, so that the slope is not a small difference.
    """
    rng = np.random.default_rng(5)
    moves = []
    for value in values:
        move = rng.standard_normal(value.shape) / np.sqrt(value.size)
        if value.shape == v.shape:
            move = v / np.linalg.norm(v)
        square = value.ndim == 2 and value.shape[0] == value.shape[1]
        moves.append((move + move.T) / 2 if square and np.array_equal(value, value.T) else move)
    return moves


def cells(
    row: str, n: int, B: int, contestants: list[Contestant], plan: Plan, expected: dict[str, Any]
) -> Iterator[Cell]:
    """The race, as cells."""
    timings = race(contestants, plan.budget, slowest=1.0 if plan.quick else 5.0)
    ours = timings[OURS]
    for name, timing in timings.items():
        error = math.nan if timing.failure else _error(timing, expected)
        yield Cell(
            row,
            n,
            B,
            name,
            timing.median("forward") * 1e3,
            timing.median("backward") * 1e3,
            timing.median() * 1e3,
            min(timing.total, default=math.nan) * 1e3,
            timing.median("cpu") * 1e3,
            median_ratio(timing, ours),
            median_ratio(timing, ours, "cpu"),
            0.0 if name == LIMIT else error,
            timing.failure,
        )


def _error(timing: Timing, expected: dict[str, Any]) -> float:
    if timing.name == LIMIT:
        return 0.0
    gradients = timing.result
    if "slope" in expected:
        slope = sum(
            float(np.vdot(g, m)) for g, m in zip(gradients.values(), expected["moves"], strict=True)
        )
        gradients = {"slope": np.array(slope)}
    return gradient_error(gradients, expected)


def best_peer(group: list[Cell], part: str = "ratio") -> Cell | None:
    """The fastest peer with right gradients, by ``ratio`` (wall clock) or ``cpu_ratio``."""
    able = [c for c in group if c.right and c.name not in (OURS, LIMIT)]
    return min(able, key=lambda c: getattr(c, part), default=None)
