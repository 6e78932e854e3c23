"""ProxQP (proxsuite): proximal augmented Lagrangian, dense and sparse.

With its own settings it calls many linear programs infeasible that are not, so that verdict is kept
only if a second run, which asks for a certificate of full accuracy, does not solve the program.

A warm start is a start alone: the object that could be updated in place does not release the GIL.
"""

import numpy as np
from proxsuite import proxqp

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

from . import MATRICES
from ._costs import checked

_GAP = {"eps_duality_gap_abs": 1e-9, "eps_duality_gap_rel": 1e-12}


class ProxQPSolver(Solver):
    """See https://github.com/Simple-Robotics/proxsuite; options are those of its `solve`."""

    form = "box"
    matrices = MATRICES
    common_options = {"tolerance": ("eps_abs", "eps_duality_gap_abs"), "max_iterations": "max_iter"}
    defaults = {"eps_abs": 1e-9, "max_iter": 1000, "check_duality_gap": True, **_GAP}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [*self.defaults, "eps_rel", "compute_preconditioner", "initial_guess", "verbose"]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        solver = proxqp.dense if isinstance(program.A, np.ndarray) else proxqp.sparse
        A, l, u, eq = program.A, program.l, program.u, program.l == program.u
        # A copy, because proxsuite asks for writable sparse matrices.
        data = (program.P.copy(), checked(program.q), A[eq], u[eq], A[~eq], l[~eq], u[~eq])
        start = (w.x, w.dual[eq], w.dual[~eq]) if (w := session.warm_start) else ()
        result = solver.solve_no_gil(*data, *start, **options)
        if result.info.status.name == "PROXQP_PRIMAL_INFEASIBLE":
            again = solver.QP(program.q.size, data[3].size, data[5].size)
            for name, value in {**options, "eps_primal_inf": 1e-12}.items():
                setattr(again.settings, name, value)
            again.init(*data)
            again.solve()
            result = again.results if again.results.info.status.name == "PROXQP_SOLVED" else result
        y, status = np.empty(u.size), Status.read(result.info.status.name.removeprefix("PROXQP_"))
        y[eq], y[~eq] = result.y, result.z
        return Solution(np.array(result.x), y, None, status, {"iterations": result.info.iter})
