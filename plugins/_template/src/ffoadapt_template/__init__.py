"""Registers the solver; imports it only at first use."""

from __future__ import annotations

from ffoadapt import POLYHEDRAL, SolverSpec, hookimpl

__all__ = ["ffoadapt_register_solvers"]


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """An interior-point method for small dense quadratic programs."""
    return [
        SolverSpec(
            "template",
            load="ffoadapt_template._solver:TemplateSolver",
            requires=("scipy",),
            cones=POLYHEDRAL,
            matrices=frozenset({"dense"}),
        )
    ]
