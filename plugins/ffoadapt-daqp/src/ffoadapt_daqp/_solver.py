"""DAQP: dual active set for l <= Ax <= u, dense; it takes l = u as an equality by itself.

Programs that are not small reach it in least-distance form (`_form`), those of a batch without its
Python function (`_quadprog`).
"""

import daqp

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status
from ffoadapt.experimental import Solutions

from . import MATRICES, _form, _quadprog


class DAQPSolver(Solver):
    """See https://darnstrom.github.io/daqp; options are DAQP's settings."""

    form = "box"
    matrices = MATRICES
    common_options = {"tolerance": "primal_tol", "max_iterations": "iter_limit"}
    # Where P is singular it takes proximal steps until one is shorter than eta_prox.
    defaults = {"primal_tol": 1e-9, "eta_prox": 1e-10}
    releases_gil = True

    def known_options(self) -> list[str]:
        return list(daqp.Model().settings)

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        given = _form.of(program)
        start = None if session.warm_start is None else given.start(session.warm_start.dual)
        x, _, flag, more = daqp.solve(*given.data, dual_start=start, **options)
        status = _quadprog.STATUS.get(flag, Status.ERROR)
        info = {"status": flag, "iterations": more["iterations"]}
        if not status.solved:
            return Solution(status=status, info=info)
        x, dual = given.point(x, more["lam"])
        return Solution(x, dual, None, status, info)

    def solve_batch(
        self, programs: BoxForm, options: Options, session: Session
    ) -> Solutions | None:
        return _quadprog.solve_batch(programs, options, session)
