"""OSQP: operator splitting for l <= Ax <= u."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import osqp
from scipy import sparse

from ffoadapt import BoxForm, Session, Solution, Solver, Status

_STATUS = {
    1: Status.OPTIMAL,
    2: Status.OPTIMAL_INACCURATE,
    3: Status.PRIMAL_INFEASIBLE,
    4: Status.PRIMAL_INFEASIBLE,
    5: Status.DUAL_INFEASIBLE,
    6: Status.DUAL_INFEASIBLE,
    7: Status.ITERATION_LIMIT,
    8: Status.TIME_LIMIT,
}


class OSQPSolver(Solver):
    """See https://osqp.org; options are OSQP's settings."""

    form = "box"
    common_options = {
        "tolerance": ("eps_abs", "eps_rel"),
        "max_iterations": "max_iter",
        "time_limit": "time_limit",
        "verbose": "verbose",
    }
    defaults = {
        "verbose": False,
        "eps_abs": 1e-6,
        "eps_rel": 1e-6,
        "max_iter": 100_000,
    }
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(osqp.OSQP().ext.OSQPSettings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Mapping[str, Any], session: Session) -> Solution:
        solver = osqp.OSQP()
        P = sparse.triu(program.P, format="csc")
        A, q = program.A, program.q
        solver.setup(P=P, q=q, A=A, l=program.l, u=program.u, **options)
        found = solver.solve(raise_error=False)  # the status comes back instead
        status = _STATUS.get(found.info.status_val, Status.ERROR)
        info = {"status": found.info.status, "iterations": found.info.iter}
        return Solution(np.array(found.x), np.array(found.y), None, status, info)
