"""Registers NLopt; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/smooth.py.
SPEED = {
    ("smooth", 10): 0.0048,
    ("smooth", 100): 0.3,
    ("smooth", 300): 8.4,
    ("bounds", 10): 0.002,
    ("bounds", 100): 0.0055,
    ("bounds", 300): 0.011,
}


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
