"""Registers QPALM; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver QPALM."""
    return [SolverSpec("qpalm", load="ffoadapt_qpalm._solver:QPALMSolver", requires=("qpalm",))]
