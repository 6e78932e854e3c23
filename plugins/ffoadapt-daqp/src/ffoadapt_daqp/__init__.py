"""Registers DAQP; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense"})

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00026,
    ("dense", 50): 0.00046,
    ("dense", 100): 0.0012,
    ("dense", 200): 0.0037,
    ("dense", 500): 0.045,
    ("dense", 1000): 0.33,
    ("sparse", 100): 0.0011,
    ("sparse", 1000): 0.051,
    ("filled", 300): 0.003,
    ("filled", 1000): 0.051,
    ("filled", 2000): 0.47,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The dual active-set solver DAQP."""
    return [
        SolverSpec(
            "daqp",
            load="ffoadapt_daqp._solver:DAQPSolver",
            requires=("daqp",),
            cones=POLYHEDRAL,
            matrices=MATRICES,
            speed=SPEED,
        )
    ]
