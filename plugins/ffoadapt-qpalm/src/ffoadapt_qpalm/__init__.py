"""Registers QPALM; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00092,
    ("dense", 50): 0.0022,
    ("dense", 100): 0.0098,
    ("dense", 200): 0.073,
    ("dense", 500): 1,
    ("sparse", 100): 0.0012,
    ("sparse", 1000): 0.0072,
    ("sparse", 10000): 0.097,
    ("sparse", 100000): 1.5,
    ("filled", 300): 0.007,
    ("filled", 1000): 0.082,
    ("filled", 2000): 0.62,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver QPALM."""
    return [
        SolverSpec(
            "qpalm",
            load="ffoadapt_qpalm._solver:QPALMSolver",
            requires=("qpalm",),
            speed=SPEED,
        )
    ]
