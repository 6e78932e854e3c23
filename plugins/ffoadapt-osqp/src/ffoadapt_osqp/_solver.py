"""OSQP: operator splitting for l <= Ax <= u."""

import numpy as np
import osqp
from scipy import sparse

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status


class OSQPSolver(Solver):
    """See https://osqp.org; options are OSQP's settings."""

    form = "box"
    common_options = {"tolerance": ("eps_abs", "eps_rel"), "max_iterations": "max_iter"}
    defaults = {"verbose": False, "eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 100_000}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(osqp.OSQP().ext.OSQPSettings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        solver = osqp.OSQP()
        P = sparse.triu(program.P, format="csc")
        A, q = program.A, program.q
        solver.setup(P=P, q=q, A=A, l=program.l, u=program.u, **options)
        found = solver.solve(raise_error=False)  # the status comes back instead
        status = Status.read(found.info.status)
        info = {"status": found.info.status, "iterations": found.info.iter}
        return Solution(np.array(found.x), np.array(found.y), None, status, info)
