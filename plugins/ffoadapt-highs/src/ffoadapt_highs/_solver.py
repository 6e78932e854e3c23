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
        highs, A, (m, n) = highspy.Highs(), program.A, program.A.shape
        for name, value in options.items():
            if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise ValueError(f"HiGHS does not accept {name}={value!r}")
        P, x = sparse.tril(program.P, format="csc"), np.zeros(n)
        weight = options["qp_regularization_value"] if P.nnz else 0.0
        for _ in range(10):
            highs.passModel(
                *(n, m, A.nnz, P.nnz, 1, 1, 1, 0.0),  # by columns, triangular, minimize
                *(program.q - weight * x, np.full(n, -np.inf), np.full(n, np.inf)),
                *(program.l, program.u, A.indptr, A.indices, A.data),
                *(P.indptr, P.indices, P.data, np.zeros(n, np.int32)),
            )
            highs.run()
            found, last, name = highs.getSolution(), x, highs.getModelStatus().name
            x, y = np.array(found.col_value), -np.array(found.row_dual)
            if name != "kOptimal" or weight * np.abs(x - last).max() <= 1e-10:
                return Solution(x, y, None, _STATUS.get(name, Status.ERROR), {"status": name})
        return Solution(status=Status.ERROR, info={"message": "its proximal steps do not settle"})
