"""Registers DAQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00026,
    ("dense", 50): 0.00044,
    ("dense", 100): 0.001,
    ("dense", 200): 0.004,
    ("dense", 500): 0.054,
    ("dense", 1000): 0.44,
    ("sparse", 100): 0.00072,
    ("sparse", 1000): 0.079,
    ("filled", 300): 0.0037,
    ("filled", 1000): 0.08,
    ("filled", 2000): 1.1,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The dual active-set solver DAQP."""
    return [
        SolverSpec(
            "daqp",
            load="ffoadapt_daqp._solver:DAQPSolver",
            requires=("daqp",),
            matrices=frozenset({"dense"}),
            speed=SPEED,
        )
    ]
