"""The five hooks through which everything that varies comes in.

A plugin is a module (or object) with any of these functions marked by `ffoadapt.hookimpl`, named by
an entry point of the group ``ffoadapt``. Hooks run once, at registration; they return records and
import nothing heavy. Implementations take no arguments.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from ._plugins.records import AlgorithmSpec, ExecutorSpec, FrameworkSpec, ModelerSpec, SolverSpec

__all__ = [
    "ffoadapt_register_algorithms",
    "ffoadapt_register_executors",
    "ffoadapt_register_frameworks",
    "ffoadapt_register_modelers",
    "ffoadapt_register_solvers",
    "hookimpl",
    "hookspec",
]

hookspec = pluggy.HookspecMarker("ffoadapt")
hookimpl = pluggy.HookimplMarker("ffoadapt")


@hookspec(historic=True)
def ffoadapt_register_solvers() -> Iterable[SolverSpec]:  # type: ignore[empty-body]
    """Solvers: canonical program -> primal and dual. Returns `SolverSpec` records."""


@hookspec(historic=True)
def ffoadapt_register_frameworks() -> Iterable[FrameworkSpec]:  # type: ignore[empty-body]
    """Frameworks: arrays <-> NumPy, differentiable functions. Returns `FrameworkSpec` records."""


@hookspec(historic=True)
def ffoadapt_register_modelers() -> Iterable[ModelerSpec]:  # type: ignore[empty-body]
    """Modelers: problem object -> parametric program. Returns `ModelerSpec` records."""


@hookspec(historic=True)
def ffoadapt_register_executors() -> Iterable[ExecutorSpec]:  # type: ignore[empty-body]
    """Executors: run the solves of a batch. Returns `ExecutorSpec` records."""


@hookspec(historic=True)
def ffoadapt_register_algorithms() -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]
    """Algorithms: steps of bilevel optimization. Returns `AlgorithmSpec` records."""
