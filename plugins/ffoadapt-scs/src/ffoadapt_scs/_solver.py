"""SCS: operator splitting, all six cones, its PSD blocks stacked as ours. Rows sorted by cone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scs
from scipy import sparse

from ffoadapt import ConeForm, Session, Solution, Solver, Status

from . import CONES

# fmt: off
# In SCS's order of rows: its name for the cones of a kind, and what of each cone it wants to know.
_KINDS = {
    "zero": ("z", "dim"), "nonnegative": ("l", "dim"), "second_order": ("q", "dim"),
    "psd": ("s", "n"), "exponential": ("ep", ""), "power": ("p", "alpha")}
_STATUS = {  # 2: an inaccurate point, where it ran into a limit
    1: Status.OPTIMAL, 2: Status.ITERATION_LIMIT, -1: Status.DUAL_INFEASIBLE,
    -2: Status.PRIMAL_INFEASIBLE, -6: Status.DUAL_INFEASIBLE, -7: Status.PRIMAL_INFEASIBLE}


class SCSSolver(Solver):
    """See https://www.cvxgrp.org/scs; options are SCS's settings."""

    form = "cone"
    cones = CONES
    # fmt: off
    common_options = {"tolerance": ("eps_abs", "eps_rel"), "max_iterations": "max_iters",
        "time_limit": "time_limit_secs", "verbose": "verbose"}
    defaults = {
        "verbose": False, "eps_abs": 1e-6, "eps_rel": 1e-6, "max_iters": 100_000,
        "linear_solver": scs.LinearSolver.QDLDL}
    # fmt: on
    releases_gil = True

    def known_options(self) -> list[str]:
        return """normalize scale adaptive_scale rho_x max_iters eps_abs eps_rel eps_infeas alpha
            linear_solver time_limit_secs verbose acceleration_lookback
            acceleration_interval""".split()

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        cones, rows = program.grouped(list(_KINDS))
        sizes: dict[str, Any] = {"z": 0, "l": 0, "q": [], "s": [], "ep": 0, "p": []}
        for cone in cones:
            name, size = _KINDS[cone.kind][0], getattr(cone, _KINDS[cone.kind][1], 1)
            sizes[name] += [size] if name in ("q", "s", "p") else size
        A, b = sparse.csc_matrix(program.A[rows]), program.b[rows]
        if not b.size:  # SCS wants a row: 0'x <= 1
            A, b, sizes["l"] = sparse.csc_matrix((1, program.q.size)), np.ones(1), 1
        data = {"P": sparse.triu(program.P, format="csc"), "A": A, "b": b, "c": program.q}
        found = scs.SCS(data, sizes, **options).solve()
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = found["y"][: z.size], found["s"][: z.size]
        info = {"status": found["info"]["status"], "iterations": found["info"]["iter"]}
        status = _STATUS.get(found["info"]["status_val"], Status.ERROR)
        if status is Status.ITERATION_LIMIT and info["iterations"] < options["max_iters"]:
            status = Status.TIME_LIMIT
        return Solution(found["x"], z, s, status, info)
