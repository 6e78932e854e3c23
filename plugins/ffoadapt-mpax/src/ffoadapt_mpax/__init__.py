"""Registers MPAX; imports it, and JAX, only at first use."""

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

MATRICES = frozenset({"dense", "sparse"})


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The primal-dual hybrid gradient method raPDHG of MPAX."""
    return [
        SolverSpec(
            "mpax",
            load="ffoadapt_mpax._solver:MPAXSolver",
            requires=("mpax", "jax"),
            cones=POLYHEDRAL,
            matrices=MATRICES,
        )
    ]
