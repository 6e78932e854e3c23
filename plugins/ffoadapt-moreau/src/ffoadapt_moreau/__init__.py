"""Registers Moreau; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0016,
    ("dense", 50): 0.0037,
    ("dense", 100): 0.011,
    ("dense", 200): 0.096,
    ("dense", 500): 0.33,
    ("dense", 1000): 2.1,
    ("sparse", 100): 0.0014,
    ("sparse", 1000): 0.0076,
    ("sparse", 10000): 0.066,
    ("sparse", 100000): 0.67,
    ("filled", 300): 0.0096,
    ("filled", 1000): 0.046,
    ("filled", 2000): 0.2,
    ("cone", 23): 0.0083,
    ("cone", 57): 0.012,
    ("cone", 315): 0.19,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Moreau."""
    return [
        SolverSpec(
            "moreau",
            load="ffoadapt_moreau._solver:MoreauSolver",
            requires=("moreau",),
            cones=CONES,
            speed=SPEED,
        )
    ]
