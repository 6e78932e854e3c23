"""Registers OSQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0025,
    ("dense", 50): 0.0034,
    ("dense", 100): 0.0082,
    ("dense", 200): 0.033,
    ("dense", 500): 0.62,
    ("dense", 1000): 12,
    ("sparse", 100): 0.006,
    ("sparse", 1000): 0.011,
    ("sparse", 10000): 0.068,
    ("sparse", 100000): 1.2,
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
