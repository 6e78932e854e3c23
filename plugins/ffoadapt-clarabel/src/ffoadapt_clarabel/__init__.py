"""Registers Clarabel; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0011,
    ("dense", 50): 0.0045,
    ("dense", 100): 0.014,
    ("dense", 200): 0.12,
    ("sparse", 100): 0.0022,
    ("sparse", 1000): 0.0077,
    ("sparse", 10000): 0.075,
    ("sparse", 100000): 1,
    ("filled", 300): 0.011,
    ("filled", 1000): 0.06,
    ("filled", 2000): 0.25,
    ("second_order", 12): 0.0021,
    ("second_order", 26): 0.0044,
    ("second_order", 102): 0.037,
    ("exponential", 40): 0.0019,
    ("exponential", 100): 0.0033,
    ("exponential", 399): 0.017,
    ("psd", 10): 0.0013,
    ("psd", 27): 0.002,
    ("psd", 405): 0.06,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Clarabel."""
    return [
        SolverSpec(
            "clarabel",
            load="ffoadapt_clarabel._solver:ClarabelSolver",
            requires=("clarabel",),
            matrices=frozenset({"sparse"}),
            cones=CONES,
            speed=SPEED,
        )
    ]
