"""Registers DAQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.00084,
    ("dense", 50): 0.00094,
    ("dense", 100): 0.0014,
    ("dense", 200): 0.0045,
    ("dense", 500): 0.058,
    ("dense", 1000): 0.49,
    ("sparse", 100): 0.0019,
    ("sparse", 1000): 0.11,
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
