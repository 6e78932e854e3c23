"""The record that a plugin registers itself with.

A record (`SolverSpec`, ...) is light: a name and where to import the rest from. The object that it
points to is imported at first use, so a hundred installed plugins cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

__all__ = [
    "CONSTRAINTS",
    "AlgorithmSpec",
    "ExecutorSpec",
    "FrameworkSpec",
    "ModelerSpec",
    "SolverSpec",
    "Spec",
]

CONSTRAINTS = ("bounds", "inequalities", "equalities")
"""The kinds of constraint of programs of functions."""


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
    """Registers a solver. Its name and where it is are enough: what is left out, the class says.

    Attributes
    ----------
    cones, matrices, form
        As the class declares them, so that solvers are chosen and listed without importing them; a
        difference is an error when the class is loaded. ``form`` is ``"smooth"`` for solvers of
        functions and else ``"cone"``; where ``cones`` is given it follows from that. A class is
        imported for its declarations where its record has a ``speed``, or where no other installed
        solver would do.
    speed
        Measured solve times ``{(column, n): seconds}`` (benchmarks/speed_table.py), from which
        ``solver="auto"`` chooses; a solver without is its last resort. The columns are ``"dense"``,
        ``"sparse"``, ``"filled"`` (sparse, with factors that are not), for programs with curved
        cones ``"second_order"``, ``"exponential"`` and ``"psd"``, and for solvers of functions
        ``"bounds"`` and ``"smooth"``.
    traces
        As the class declares them: ``solver="auto"`` takes such a solver for arrays of these
        frameworks that live on an accelerator. None, as by default, is never chosen there.
    """

    cones: frozenset[str] | None = None
    matrices: frozenset[str] | None = None
    speed: Mapping[tuple[str, int], float] = field(default_factory=dict)
    form: Literal["cone", "smooth"] | None = None
    traces: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.form is None and self.cones:
            form = "cone" if self.cones.isdisjoint(CONSTRAINTS) else "smooth"
            object.__setattr__(self, "form", form)

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
