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
    ("second_order", 16): 0.0024,
    ("second_order", 37): 0.0042,
    ("second_order", 144): 0.017,
    ("exponential", 40): 0.0028,
    ("exponential", 100): 0.0047,
    ("exponential", 399): 0.015,
    ("psd", 26): 0.0022,
    ("psd", 77): 0.0027,
    ("psd", 1189): 0.04,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting solver SCS."""
    return [
        SolverSpec(
            "scs",
            load="ffoadapt_scs._solver:SCSSolver",
            requires=("scs",),
            cones=CONES,
            speed=SPEED,
        )
    ]
