"""Registers PIQP; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense", "sparse"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00042,
    ("dense", 50): 0.00078,
    ("dense", 100): 0.0016,
    ("dense", 200): 0.0061,
    ("dense", 500): 0.062,
    ("dense", 1000): 0.48,
    ("sparse", 100): 0.0016,
    ("sparse", 1000): 0.0042,
    ("sparse", 10000): 0.04,
    ("sparse", 100000): 0.52,
    ("filled", 300): 0.0079,
    ("filled", 1000): 0.19,
    ("filled", 2000): 1.4,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal interior-point solver PIQP."""
    return [
        SolverSpec(
            "piqp",
            load="ffoadapt_piqp._solver:PIQPSolver",
            requires=("piqp",),
            cones=POLYHEDRAL,
            matrices=MATRICES,
            speed=SPEED,
        )
    ]
