"""PIQP: proximal interior point, dense and sparse.

Its workspace is not kept: an update saves at most a fifth of the time, and the result then differs
from a fresh one in the last digits.
"""

import numpy as np
import piqp

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

_TOLERANCES = ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel")


class PIQPSolver(Solver):
    """See https://predict-epfl.github.io/piqp; options are PIQP's settings."""

    form = "box"
    matrices = ("dense", "sparse")
    common_options = {"tolerance": _TOLERANCES, "max_iterations": "max_iter"}
    defaults = dict(zip(_TOLERANCES, (1e-10, 1e-12, 1e-10, 1e-12), strict=True))

    def known_options(self) -> list[str]:
        return [name for name in dir(piqp.DenseSolver().settings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        dense = isinstance(program.A, np.ndarray)
        solver = piqp.DenseSolver() if dense else piqp.SparseSolver()
        for name, value in options.items():
            setattr(solver.settings, name, value)
        l, u = program.l, program.u
        equal = l == u
        rows = ~equal & (np.isfinite(l) | np.isfinite(u))  # it warns of rows without a bound
        G, E = program.A_rows(rows), program.A_rows(equal)
        solver.setup(program.P, program.q, E, u[equal], G, l[rows], u[rows])
        status = Status.read(solver.solve().name.removeprefix("PIQP_"))
        found, y = solver.result, np.zeros(u.size)
        y[equal], y[rows] = found.y, found.z_u - found.z_l
        return Solution(np.array(found.x), y, None, status, {"iterations": found.info.iter})
