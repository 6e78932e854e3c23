"""Registers Gurobi; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0024,
    ("dense", 50): 0.0062,
    ("dense", 100): 0.032,
    ("dense", 200): 0.17,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """Gurobi, for linear and convex quadratic programs."""
    return [
        SolverSpec(
            "gurobi",
            load="ffoadapt_gurobi._solver:GurobiSolver",
            requires=("gurobipy",),
            matrices=frozenset({"dense", "sparse"}),
            speed=SPEED,
        )
    ]
