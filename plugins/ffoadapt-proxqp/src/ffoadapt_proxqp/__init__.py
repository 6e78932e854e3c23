"""Registers ProxQP; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The proximal augmented Lagrangian solver ProxQP."""
    return [
        SolverSpec(
            "proxqp",
            load="ffoadapt_proxqp._solver:ProxQPSolver",
            requires=("proxsuite",),
            matrices=frozenset({"dense", "sparse"}),
        )
    ]
