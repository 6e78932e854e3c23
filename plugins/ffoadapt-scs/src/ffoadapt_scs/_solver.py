"""SCS: operator splitting, all six cones, its PSD blocks stacked as ours. Rows sorted by cone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scs
from scipy import sparse

from ffoadapt import ConeForm, Session, Solution, Solver, Status

from . import CONES

# In SCS's order of rows: its name for the cones of a kind, and how it counts them.
_SIZES: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "zero": ("z", lambda cones: sum(cone.dim for cone in cones)),
    "nonnegative": ("l", lambda cones: sum(cone.dim for cone in cones)),
    "second_order": ("q", lambda cones: [cone.dim for cone in cones]),
    "psd": ("s", lambda cones: [cone.n for cone in cones]),
    "exponential": ("ep", len),
    "power": ("p", lambda cones: [cone.alpha for cone in cones]),
}
_STATUS = {
    1: Status.OPTIMAL,
    2: Status.ITERATION_LIMIT,  # it calls the point inaccurate where it ran into a limit
    -1: Status.DUAL_INFEASIBLE,
    -2: Status.PRIMAL_INFEASIBLE,
    -6: Status.DUAL_INFEASIBLE,
    -7: Status.PRIMAL_INFEASIBLE,
}
_SETTINGS = """normalize scale adaptive_scale rho_x max_iters eps_abs eps_rel eps_infeas alpha
    verbose linear_solver time_limit_secs acceleration_lookback acceleration_interval""".split()


class SCSSolver(Solver):
    """See https://www.cvxgrp.org/scs; options are SCS's settings."""

    form = "cone"
    cones = CONES
    common_options = {
        "tolerance": ("eps_abs", "eps_rel"),
        "max_iterations": "max_iters",
        "time_limit": "time_limit_secs",
        "verbose": "verbose",
    }
    defaults = {
        "verbose": False,
        "eps_abs": 1e-6,
        "eps_rel": 1e-6,
        "max_iters": 100_000,
        "linear_solver": scs.LinearSolver.QDLDL,
    }
    releases_gil = True

    def known_options(self) -> list[str]:
        return _SETTINGS

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        kinds, rows, start = list(_SIZES), [], 0
        for cone in program.cones:
            rows.append(np.arange(start, start + cone.dim))
            start += cone.dim
        blocks = sorted(range(len(rows)), key=lambda k: kinds.index(program.cones[k].kind))
        order = np.concatenate([np.arange(0), *(rows[k] for k in blocks)])
        sizes = {
            name: count([cone for cone in program.cones if cone.kind == kind])
            for kind, (name, count) in _SIZES.items()
        }
        A, b = sparse.csc_matrix(program.A[order]), program.b[order]
        if not order.size:  # SCS wants a row: 0'x <= 1
            A, b, sizes["l"] = sparse.csc_matrix((1, program.q.size)), np.ones(1), 1
        data = {"P": sparse.triu(program.P, format="csc"), "A": A, "b": b, "c": program.q}
        found = scs.SCS(data, sizes, **options).solve()
        z, s = np.empty((2, order.size))
        z[order], s[order] = found["y"][: order.size], found["s"][: order.size]
        info = found["info"]
        status = _STATUS.get(info["status_val"], Status.ERROR)
        if info["status_val"] == 2 and info["iter"] < options["max_iters"]:
            status = Status.TIME_LIMIT
        return Solution(
            found["x"], z, s, status, {"status": info["status"], "iterations": info["iter"]}
        )
