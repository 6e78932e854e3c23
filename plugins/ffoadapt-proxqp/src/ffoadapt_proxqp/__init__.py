"""Registers ProxQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0014,
    ("dense", 50): 0.00096,
    ("dense", 100): 0.003,
    ("dense", 200): 0.0065,
    ("dense", 500): 0.063,
    ("dense", 1000): 0.42,
    ("sparse", 100): 0.0055,
    ("sparse", 1000): 0.017,
    ("sparse", 10000): 0.9,
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
