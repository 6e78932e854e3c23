"""SCS: operator splitting, all six cones, its PSD blocks stacked as ours. Rows sorted by cone."""

import numpy as np
import scs
from scipy import sparse

from ffoadapt import ConeForm, Options, Session, Solution, Solver, Status

from . import CONES

_SIZES = ("z", "l", "q", "s", "ep", "p")  # zero, nonnegative, second-order, PSD, exponential, power
_TOLERANCES = ("eps_abs", "eps_rel")
_LIMITS = {"max_iterations": "max_iters", "time_limit": "time_limit_secs"}
_SETTINGS = """
    normalize scale adaptive_scale rho_x max_iters eps_abs eps_rel eps_infeas alpha linear_solver
    time_limit_secs verbose acceleration_lookback acceleration_interval
"""


class SCSSolver(Solver):
    """See https://www.cvxgrp.org/scs; options are SCS's settings."""

    form = "cone"
    cones = CONES
    common_options = {"tolerance": _TOLERANCES, **_LIMITS}
    defaults = {
        **dict.fromkeys(_TOLERANCES, 1e-6),
        **{"verbose": False, "max_iters": 100_000, "linear_solver": scs.LinearSolver.QDLDL},
    }
    releases_gil = True

    def known_options(self) -> list[str]:
        return _SETTINGS.split()

    def solve(self, program: ConeForm, options: Options, session: Session) -> Solution:
        counts = program.sizes()
        rows, sizes = program.rows(counts), dict(zip(_SIZES, counts.values(), strict=True))
        A, b = program.A_rows(rows), program.b[rows]
        if not b.size:  # SCS wants a row: 0'x <= 1
            A, b, sizes["l"] = sparse.csc_matrix((1, program.q.size)), np.ones(1), 1
        P = program.P_upper()
        last, (solver, *matrices) = session.warm_start, session.get("kept", (None,))
        if solver is not None and all(map(np.array_equal, matrices, (P.data, A.data))):
            solver.update(b=b, c=program.q)  # keeps the factorization
        else:
            solver = scs.SCS({"P": P, "A": A, "b": b, "c": program.q}, sizes, **options)
            if last is not None:
                session["kept"] = solver, P.data.copy(), A.data.copy()
        start = [] if last is None else [last.x, last.dual[rows], np.asarray(last.slack)[rows]]
        result = solver.solve(True, *(start if program.b.size else []))
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = result["y"][: z.size], result["s"][: z.size]
        info = {"status": result["info"]["status"], "iterations": result["info"]["iter"]}
        return Solution(result["x"], z, s, Status.read(info["status"]), info)
