"""Registers OSQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0017,
    ("dense", 50): 0.0029,
    ("dense", 100): 0.0064,
    ("dense", 200): 0.028,
    ("dense", 500): 0.52,
    ("dense", 1000): 8.6,
    ("sparse", 100): 0.0021,
    ("sparse", 1000): 0.0068,
    ("sparse", 10000): 0.051,
    ("sparse", 100000): 0.84,
    ("filled", 300): 0.0076,
    ("filled", 1000): 0.037,
    ("filled", 2000): 0.2,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting quadratic programming solver OSQP."""
    return [
        SolverSpec(
            "osqp",
            load="ffoadapt_osqp._solver:OSQPSolver",
            requires=("osqp",),
            speed=SPEED,
        )
    ]
