"""Registers PIQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00092,
    ("dense", 50): 0.0011,
    ("dense", 100): 0.0021,
    ("dense", 200): 0.0049,
    ("dense", 500): 0.046,
    ("dense", 1000): 0.32,
    ("sparse", 100): 0.0023,
    ("sparse", 1000): 0.0057,
    ("sparse", 10000): 0.041,
    ("sparse", 100000): 0.62,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal interior-point solver PIQP."""
    return [
        SolverSpec(
            "piqp",
            load="ffoadapt_piqp._solver:PIQPSolver",
            requires=("piqp",),
            matrices=frozenset({"dense", "sparse"}),
            speed=SPEED,
        )
    ]
