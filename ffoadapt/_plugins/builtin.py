"""What comes with the core, registered through the hooks that every other plugin uses."""

from __future__ import annotations

from ..hookspecs import hookimpl
from .records import CONSTRAINTS, AlgorithmSpec, ExecutorSpec, FrameworkSpec, SolverSpec

__all__: list[str] = []

# Seconds a solve, by benchmarks/smooth.py.
SLSQP = {
    ("smooth", 10): 0.011,
    ("smooth", 100): 0.096,
    ("smooth", 300): 1,
    ("bounds", 10): 0.0068,
    ("bounds", 100): 0.038,
    ("bounds", 300): 0.31,
}
TRUST_CONSTR = {
    ("smooth", 10): 0.22,
    ("smooth", 100): 3.0,
    ("bounds", 10): 0.19,
    ("bounds", 100): 1.2,
}
LBFGSB = {("bounds", 10): 0.0058, ("bounds", 100): 0.007, ("bounds", 300): 0.0094}


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """NumPy."""
    where = "ffoadapt._plugins.numpy_framework:NumpyFramework"
    return [FrameworkSpec("numpy", load=where, modules=("numpy", "scipy"))]


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
    where = "ffoadapt._smooth.solvers:"
    every, none = frozenset(CONSTRAINTS), frozenset[str]()
    return [
        SolverSpec(name, f"{where}{attribute}", cones=kinds, matrices=none, speed=speed)
        for name, attribute, kinds, speed in (
            ("slsqp", "SLSQP", every, SLSQP),
            ("trust-constr", "TrustConstr", every, TRUST_CONSTR),
            ("l-bfgs-b", "LBFGSB", frozenset({"bounds"}), LBFGSB),
        )
    ]


@hookimpl
def ffoadapt_register_algorithms() -> list[AlgorithmSpec]:
    """The algorithms of `ffoadapt.bilevel`."""
    names = ("Bome", "F2sa", "Penalty", "Hypergradient", "Goldstein")
    return [AlgorithmSpec(name.lower(), load=f"ffoadapt.bilevel:{name}") for name in names]
