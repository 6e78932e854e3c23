"""Registers Clarabel; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Clarabel."""
    return [
        SolverSpec(
            "clarabel",
            load="ffoadapt_clarabel._solver:ClarabelSolver",
            requires=("clarabel",),
            cones=CONES,
        )
    ]
