"""Registers QPALM; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.002,
    ("dense", 50): 0.003,
    ("dense", 100): 0.011,
    ("dense", 200): 0.075,
    ("dense", 500): 1.1,
    ("sparse", 100): 0.0026,
    ("sparse", 1000): 0.0094,
    ("sparse", 10000): 0.12,
    ("sparse", 100000): 2.1,
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
