"""Registers SCS; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0012,
    ("dense", 50): 0.0025,
    ("dense", 100): 0.0062,
    ("dense", 200): 0.03,
    ("dense", 500): 0.46,
    ("dense", 1000): 6.1,
    ("sparse", 100): 0.0017,
    ("sparse", 1000): 0.007,
    ("sparse", 10000): 0.081,
    ("sparse", 100000): 1.1,
    ("filled", 300): 0.0057,
    ("filled", 1000): 0.05,
    ("filled", 2000): 0.27,
    ("second_order", 12): 0.0018,
    ("second_order", 26): 0.0037,
    ("second_order", 102): 0.015,
    ("exponential", 40): 0.0025,
    ("exponential", 100): 0.0044,
    ("exponential", 399): 0.016,
    ("psd", 10): 0.0014,
    ("psd", 27): 0.0021,
    ("psd", 405): 0.02,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting solver SCS."""
    return [
        SolverSpec(
            "scs",
            load="ffoadapt_scs._solver:SCSSolver",
            requires=("scs",),
            matrices=frozenset({"sparse"}),
            cones=CONES,
            speed=SPEED,
        )
    ]
