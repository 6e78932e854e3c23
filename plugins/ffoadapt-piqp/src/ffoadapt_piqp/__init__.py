"""Registers PIQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal interior-point solver PIQP."""
    return [
        SolverSpec(
            "piqp",
            load="ffoadapt_piqp._solver:PIQPSolver",
            requires=("piqp",),
            matrices=frozenset({"dense", "sparse"}),
        )
    ]
