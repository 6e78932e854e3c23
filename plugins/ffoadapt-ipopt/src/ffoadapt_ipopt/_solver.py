"""IPOPT: an interior point for nonlinear programs, with an approximation of the Hessian."""

import cyipopt
import numpy as np

from ffoadapt import Options, Session, SmoothForm, Solution, Solver, Status

_STATUS = {0: Status.OPTIMAL, 1: Status.OPTIMAL_INACCURATE, 2: Status.PRIMAL_INFEASIBLE}
_STATUS |= {4: Status.DUAL_INFEASIBLE, -1: Status.ITERATION_LIMIT, -5: Status.TIME_LIMIT}


class IpoptSolver(Solver):
    """See https://coin-or.github.io/Ipopt/OPTIONS.html for its options."""

    form = "smooth"
    cones = ("bounds", "inequalities", "equalities")
    matrices = ()
    common_options = {
        "tolerance": "tol",
        "max_iterations": "max_iter",
        "time_limit": "max_wall_time",
        "verbose": "print_level",
    }
    defaults = {"hessian_approximation": "limited-memory", "tol": 1e-9, "print_level": 0}

    def solve(self, program: SmoothForm, options: Options, session: Session) -> Solution:
        p, m = program, program.m_ineq
        low = np.concatenate((np.full(m, -np.inf), np.zeros(p.m_eq)))
        high = np.zeros(low.size)
        solver = cyipopt.Problem(p.n, low.size, _Callbacks(p), p.lower, p.upper, low, high)
        solver.add_option("sb", "yes")
        for name, value in options.items():
            solver.add_option(name, 5 * value if isinstance(value, bool) else value)
        x, info = solver.solve(np.array(p.start))
        duals = np.array(info["mult_g"])
        bounds = np.array(info["mult_x_L"]), np.array(info["mult_x_U"])
        status = _STATUS.get(info["status"], Status.ERROR)
        said = {"message": info["status_msg"].decode()}
        return Solution(np.array(x), (duals[:m], duals[m:], *bounds), None, status, said)


class _Callbacks:
    """The program as cyipopt asks for it."""

    def __init__(self, program: SmoothForm) -> None:
        self.program = program
        self.objective, self.gradient = program.objective, program.gradient

    def constraints(self, y: np.ndarray) -> np.ndarray:
        return np.concatenate((self.program.inequalities(y), self.program.equalities(y)))

    def jacobian(self, y: np.ndarray) -> np.ndarray:
        rows = self.program.inequality_jacobian(y), self.program.equality_jacobian(y)
        return np.concatenate(rows).ravel()
