"""Registers SCS; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0027,
    ("dense", 50): 0.0042,
    ("dense", 100): 0.0092,
    ("dense", 200): 0.036,
    ("dense", 500): 0.36,
    ("dense", 1000): 3.2,
    ("sparse", 100): 0.0072,
    ("sparse", 1000): 0.082,
    ("sparse", 10000): 2,
    ("cone", 41): 0.042,
    ("cone", 101): 0.048,
    ("cone", 401): 0.12,
    ("cone", 1001): 0.58,
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
