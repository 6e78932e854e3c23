"""Registers ProxQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00068,
    ("dense", 50): 0.00078,
    ("dense", 100): 0.0019,
    ("dense", 200): 0.0061,
    ("dense", 500): 0.054,
    ("dense", 1000): 0.39,
    ("sparse", 100): 0.0016,
    ("sparse", 1000): 0.011,
    ("sparse", 10000): 0.54,
    ("filled", 300): 0.0059,
    ("filled", 1000): 0.054,
    ("filled", 2000): 0.44,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver ProxQP."""
    return [
        SolverSpec(
            "proxqp",
            load="ffoadapt_proxqp._solver:ProxQPSolver",
            requires=("proxsuite",),
            matrices=frozenset({"dense", "sparse"}),
            speed=SPEED,
        )
    ]
