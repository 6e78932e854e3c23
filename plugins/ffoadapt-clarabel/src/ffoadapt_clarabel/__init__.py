"""Registers Clarabel; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0023,
    ("dense", 50): 0.0051,
    ("dense", 100): 0.014,
    ("dense", 200): 0.1,
    ("dense", 500): 0.39,
    ("dense", 1000): 2.4,
    ("sparse", 100): 0.0052,
    ("sparse", 1000): 0.013,
    ("sparse", 10000): 0.098,
    ("sparse", 100000): 1.5,
    ("cone", 23): 0.036,
    ("cone", 57): 0.045,
    ("cone", 315): 0.27,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Clarabel."""
    return [
        SolverSpec(
            "clarabel",
            load="ffoadapt_clarabel._solver:ClarabelSolver",
            requires=("clarabel",),
            cones=CONES,
            speed=SPEED,
        )
    ]
