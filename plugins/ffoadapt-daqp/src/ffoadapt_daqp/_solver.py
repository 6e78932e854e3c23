"""DAQP: dual active set for l <= Ax <= u, dense; it takes l = u as an equality by itself.

Programs that are not small reach it in least-distance form (`_least_distance`).
"""

import daqp

from ffoadapt import BoxForm, Options, Session, Solution, Solutions, Solver, Status

from . import _batch
from ._least_distance import Unchanged, least_distance, worthwhile

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
        given = least_distance(program) or Unchanged(program)
        start = None if session.warm_start is None else given.start(session.warm_start.dual)
        x, _, flag, found = daqp.solve(*given.data(), dual_start=start, **options)
        status = _STATUS.get(flag, Status.ERROR)
        info = {"status": flag, "iterations": found["iterations"]}
        if not status.solved:
            return Solution(status=status, info=info)
        x, dual = given.point(x, found["lam"])
        return Solution(x, dual, None, status, info)

    def solve_batch(
        self, programs: BoxForm, options: Options, session: Session
    ) -> Solutions | None:
        m, n = programs.A.shape[1:]
        if not m or not n or worthwhile(n, m) or _batch.quadprog() is None:
            return None
        given = session.get("settings")
        if given is None:
            given = session["settings"] = _batch.settings(options)
        x, dual, flags, iterations = _batch.solve(programs, given)
        error, taken = Status.ERROR, zip(flags, iterations, strict=True)
        status = [_STATUS.get(flag, error) for flag in flags]
        return Solutions(x, dual, status, [{"status": f, "iterations": k} for f, k in taken])
