"""Registers SCS; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

CONES = frozenset({"zero", "nonnegative", "second_order", "psd", "exponential", "power"})


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The operator-splitting solver SCS."""
    return [
        SolverSpec("scs", load="ffoadapt_scs._solver:SCSSolver", requires=("scs",), cones=CONES)
    ]
