"""Registers HiGHS; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

# Seconds a solve, by benchmarks/speed_table.py.
SPEED = {
    ("dense", 10): 0.0024,
    ("dense", 50): 0.014,
    ("sparse", 100): 0.0066,
    ("sparse", 1000): 10000,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """HiGHS: simplex for linear programs, active set for convex quadratic ones."""
    return [
        SolverSpec(
            "highs",
            load="ffoadapt_highs._solver:HighsSolver",
            requires=("highspy",),
            cones=POLYHEDRAL,
            matrices=frozenset({"sparse"}),
            speed=SPEED,
        )
    ]
