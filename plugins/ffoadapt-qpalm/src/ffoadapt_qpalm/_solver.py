"""QPALM: proximal augmented Lagrangian with semismooth Newton steps, sparse.

Its workspace is not kept: an update gives the same bits, but takes longer than a fresh setup. Warm
starts are left out: from a point near the solution it stalls just above the tolerance, and runs to
its limit of iterations.
"""

import numpy as np
import qpalm

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status


class QPALMSolver(Solver):
    """See https://kul-optec.github.io/QPALM; options are QPALM's settings."""

    form = "box"
    common_options = {"tolerance": ("eps_abs", "eps_rel"), "max_iterations": "max_iter"}
    # With its own 1e-5 for certificates it calls one linear program in six infeasible.
    defaults = {
        "verbose": False,
        "eps_abs": 1e-10,
        "eps_rel": 1e-11,
        "eps_prim_inf": 1e-9,
        "eps_dual_inf": 1e-9,
    }
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(qpalm.Settings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        numbers = np.concatenate((program.P.data, program.q, program.A.data))
        if not program.q.size or np.abs(numbers).max() > 1e100:  # these end the process
            raise ValueError("QPALM takes no program without variables, nor numbers above 1e100")
        data, settings = qpalm.Data(program.q.size, program.u.size), qpalm.Settings()
        # Copies, because QPALM reads strided values as if they were contiguous.
        data.Q, data.q, data.A = program.P.copy(), program.q, program.A.copy()
        data.bmin, data.bmax = program.l, program.u
        for name, value in options.items():
            setattr(settings, name, value)
        solver = qpalm.Solver(data, settings)
        solver.solve()
        result, status = solver.solution, Status.read(solver.info.status)
        info = {"status": solver.info.status, "iterations": solver.info.iter}
        return Solution(np.array(result.x), np.array(result.y), None, status, info)
