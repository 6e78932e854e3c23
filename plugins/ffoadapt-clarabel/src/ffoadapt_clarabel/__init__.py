"""Registers Clarabel; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0011,
    ("dense", 50): 0.004,
    ("dense", 100): 0.012,
    ("dense", 200): 0.099,
    ("dense", 500): 0.37,
    ("dense", 1000): 2.2,
    ("sparse", 100): 0.0018,
    ("sparse", 1000): 0.0082,
    ("sparse", 10000): 0.074,
    ("sparse", 100000): 1.2,
    ("filled", 300): 0.011,
    ("filled", 1000): 0.051,
    ("filled", 2000): 0.23,
    ("cone", 23): 0.0073,
    ("cone", 57): 0.011,
    ("cone", 315): 0.17,
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
