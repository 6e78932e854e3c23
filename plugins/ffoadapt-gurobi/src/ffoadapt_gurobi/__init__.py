"""Registers Gurobi; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense", "sparse"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0016,
    ("dense", 50): 0.0063,
    ("dense", 100): 0.034,
    ("sparse", 100): 0.0035,
    ("sparse", 1000): 10000,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """Gurobi, for linear and convex quadratic programs."""
    return [
        SolverSpec(
            "gurobi",
            load="ffoadapt_gurobi._solver:GurobiSolver",
            requires=("gurobipy",),
            cones=POLYHEDRAL,
            matrices=MATRICES,
            speed=SPEED,
        )
    ]
