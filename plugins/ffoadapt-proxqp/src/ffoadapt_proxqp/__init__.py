"""Registers ProxQP; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense", "sparse"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00061,
    ("dense", 50): 0.00086,
    ("dense", 100): 0.0023,
    ("dense", 200): 0.0081,
    ("dense", 500): 0.073,
    ("dense", 1000): 0.53,
    ("sparse", 100): 0.0026,
    ("sparse", 1000): 0.012,
    ("sparse", 10000): 0.65,
    ("filled", 300): 0.005,
    ("filled", 1000): 0.064,
    ("filled", 2000): 0.42,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver ProxQP."""
    return [
        SolverSpec(
            "proxqp",
            load="ffoadapt_proxqp._solver:ProxQPSolver",
            requires=("proxsuite",),
            cones=POLYHEDRAL,
            matrices=MATRICES,
            speed=SPEED,
        )
    ]
