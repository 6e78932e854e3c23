"""PIQP: proximal interior point, dense and sparse.

Its workspace is kept for warm starts alone: after an update the result differs from a fresh one in
the last digits. What an update saves is the symbolic factorization; PIQP starts from no point.
"""

import numpy as np
import piqp

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

from . import MATRICES, _setup

_TOLERANCES = ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel")


class PIQPSolver(Solver):
    """See https://predict-epfl.github.io/piqp; options are PIQP's settings."""

    form = "box"
    matrices = MATRICES
    common_options = {"tolerance": _TOLERANCES, "max_iterations": "max_iter"}
    defaults = dict(zip(_TOLERANCES, (1e-10, 1e-12, 1e-10, 1e-12), strict=True))

    def known_options(self) -> list[str]:
        return [name for name in dir(piqp.DenseSolver().settings) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        return _setup.solve(self._solve, program, options, session)

    def _solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        # A copy, because PIQP asks for writable sparse matrices.
        P, q, l, u = program.P.copy(), program.q, program.l, program.u
        equal, finite, y = l == u, np.isfinite((l, u)), np.zeros(u.size)
        rows = ~equal & finite.any(axis=0)  # it warns of rows without a bound
        E, G = (program.A_rows(on, session) for on in (equal, rows))
        data = (P, q, E, u[equal], G, l[rows], u[rows])
        solver, kinds = session.get("kept", (None, None))
        if solver is not None and np.array_equal(kinds, (equal, *finite)):
            solver.update(*data)
        else:
            solver = _setup.made(P, options)
            solver.setup(*data)
            session["kept"] = (solver, (equal, *finite)) if session.warm_start else (None, None)
        status, result = Status.read(solver.solve().name.removeprefix("PIQP_")), solver.result
        y[equal], y[rows] = result.y, result.z_u - result.z_l
        return Solution(np.array(result.x), y, None, status, {"iterations": result.info.iter})
