"""Names to plugins: plain dicts filled once, objects imported at first use, and the error texts."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import threading
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .._exceptions import (
    DuplicatePluginError,
    MissingDependencyError,
    PluginError,
    UnknownPluginError,
)
from .._runtime import interrupts
from .._runtime.text import told
from . import builtin as _builtin
from .algorithm import Algorithm
from .discovery import Failure, Source, discover
from .executor import Executor
from .framework import Framework
from .modeler import Modeler
from .records import FrameworkSpec, ModelerSpec, SolverSpec, Spec
from .solver import Solver

__all__ = ["KINDS", "RESERVED", "PluginInfo", "Registry", "package_of", "registry"]

KINDS: dict[str, type[Any]] = {
    "solver": Solver,
    "framework": Framework,
    "modeler": Modeler,
    "executor": Executor,
    "algorithm": Algorithm,
}

RESERVED = {"solver": ("auto",), "executor": ("auto",)}
"""Names that mean something else than a plugin."""


LATELY = 1.0
"""Seconds for which `Registry.usable` believes what it saw."""


@dataclass(frozen=True)
class PluginInfo:
    """One line of the plugin listing.

    ``state`` is ``"ready"``, ``"missing"`` (a dependency), ``"failed"``, ``"duplicate"`` or
    ``"disabled"``; ``detail`` says why and what to do.
    """

    name: str
    kind: str
    distribution: str
    version: str
    state: str
    detail: str = ""
    spec: Spec | None = None


class _Entry:
    __slots__ = ("object", "rival", "source", "spec")

    def __init__(self, spec: Spec, source: Source) -> None:
        self.spec = spec
        self.source = source
        self.object: Any = None
        self.rival: Source | None = None


class Registry:
    """All plugins by kind and name; filled from the entry points at first use."""

    def __init__(self, builtin: ModuleType | Any = _builtin) -> None:
        self._builtin = builtin
        self._lock = threading.RLock()
        self._entries: dict[str, dict[str, _Entry]] = {kind: {} for kind in KINDS}
        self._failures: list[Failure] = []
        self._ready = False
        self._usable: dict[str, tuple[float, dict[str, Any]]] = {}

    # -- filling

    def _fill(self) -> None:
        if self._ready:
            return
        with self._lock:
            if not self._ready:
                self._failures = discover(self._accept, self._builtin)
                self._ready = True

    def _accept(self, source: Source, specs: list[Spec]) -> None:
        names = [(spec.kind, spec.name) for spec in specs]
        for kind, name in names:
            if kind not in KINDS or not isinstance(name, str) or not name:
                raise PluginError(f"a record has kind {kind!r} and name {name!r}")
            _check_reserved(kind, name)
            if names.count((kind, name)) > 1:
                raise DuplicatePluginError(
                    f"{source.distribution} registers the {kind} {name!r} twice"
                )
        for spec in specs:
            known = self._entries[spec.kind].get(spec.name)
            if known is not None and known.source.plugin == "builtin":
                raise DuplicatePluginError(f"the {spec.kind} name {spec.name!r} is built in")
        for spec in specs:
            entries = self._entries[spec.kind]
            if spec.name in entries:
                entries[spec.name].rival = source
            else:
                entries[spec.name] = _Entry(spec, source)

    def add(self, spec: Spec) -> None:
        """Register a record at run time (`ffoadapt.register_solver`); replaces an earlier such."""
        _check_reserved(spec.kind, spec.name)
        self._fill()
        with self._lock:
            entries = self._entries[spec.kind]
            known = entries.get(spec.name)
            if known is not None and known.source.plugin != "run time":
                raise DuplicatePluginError(
                    f"the {spec.kind} name {spec.name!r} is taken by {known.source.distribution} "
                    f"{known.source.version}; choose another name"
                )
            entries[spec.name] = _Entry(spec, Source("run time", "(this process)", "-"))
            self._usable.clear()

    # -- looking up

    def get(self, kind: str, name: str) -> Any:
        """The plugin object of that kind and name, imported now if it was not before."""
        self._fill()
        entry = self._entries[kind].get(name)
        if entry is not None and entry.object is not None and entry.rival is None:
            return entry.object
        if entry is None:
            entry = self._entries[kind].get(self.spelled(kind, name))
        if entry is None:
            raise UnknownPluginError(self._unknown(kind, name))
        if entry.rival is not None:
            raise DuplicatePluginError(
                f"the {kind} name {name!r} is registered by both {entry.source.distribution} "
                f"{entry.source.version} and {entry.rival.distribution} {entry.rival.version}; "
                "uninstall one, or set FFOADAPT_DISABLE_PLUGINS to the distribution to leave out"
            )
        with self._lock:
            if entry.object is None:
                entry.object = self._load(entry)
        return entry.object

    def spelled(self, kind: str, name: str) -> str:
        """The name as it was registered, whatever its capitals: ``"OSQP"`` is ``"osqp"``.

        As it came where there is no such name, or several.
        """
        self._fill()
        if name in self._entries[kind] or not isinstance(name, str):
            return name
        same = [known for known in self._entries[kind] if known.lower() == name.lower()]
        return same[0] if len(same) == 1 else name

    def specs(self, kind: str) -> dict[str, Any]:
        """The records of a kind by name, without the ambiguous ones."""
        self._fill()
        return {n: e.spec for n, e in self._entries[kind].items() if e.rival is None}

    def spec(self, kind: str, name: str) -> Any:
        """The record of that kind and name, None where there is none, or several."""
        self._fill()
        entry = self._entries[kind].get(name)
        return None if entry is None or entry.rival is not None else entry.spec

    def missing(self, spec: Spec) -> list[str]:
        """The modules that the record requires and that are not installed."""
        return [m for m in spec.requires if not _importable(m)]

    def ready(self, kind: str) -> dict[str, Any]:
        """The records of a kind whose requirements are installed."""
        return {n: s for n, s in self.specs(kind).items() if not self.missing(s)}

    def usable(self, kind: str) -> dict[str, Any]:
        """As `ready`, as of a second ago at most, and the same dict until it is looked at again:
        to ask where modules are takes as long as a small solve, and longer where the path is."""
        now = time.monotonic()
        until, found = self._usable.get(kind, (0.0, {}))
        if now > until:
            found = self.ready(kind)
            self._usable[kind] = now + LATELY, found
        return found

    def having(self, kinds: frozenset[str]) -> dict[str, Any]:
        """The records of the ready solvers of cone programs that have these cones.

        Silent ones count where no others have them: only their classes say, which are loaded then.
        """
        ready = self._of_cones()
        able = {n: s for n, s in ready.items() if s.cones is not None and kinds <= s.cones}
        return able or {n: s for n, s in ready.items() if kinds <= self._cones(s)}

    def cones_of_all(self) -> dict[str, frozenset[str]]:
        """The cones of each ready solver of cone programs."""
        return {name: self._cones(spec) for name, spec in self._of_cones().items()}

    def _of_cones(self) -> dict[str, SolverSpec]:
        return {n: s for n, s in self.usable("solver").items() if s.form != "smooth"}

    def _cones(self, spec: SolverSpec) -> frozenset[str]:
        """By its class where the record is silent; none where that cannot be loaded, or solves
        other programs."""
        if spec.cones is not None:
            return spec.cones
        try:
            solver = self.get("solver", spec.name)
        except PluginError:
            return frozenset()
        return frozenset() if solver.form == "smooth" else frozenset(solver.cones)

    def by_module(self, kind: str, cls: type) -> FrameworkSpec | ModelerSpec | None:
        """The record whose ``modules`` hold the root package of a class or one of its bases."""
        roots = [base.__module__.partition(".")[0] for base in cls.__mro__]
        for spec in self.specs(kind).values():
            if any(root in spec.modules for root in roots):
                return spec
        return None

    def listing(self) -> list[PluginInfo]:
        """Every plugin, the unusable ones with the reason."""
        self._fill()
        rows = []
        for kind, entries in self._entries.items():
            for name, entry in entries.items():
                state, detail = "ready", ""
                if entry.rival is not None:
                    state = "duplicate"
                    detail = f"also registered by {entry.rival.distribution}"
                elif missing := self.missing(entry.spec):
                    state, detail = "missing", f"pip install {' '.join(missing)}"
                source = entry.source
                rows.append(
                    PluginInfo(
                        name, kind, source.distribution, source.version, state, detail, entry.spec
                    )
                )
        for failure in self._failures:
            source = failure.source
            rows.append(
                PluginInfo(
                    source.plugin,
                    "plugin",
                    source.distribution,
                    source.version,
                    "disabled" if failure.disabled else "failed",
                    failure.reason,
                )
            )
        return rows

    # -- helpers

    def _load(self, entry: _Entry) -> Any:
        spec = entry.spec
        missing = self.missing(spec)
        if missing:
            self._usable.clear()
            raise MissingDependencyError(
                f"the {spec.kind} {spec.name!r} (from {entry.source.distribution}) needs "
                f"{', '.join(missing)}, which is not installed: pip install {' '.join(missing)}"
            )
        loaded = spec.load
        if isinstance(loaded, str):
            module, _, attribute = loaded.partition(":")
            try:
                loaded = importlib.import_module(module)
                for part in attribute.split("."):
                    loaded = getattr(loaded, part)
            except Exception as error:
                raise PluginError(
                    f"the {spec.kind} {spec.name!r} (from {entry.source.distribution}) could not "
                    f"be imported from {spec.load!r}: {told(error)}"
                ) from error
        try:
            plugin = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:
            raise PluginError(
                f"the {spec.kind} {spec.name!r} (from {entry.source.distribution}) could not be "
                f"made: {told(error)}"
            ) from error
        wanted = KINDS[spec.kind]
        if not isinstance(plugin, wanted):
            raise PluginError(
                f"the {spec.kind} {spec.name!r} (from {entry.source.distribution}) is a "
                f"{type(plugin).__name__}; expected a subclass of ffoadapt.{wanted.__name__}"
            )
        if isinstance(spec, SolverSpec):
            _agree(spec, plugin, entry.source)
            interrupts.share(spec.requires)
        return plugin

    def _unknown(self, kind: str, name: str) -> str:
        known = sorted(self._entries[kind])
        words = [f"no {kind} is named {name!r}; installed: {', '.join(known) or 'none'}."]
        lower = str(name).lower()
        close = difflib.get_close_matches(lower, known, n=1)
        if close:
            words.append(f"Did you mean {close[0]!r}?")
        for failure in self._failures:
            source = failure.source
            if name in (source.plugin, source.distribution):
                verb = "was" if failure.disabled else "failed to load:"
                words.append(
                    f"The plugin {name!r} of {source.distribution} {verb} {failure.reason}"
                )
                return " ".join(words)
        if not close or (lower not in known and f"ffoadapt-{lower}" in _packages()):
            words.append(_advice(lower))
        return " ".join(words)


def _check_reserved(kind: str, name: str) -> None:
    if str(name).lower() in RESERVED.get(kind, ()):
        raise PluginError(
            f"{name!r} cannot name a {kind}: {kind}={name!r} leaves the choice to ffoadapt. Choose "
            "another name"
        )


def package_of(cls: type) -> str | None:
    """The package of this project whose plugin takes objects of a class, if there is one."""
    roots = {base.__module__.partition(".")[0].removesuffix("lib") for base in cls.__mro__}
    return next((name for name in _packages() if name.removeprefix("ffoadapt-") in roots), None)


def _advice(name: str) -> str:
    """What to install for a plugin that is not there: only packages that exist are named."""
    packages = _packages()
    close = difflib.get_close_matches(f"ffoadapt-{name}", packages, n=1, cutoff=0.9)
    if close:
        return f"To install it: pip install {close[0]}"
    return f"No plugin of ffoadapt has that name; there are {', '.join(packages)}"


def _packages() -> list[str]:
    """The plugin packages of this project: our own metadata have an extra for each."""
    try:
        required = importlib.metadata.requires("ffoadapt") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return []
    names = {line.partition(";")[0].partition("[")[0].strip() for line in required}
    return sorted(name for name in names if name.startswith("ffoadapt-"))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package around it is missing, or has no spec
        return False


def _agree(spec: SolverSpec, solver: Solver, source: Source) -> None:
    for what in ("cones", "matrices"):
        declared, actual = getattr(spec, what), frozenset(getattr(solver, what))
        if declared is not None and frozenset(declared) != actual:
            raise PluginError(
                f"the SolverSpec of {spec.name!r} ({source.distribution}) says {what}="
                f"{sorted(declared)}, its class says {sorted(actual)}: make them equal, or leave "
                f"{what} out of the record"
            )


registry = Registry()
"""The registry of this process."""
