"""Registers QPALM; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0011,
    ("dense", 50): 0.0031,
    ("dense", 100): 0.012,
    ("dense", 200): 0.092,
    ("dense", 500): 1.4,
    ("sparse", 100): 0.0019,
    ("sparse", 1000): 0.0085,
    ("sparse", 10000): 0.12,
    ("sparse", 100000): 1.5,
    ("filled", 300): 0.0066,
    ("filled", 1000): 0.096,
    ("filled", 2000): 0.75,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver QPALM."""
    return [
        SolverSpec(
            "qpalm",
            load="ffoadapt_qpalm._solver:QPALMSolver",
            requires=("qpalm",),
            cones=POLYHEDRAL,
            matrices=frozenset({"sparse"}),
            speed=SPEED,
        )
    ]
