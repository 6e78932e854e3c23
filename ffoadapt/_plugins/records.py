"""The record that a plugin registers itself with.

A record (`SolverSpec`, ...) is light: a name and where to import the rest from. The object that it
points to is imported at first use, so a hundred installed plugins cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

__all__ = ["AlgorithmSpec", "ExecutorSpec", "FrameworkSpec", "ModelerSpec", "SolverSpec", "Spec"]


@dataclass(frozen=True)
class Spec:
    """What a plugin says of itself at registration.

    Attributes
    ----------
    name
        The name that users give.
    load
        ``"package.module:attribute"``, imported at first use: a class or an object of the kind.
    requires
        Modules that must be importable for it to work, e.g. ``("osqp",)``.
    """

    name: str
    load: str | Any
    requires: tuple[str, ...] = ()

    kind: ClassVar[str] = "plugin"


@dataclass(frozen=True)
class SolverSpec(Spec):
    """Registers a solver.

    ``cones`` and ``matrices`` repeat what its class declares, so that choosing a solver imports
    none; a difference is reported when the class is loaded. None, the default, means as the class
    says: ``solver="auto"`` then asks the class, where no solver whose record speaks can. ``speed``
    is its measured solve time:
    ``{(column, n): seconds}`` (benchmarks/), from which ``solver="auto"`` chooses; the columns are
    ``"dense"``, ``"sparse"``, ``"filled"`` (sparse, with factors that are not), and for programs
    with curved cones ``"second_order"``, ``"exponential"`` and ``"psd"``. ``form`` is ``"smooth"``
    for solvers of functions, whose columns are ``"bounds"`` and ``"smooth"``.
    """

    cones: frozenset[str] | None = None
    matrices: frozenset[str] | None = None
    speed: Mapping[tuple[str, int], float] = field(default_factory=dict)
    form: Literal["cone", "smooth"] = "cone"

    kind: ClassVar[str] = "solver"


@dataclass(frozen=True)
class FrameworkSpec(Spec):
    """Registers a framework, found from the types of the arguments of a call.

    ``modules`` are the root packages of its array types (``("torch",)``); ``mixes_with`` are
    frameworks whose arrays it takes as constants (jax takes NumPy's, torch does not).
    """

    modules: tuple[str, ...] = ()
    mixes_with: tuple[str, ...] = ()

    kind: ClassVar[str] = "framework"


@dataclass(frozen=True)
class ModelerSpec(Spec):
    """Registers a modeler, found from the type of the problem object (``modules`` as above)."""

    modules: tuple[str, ...] = ()

    kind: ClassVar[str] = "modeler"


@dataclass(frozen=True)
class ExecutorSpec(Spec):
    """Registers an executor."""

    kind: ClassVar[str] = "executor"


@dataclass(frozen=True)
class AlgorithmSpec(Spec):
    """Registers an algorithm of `ffoadapt.bilevel`; ``load`` points to an `Algorithm` subclass."""

    kind: ClassVar[str] = "algorithm"
