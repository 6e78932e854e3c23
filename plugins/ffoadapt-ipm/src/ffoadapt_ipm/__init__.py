"""Registers the interior-point method; imports it only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense"})
TRACES = frozenset({"jax", "torch"})


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """Mehrotra's predictor-corrector method for batches of dense programs, in any framework."""
    return [
        SolverSpec(
            "ipm",
            load="ffoadapt_ipm._solver:InteriorPointSolver",
            cones=POLYHEDRAL,
            matrices=MATRICES,
            traces=TRACES,
        )
    ]
