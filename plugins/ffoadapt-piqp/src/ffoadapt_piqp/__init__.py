"""Registers PIQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00039,
    ("dense", 50): 0.0007,
    ("dense", 100): 0.0013,
    ("dense", 200): 0.0044,
    ("dense", 500): 0.039,
    ("dense", 1000): 0.29,
    ("sparse", 100): 0.001,
    ("sparse", 1000): 0.0037,
    ("sparse", 10000): 0.035,
    ("sparse", 100000): 0.5,
    ("filled", 300): 0.0076,
    ("filled", 1000): 0.15,
    ("filled", 2000): 1.3,
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
