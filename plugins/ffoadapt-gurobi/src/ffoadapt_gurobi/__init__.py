"""Registers Gurobi; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """Gurobi, for linear and convex quadratic programs."""
    return [
        SolverSpec(
            "gurobi",
            load="ffoadapt_gurobi._solver:GurobiSolver",
            requires=("gurobipy",),
            matrices=frozenset({"dense", "sparse"}),
        )
    ]
