"""HiGHS: simplex for linear programs, active set for convex quadratic ones; sparse.

HiGHS adds 1e-7 to the diagonal of a quadratic objective (without it, it takes many semidefinite P
for nonconvex), so its solution is that of a neighbour, even where the program itself is unbounded.
Proximal steps, each around the last solution, end at the solution of the program.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import highspy
import numpy as np
from scipy import sparse

from ffoadapt import BoxForm, Session, Solution, Solver, Status

_STATUS = {
    "kOptimal": Status.OPTIMAL,
    "kInfeasible": Status.PRIMAL_INFEASIBLE,
    "kUnbounded": Status.DUAL_INFEASIBLE,
    "kIterationLimit": Status.ITERATION_LIMIT,
    "kTimeLimit": Status.TIME_LIMIT,
}
_STEPS, _STEP = 10, 1e-10


class HighsSolver(Solver):
    """See https://highs.dev; options are those of HiGHS."""

    form = "box"
    common_options: ClassVar = {
        "tolerance": ("primal_feasibility_tolerance", "dual_feasibility_tolerance"),
        "max_iterations": ("simplex_iteration_limit", "qp_iteration_limit", "ipm_iteration_limit"),
        "time_limit": "time_limit",
        "verbose": "output_flag",
    }
    defaults: ClassVar = {"output_flag": False, "qp_regularization_value": 1e-7}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(highspy.HighsOptions) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Mapping[str, Any], session: Session) -> Solution:
        highs, n, A = highspy.Highs(), program.q.size, program.A
        for name, value in options.items():
            if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise ValueError(f"HiGHS does not accept {name}={value!r}")
        P, free = sparse.tril(program.P, format="csc"), np.full(n, np.inf)
        matrices = (A.indptr, A.indices, A.data, P.indptr, P.indices, P.data)
        weight, x = options["qp_regularization_value"] if P.nnz else 0.0, np.zeros(n)
        for _ in range(_STEPS):
            vectors = (program.q - weight * x, -free, free, program.l, program.u)
            highs.passModel(
                n, A.shape[0], A.nnz, P.nnz, 1, 1, 1, 0.0, *vectors, *matrices, np.zeros(n, "i4")
            )
            highs.run()
            last, x = x, np.array(highs.getSolution().col_value)
            settled = weight * np.abs(x - last).max() <= _STEP
            name = highs.getModelStatus().name
            if settled or name != "kOptimal":
                break
        status = _STATUS.get(name, Status.ERROR) if settled else Status.ERROR
        return Solution(x, -np.array(highs.getSolution().row_dual), None, status, {"status": name})
