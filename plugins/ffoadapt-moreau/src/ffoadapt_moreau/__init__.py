"""Registers Moreau; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0028,
    ("dense", 50): 0.0045,
    ("dense", 100): 0.013,
    ("dense", 200): 0.1,
    ("dense", 500): 0.34,
    ("dense", 1000): 2.1,
    ("cone", 23): 0.037,
    ("cone", 57): 0.047,
    ("cone", 315): 0.26,
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
