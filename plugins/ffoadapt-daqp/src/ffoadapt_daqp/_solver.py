"""DAQP: dual active set for l <= Ax <= u, dense; it takes l = u as an equality by itself."""

import daqp
import numpy as np

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

_STATUS = {
    1: Status.OPTIMAL,
    -1: Status.PRIMAL_INFEASIBLE,
    -3: Status.DUAL_INFEASIBLE,
    -4: Status.ITERATION_LIMIT,
    -6: Status.PRIMAL_INFEASIBLE,  # the equalities contradict each other
    -7: Status.TIME_LIMIT,
}


class DAQPSolver(Solver):
    """See https://darnstrom.github.io/daqp; options are DAQP's settings."""

    form = "box"
    matrices = ("dense",)
    common_options = {"tolerance": "primal_tol", "max_iterations": "iter_limit"}
    # Where P is singular it takes proximal steps until one is shorter than eta_prox.
    defaults = {"primal_tol": 1e-9, "eta_prox": 1e-10}
    releases_gil = True

    def known_options(self) -> list[str]:
        return list(daqp.Model().settings)

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        # Copies, because DAQP asks for writable arrays in C order.
        data = (program.P, program.q, program.A, program.u, program.l)
        start = None if session.warm_start is None else np.array(session.warm_start.dual)
        x, _, flag, found = daqp.solve(
            *(np.array(v, order="C") for v in data), dual_start=start, **options
        )
        info = {"status": flag, "iterations": found["iterations"]}
        return Solution(x, found["lam"], None, _STATUS.get(flag, Status.ERROR), info)
