"""Gurobi: simplex for linear programs, barrier for convex quadratic ones; dense and sparse."""

import gurobipy
import numpy as np
from gurobipy import GRB

from ffoadapt import Options, Session, Solution, Solver, SplitForm, Status

from . import MATRICES

_NAMES = {getattr(GRB.Status, name): name for name in dir(GRB.Status) if name.isupper()}
_LIMITS = ("BarIterLimit", "IterationLimit")
_TIGHT = {"BarConvTol": 1e-12, "FeasibilityTol": 1e-9, "OptimalityTol": 1e-9}


class GurobiSolver(Solver):
    """See https://docs.gurobi.com; options are Gurobi's parameters."""

    form = "split"
    matrices = MATRICES
    common_options = {"tolerance": "BarConvTol", "max_iterations": _LIMITS, "verbose": "OutputFlag"}
    # The feasibility tolerances are the smallest it takes; without dual reductions it tells
    # infeasible from unbounded.
    defaults = {"OutputFlag": 0, "Threads": 1, "DualReductions": 0, **_TIGHT}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(GRB.Param) if not name.startswith("_")]

    def solve(self, program: SplitForm, options: Options, session: Session) -> Solution:
        # An environment serves one thread, and takes as long to start as a small program to solve.
        session["env"] = env = session.get("env") or gurobipy.Env(params=dict(options))
        with gurobipy.Model(env=env) as model:
            x = model.addMVar(program.q.size, lb=-GRB.INFINITY)
            model.setMObjective(0.5 * program.P, program.q, 0.0, x, x, x)
            below = model.addMConstr(program.G, x, "<", program.h)
            equal = model.addMConstr(program.A, x, "=", program.b)
            model.optimize()
            name = _NAMES[model.Status]
            status = {"SUBOPTIMAL": Status.OPTIMAL_INACCURATE}.get(name, Status.read(name))
            if not status.solved:
                return Solution(status=status, info={"status": name})
            return Solution(np.array(x.X), (-below.Pi, -equal.Pi), None, status, {"status": name})
