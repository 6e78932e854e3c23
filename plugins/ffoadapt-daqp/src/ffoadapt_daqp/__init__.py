"""Registers DAQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The dual active-set solver DAQP."""
    return [
        SolverSpec(
            "daqp",
            load="ffoadapt_daqp._solver:DAQPSolver",
            requires=("daqp",),
            matrices=frozenset({"dense"}),
        )
    ]
