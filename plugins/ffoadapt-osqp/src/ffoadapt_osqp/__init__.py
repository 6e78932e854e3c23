"""Registers OSQP; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0014,
    ("dense", 50): 0.003,
    ("dense", 100): 0.0074,
    ("dense", 200): 0.041,
    ("dense", 500): 0.72,
    ("sparse", 100): 0.0028,
    ("sparse", 1000): 0.0064,
    ("sparse", 10000): 0.046,
    ("sparse", 100000): 0.71,
    ("filled", 300): 0.0064,
    ("filled", 1000): 0.043,
    ("filled", 2000): 0.25,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting quadratic programming solver OSQP."""
    return [
        SolverSpec(
            "osqp",
            load="ffoadapt_osqp._solver:OSQPSolver",
            requires=("osqp",),
            cones=POLYHEDRAL,
            matrices=frozenset({"sparse"}),
            speed=SPEED,
        )
    ]
