"""Registers OSQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting quadratic programming solver OSQP."""
    return [SolverSpec("osqp", load="ffoadapt_osqp._solver:OSQPSolver", requires=("osqp",))]
