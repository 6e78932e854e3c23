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
    ("sparse", 100): 0.003,
    ("sparse", 1000): 0.017,
    ("sparse", 10000): 0.17,
    ("cone", 23): 0.028,
    ("cone", 57): 0.033,
    ("cone", 315): 0.11,
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
