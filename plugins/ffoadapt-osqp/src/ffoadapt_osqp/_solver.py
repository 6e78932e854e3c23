"""OSQP: operator splitting for l <= Ax <= u."""

import numpy as np
import osqp
from scipy import sparse

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

# Found once: looking for one imports what is not installed. A user who interrupts that leaves the
# lock of all imports taken.
_ALGEBRA = osqp.default_algebra()


class OSQPSolver(Solver):
    """See https://osqp.org; options are OSQP's settings."""

    form = "box"
    common_options = {"tolerance": ("eps_abs", "eps_rel"), "max_iterations": "max_iter"}
    defaults = {"verbose": False, "eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 100_000}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(osqp.OSQP().ext.OSQPSettings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        P, A = sparse.triu(program.P, format="csc"), program.A
        vectors = {"q": program.q, "l": program.l, "u": program.u}
        solver = session.get("solver")
        if solver is None or session.warm_start is None:
            # An OSQP object takes longer to make than a small program to solve; setup resets it.
            solver = session["solver"] = solver or osqp.OSQP(algebra=_ALGEBRA)
            solver.setup(P=P, A=A, **vectors, **options)
        elif all(map(np.array_equal, session["matrices"], (P.data, A.data))):
            solver.update(**vectors)  # keeps the factorization
        else:
            solver.update(**vectors, Px=P.data, Ax=A.data)
        session["matrices"] = P.data, A.data.copy()
        result = solver.solve(raise_error=False)  # the status comes back instead
        status = Status.read(result.info.status)
        info = {"status": result.info.status, "iterations": result.info.iter}
        return Solution(np.array(result.x), np.array(result.y), None, status, info)
