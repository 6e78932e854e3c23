"""HiGHS: simplex for linear programs, active set for convex quadratic ones; sparse.

HiGHS adds 1e-7 to the diagonal of a quadratic objective (without it, it takes many semidefinite P
for nonconvex), so its solution is that of a neighbour, even where the program itself is unbounded.
Proximal steps, each around the last solution, end at the solution of the program.

With a curvature of 1e15 beside those 1e-7 it writes beyond its memory, which ends the process:
objectives with more than 1e8 reach it in other units. So it does, with a quadratic objective, where
rows of very different sizes all but depend on each other: rows reach it with entries near 1.
"""

import highspy
import numpy as np
from scipy import sparse

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

_TOLERANCES = ("primal_feasibility_tolerance", "dual_feasibility_tolerance")
_LIMITS = ("simplex_iteration_limit", "qp_iteration_limit", "ipm_iteration_limit")


class HighsSolver(Solver):
    """See https://highs.dev; options are those of HiGHS."""

    form = "box"
    common_options = {"tolerance": _TOLERANCES, "max_iterations": _LIMITS, "verbose": "output_flag"}
    # Without a limit of iterations it cycles for ever on some degenerate programs.
    defaults = {"output_flag": False, "qp_regularization_value": 1e-7, "qp_iteration_limit": 10**5}
    releases_gil = True
    # Scaled bounds (user_bound_scale) help here, and make more of other programs fail.
    waive = {"gradient_h-simplex": "HiGHS does not solve quadratic programs with bounds near 1e-4"}

    def known_options(self) -> list[str]:
        return [name for name in dir(highspy.HighsOptions) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        highs, p, A, (m, n) = highspy.Highs(), program, program.A, program.A.shape
        if bad := [f"{k}={v!r}" for k, v in options.items() if highs.setOptionValue(k, v).value]:
            raise ValueError(f"HiGHS does not accept {', '.join(bad)}")
        P, x, inf = sparse.tril(p.P, format="csc"), np.zeros(n), np.full(n, np.inf)
        weight = options["qp_regularization_value"] if P.nnz else 0.0
        unit = max(1.0, P.data.max(initial=0.0) / 1e8)  # the largest is on the diagonal
        rows = np.ones(m)
        if P.nnz:
            np.maximum.at(rows := np.zeros(m), A.indices, np.abs(A.data))
            rows = np.exp2(-np.rint(np.log2(rows, where=rows > 0.0, out=np.zeros(m))))
        l, u, entries = rows * p.l, rows * p.u, rows[A.indices] * A.data
        sizes = (n, m, A.nnz, P.nnz, 1, 1, 1, 0.0)  # by columns, triangular, minimize
        data = (A.indptr, A.indices, entries, P.indptr, P.indices, P.data / unit, x.astype("i4"))
        for _ in range(10):
            highs.passModel(*sizes, p.q / unit - weight * x, -inf, inf, l, u, *data)
            highs.run()
            solution, last, name = highs.getSolution(), x, highs.getModelStatus().name
            x, y = np.array(solution.col_value), -unit * rows * np.array(solution.row_dual)
            if name != "kOptimal" or weight * np.abs(x - last).max() <= 1e-10:
                return Solution(x, y, None, Status.read(name.removeprefix("k")), {"status": name})
        return Solution(status=Status.ERROR, info={"message": "its proximal steps do not settle"})
