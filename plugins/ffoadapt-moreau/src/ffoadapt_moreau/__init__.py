"""Registers Moreau; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0018,
    ("dense", 50): 0.0052,
    ("dense", 100): 0.013,
    ("dense", 200): 0.11,
    ("sparse", 100): 0.0023,
    ("sparse", 1000): 0.0076,
    ("sparse", 10000): 0.064,
    ("sparse", 100000): 0.72,
    ("filled", 300): 0.011,
    ("filled", 1000): 0.06,
    ("filled", 2000): 0.24,
    ("second_order", 12): 0.0033,
    ("second_order", 26): 0.0059,
    ("second_order", 102): 0.046,
    ("exponential", 40): 0.0024,
    ("exponential", 100): 0.0042,
    ("exponential", 399): 0.02,
    ("psd", 10): 0.0018,
    ("psd", 27): 0.0024,
    ("psd", 405): 0.068,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Moreau."""
    return [
        SolverSpec(
            "moreau",
            load="ffoadapt_moreau._solver:MoreauSolver",
            requires=("moreau",),
            matrices=frozenset({"sparse"}),
            cones=CONES,
            speed=SPEED,
        )
    ]
