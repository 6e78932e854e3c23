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
    ("second_order", 16): 0.0031,
    ("second_order", 37): 0.005,
    ("second_order", 144): 0.046,
    ("exponential", 40): 0.0022,
    ("exponential", 100): 0.0036,
    ("exponential", 399): 0.016,
    ("psd", 26): 0.0022,
    ("psd", 77): 0.0025,
    ("psd", 1189): 0.1,
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
