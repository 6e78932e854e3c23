"""NLopt: sequential quadratic programming, L-BFGS and others; it gives no multipliers."""

from collections.abc import Callable

import nlopt
import numpy as np

from ffoadapt import Options, Session, SmoothForm, Solution, Solver, Status

Function = Callable[..., object]

_STATUS = {5: Status.ITERATION_LIMIT, 6: Status.TIME_LIMIT, -1: Status.ERROR}


class NLoptSolver(Solver):
    """See https://nlopt.readthedocs.io; ``algorithm`` is the name of one that takes gradients."""

    form = "smooth"
    cones = ("bounds", "inequalities", "equalities")
    matrices = ()
    common_options = {"tolerance": "ftol_rel", "max_iterations": "maxeval", "time_limit": "maxtime"}
    defaults = {"ftol_rel": 1e-14, "xtol_rel": 1e-12, "maxeval": 5000, "algorithm": ""}

    def known_options(self) -> list[str]:
        return [*self.defaults, "maxtime", "ftol_abs", "stopval"]

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        p, last = program, np.array(program.start)
        plain = "LD_SLSQP" if p.m_ineq + p.m_eq else "LD_LBFGS"
        solver = nlopt.opt(getattr(nlopt, options.get("algorithm") or plain), p.n)
        solver.set_min_objective(_values(p.objective, p.gradient, last))
        solver.set_lower_bounds(p.lower)
        solver.set_upper_bounds(p.upper)
        rows = _values(p.inequalities, p.inequality_jacobian, last)
        solver.add_inequality_mconstraint(rows, np.full(p.m_ineq, 1e-12))
        rows = _values(p.equalities, p.equality_jacobian, last)
        solver.add_equality_mconstraint(rows, np.full(p.m_eq, 1e-12))
        for name in options.keys() - {"algorithm"}:
            getattr(solver, f"set_{name}")(options[name])
        try:
            x = solver.optimize(last)
        except (RuntimeError, nlopt.runtime_error, nlopt.RoundoffLimited):
            x = last
        code = solver.last_optimize_result()
        good = Status.OPTIMAL if code > 0 else Status.OPTIMAL_INACCURATE  # as rounding lets it
        status = _STATUS.get(code, good if p.violation(x) < 1e-6 else Status.ERROR)
        return Solution(x, None, None, status, {"status": code})


def _values(function: Function, slope: Function, last: np.ndarray) -> Function:
    """Values and gradients as NLopt asks for them; ``last`` is where it was asked last."""

    def asked(*given: np.ndarray) -> object:
        *result, y, gradient = given
        last[:] = y
        if gradient.size:
            gradient[:] = slope(y)
        if result:
            result[0][:] = function(y)
        return None if result else function(y)

    return asked
