"""Registers NLopt; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/smooth.py.
SPEED = {("smooth", 10): 0.003, ("smooth", 100): 0.2, ("bounds", 10): 0.003}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """NLopt's methods with gradients, for functions."""
    return [
        SolverSpec(
            "nlopt",
            load="ffoadapt_nlopt._solver:NLoptSolver",
            requires=("nlopt",),
            cones=frozenset({"bounds", "inequalities", "equalities"}),
            matrices=frozenset(),
            speed=SPEED,
            form="smooth",
        )
    ]
