"""Registers SCS; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0012,
    ("dense", 50): 0.0026,
    ("dense", 100): 0.0066,
    ("dense", 200): 0.032,
    ("dense", 500): 0.49,
    ("dense", 1000): 7.1,
    ("sparse", 100): 0.0017,
    ("sparse", 1000): 0.007,
    ("sparse", 10000): 0.081,
    ("sparse", 100000): 1.1,
    ("filled", 300): 0.0057,
    ("filled", 1000): 0.05,
    ("filled", 2000): 0.27,
    ("cone", 23): 0.007,
    ("cone", 57): 0.011,
    ("cone", 315): 0.08,
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
