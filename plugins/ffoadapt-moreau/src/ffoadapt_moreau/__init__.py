"""Registers Moreau; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver Moreau."""
    return [
        SolverSpec(
            "moreau",
            load="ffoadapt_moreau._solver:MoreauSolver",
            requires=("moreau",),
            cones=CONES,
        )
    ]
