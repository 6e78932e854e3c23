"""Registers HiGHS; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """HiGHS: simplex for linear programs, active set for convex quadratic ones."""
    return [SolverSpec("highs", load="ffoadapt_highs._solver:HighsSolver", requires=("highspy",))]
