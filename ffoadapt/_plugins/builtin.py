"""What comes with the core, registered through the hooks that every other plugin uses."""

from __future__ import annotations

from ..hookspecs import hookimpl
from .records import AlgorithmSpec, ExecutorSpec, FrameworkSpec, SolverSpec

__all__: list[str] = []


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """NumPy."""
    return [
        FrameworkSpec(
            "numpy",
            load="ffoadapt._plugins.numpy_framework:NumpyFramework",
            modules=("numpy", "scipy"),
        )
    ]


@hookimpl
def ffoadapt_register_executors() -> list[ExecutorSpec]:
    """One thread, or one per core."""
    return [
        ExecutorSpec("serial", load="ffoadapt._solve.executors:SerialExecutor"),
        ExecutorSpec("threads", load="ffoadapt._solve.executors:ThreadsExecutor"),
    ]


@hookimpl
def ffoadapt_register_solvers() -> list[SolverSpec]:
    """scipy's solvers of functions."""
    # Seconds a solve, by benchmarks/smooth.py.
    every = frozenset({"bounds", "inequalities", "equalities"})
    rows = [
        (
            "slsqp",
            "SLSQP",
            every,
            {
                ("smooth", 10): 0.011,
                ("smooth", 100): 0.096,
                ("smooth", 300): 1,
                ("bounds", 10): 0.0068,
                ("bounds", 100): 0.038,
                ("bounds", 300): 0.31,
            },
        ),
        (
            "trust-constr",
            "TrustConstr",
            every,
            {
                ("smooth", 10): 0.22,
                ("smooth", 100): 3.0,
                ("bounds", 10): 0.19,
                ("bounds", 100): 1.2,
            },
        ),
        (
            "l-bfgs-b",
            "LBFGSB",
            frozenset({"bounds"}),
            {("bounds", 10): 0.0058, ("bounds", 100): 0.007, ("bounds", 300): 0.0094},
        ),
    ]
    return [
        SolverSpec(
            name,
            load=f"ffoadapt._smooth.solvers:{attribute}",
            cones=kinds,
            matrices=frozenset(),
            speed=speed,
            form="smooth",
        )
        for name, attribute, kinds, speed in rows
    ]


@hookimpl
def ffoadapt_register_algorithms() -> list[AlgorithmSpec]:
    """The algorithms of `ffoadapt.bilevel`."""
    return [
        AlgorithmSpec("bome", load="ffoadapt.bilevel:Bome"),
        AlgorithmSpec("f2sa", load="ffoadapt.bilevel:F2sa"),
        AlgorithmSpec("penalty", load="ffoadapt.bilevel:Penalty"),
        AlgorithmSpec("hypergradient", load="ffoadapt.bilevel:Hypergradient"),
        AlgorithmSpec("goldstein", load="ffoadapt.bilevel:Goldstein"),
    ]
