"""Gurobi: simplex for linear programs, barrier for convex quadratic ones; dense and sparse."""

from collections.abc import Mapping
from typing import Any, ClassVar

import gurobipy
import numpy as np
from gurobipy import GRB

from ffoadapt import BoxForm, Session, Solution, Solver, Status

_STATUS = {
    GRB.OPTIMAL: Status.OPTIMAL,
    GRB.SUBOPTIMAL: Status.OPTIMAL_INACCURATE,
    GRB.INFEASIBLE: Status.PRIMAL_INFEASIBLE,
    GRB.UNBOUNDED: Status.DUAL_INFEASIBLE,
    GRB.ITERATION_LIMIT: Status.ITERATION_LIMIT,
    GRB.TIME_LIMIT: Status.TIME_LIMIT,
}


class GurobiSolver(Solver):
    """See https://docs.gurobi.com; options are Gurobi's parameters."""

    form = "box"
    matrices = ("dense", "sparse")
    common_options: ClassVar = {
        "tolerance": "BarConvTol",
        "max_iterations": ("BarIterLimit", "IterationLimit"),
        "time_limit": "TimeLimit",
        "verbose": "OutputFlag",
    }
    # The feasibility tolerances are the smallest it takes; without dual reductions it tells
    # infeasible from unbounded.
    defaults: ClassVar = {
        "OutputFlag": 0,
        "Threads": 1,
        "DualReductions": 0,
        "BarConvTol": 1e-12,
        "FeasibilityTol": 1e-9,
        "OptimalityTol": 1e-9,
    }
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(GRB.Param) if not name.startswith("_")]

    def solve(self, program: BoxForm, options: Mapping[str, Any], session: Session) -> Solution:
        # An environment serves one thread, and takes as long to start as a small program to solve.
        session["env"] = env = session.get("env") or gurobipy.Env(params={"OutputFlag": 0})
        A, l, u, y = program.A, program.l, program.u, np.zeros(program.u.size)
        with gurobipy.Model(env=env) as model:
            for name, value in options.items():
                model.setParam(name, value)
            x = model.addMVar(program.q.size, lb=-GRB.INFINITY)
            model.setMObjective(0.5 * program.P, program.q, 0.0, x, x, x)
            sides = [
                ("=", l == u, u),
                ("<", np.isfinite(u) & (l < u), u),
                (">", np.isfinite(l) & (l < u), l),
            ]
            rows = [(k, model.addMConstr(A[k], x, sign, v[k])) for sign, k, v in sides if k.any()]
            model.optimize()
            status = _STATUS.get(model.Status, Status.ERROR)
            for k, row in rows if status.solved else []:
                y[k] -= row.Pi
            return Solution(np.array(x.X) if status.solved else None, y, None, status)
