"""HiGHS: simplex for linear programs, active set for convex quadratic ones; sparse.

HiGHS adds 1e-7 to the diagonal of a quadratic objective (without it, it takes many semidefinite P
for nonconvex), so its solution is that of a neighbour, even where the program itself is unbounded.
Proximal steps, each around the last solution, end at the solution of the program.

There are numbers with which it writes beyond its memory, which ends the process: see `_form`.
"""

import highspy
import numpy as np

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status

from ._form import given

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
        g, x, inf = given(p, options["qp_regularization_value"]), np.zeros(n), np.full(n, np.inf)
        sizes = (n, m, A.nnz, g.P.nnz, 1, 1, 1, 0.0)  # by columns, triangular, minimize
        data = (A.indptr, A.indices, g.entries, g.P.indptr, g.P.indices, g.P.data, x.astype("i4"))
        for _ in range(10):
            highs.passModel(*sizes, g.q - g.weight * x, -inf, inf, g.l, g.u, *data)
            highs.run()
            solution, last, name = highs.getSolution(), x, highs.getModelStatus().name
            x, y = np.array(solution.col_value), -g.rows * np.array(solution.row_dual)
            if name != "kOptimal" or g.weight * np.abs(x - last).max() <= 1e-10:
                return Solution(x, y, None, Status.read(name.removeprefix("k")), {"status": name})
        return Solution(status=Status.ERROR, info={"message": "its proximal steps do not settle"})
