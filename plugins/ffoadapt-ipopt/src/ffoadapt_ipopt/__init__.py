"""Registers IPOPT; imports it only at first use."""

from ffoadapt import SolverSpec, hookimpl

# Seconds a solve, by benchmarks/smooth.py.
SPEED = {
    ("smooth", 10): 0.044,
    ("smooth", 100): 0.14,
    ("smooth", 300): 0.47,
    ("bounds", 10): 0.046,
    ("bounds", 100): 0.1,
    ("bounds", 300): 0.22,
}


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """The interior-point solver IPOPT, for functions."""
    return [
        SolverSpec(
            "ipopt",
            load="ffoadapt_ipopt._solver:IpoptSolver",
            requires=("cyipopt",),
            cones=frozenset({"bounds", "inequalities", "equalities"}),
            matrices=frozenset(),
            speed=SPEED,
            form="smooth",
        )
    ]
