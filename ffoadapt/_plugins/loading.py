"""From a record to its plugin: imports it, makes it, and compares it with the record."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from .._exceptions import MissingDependencyError, PluginError
from .._runtime import interrupts
from .._runtime.text import told
from .algorithm import Algorithm
from .discovery import Source
from .executor import Executor
from .framework import Framework
from .modeler import Modeler
from .records import SolverSpec, Spec
from .solver import Solver

__all__ = ["KINDS", "load", "missing"]

KINDS: dict[str, type[Any]] = {
    "solver": Solver,
    "framework": Framework,
    "modeler": Modeler,
    "executor": Executor,
    "algorithm": Algorithm,
}
"""The class of the plugins of each kind."""


def missing(spec: Spec) -> list[str]:
    """The modules that the record requires and that are not installed."""
    return [module for module in spec.requires if not _importable(module)]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package around it is missing, or has no spec
        return False


def load(spec: Spec, source: Source) -> Any:
    """The object that a record points to, an instance of the class of its kind.

    Raises
    ------
    MissingDependencyError
        Where a module that the record requires is not installed.
    PluginError
        Where the object cannot be imported or made, is of another kind, or differs from its record.
    """
    who = f"the {spec.kind} {spec.name!r} (from {source.distribution})"
    absent = missing(spec)
    if absent:
        raise MissingDependencyError(
            f"{who} needs {', '.join(absent)}, which is not installed: pip install "
            f"{' '.join(absent)}"
        )
    plugin = spec.load
    if isinstance(plugin, str):
        module, _, attribute = plugin.partition(":")
        try:
            plugin = importlib.import_module(module)
            for part in attribute.split("."):
                plugin = getattr(plugin, part)
        except Exception as error:
            where = f"could not be imported from {spec.load!r}"
            raise PluginError(f"{who} {where}: {told(error)}") from error
    if isinstance(plugin, type):
        try:
            plugin = plugin()
        except Exception as error:
            raise PluginError(f"{who} could not be made: {told(error)}") from error
    wanted = KINDS[spec.kind]
    if not isinstance(plugin, wanted):
        raise PluginError(
            f"{who} is a {type(plugin).__name__}; expected a subclass of ffoadapt.{wanted.__name__}"
        )
    if isinstance(spec, SolverSpec):
        _compare(spec, plugin, source)
        interrupts.share(spec.requires)
    return plugin


def _compare(spec: SolverSpec, solver: Solver, source: Source) -> None:
    """Raise where the record of a solver says something else than its class."""
    form = "smooth" if solver.form == "smooth" else "cone"
    for what, said, meant in (
        ("form", spec.form, form),
        ("cones", _sorted(spec.cones), _sorted(solver.cones)),
        ("matrices", _sorted(spec.matrices), _sorted(solver.matrices)),
    ):
        if said is not None and said != meant:
            raise PluginError(
                f"the SolverSpec of {spec.name!r} ({source.distribution}) says {what}={said}, its "
                f"class says {meant}: make them equal, or leave {what} out of the record"
            )


def _sorted(names: Any) -> list[str] | None:
    return None if names is None else sorted(names)
