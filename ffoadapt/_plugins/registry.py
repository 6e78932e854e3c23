"""Names to plugins: plain dicts filled once, objects imported at first use."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias

from .._exceptions import (
    DuplicatePluginError,
    MissingDependencyError,
    PluginError,
    UnknownPluginError,
)
from . import builtin as _builtin
from .discovery import Failure, Source, discover
from .loading import KINDS, load, missing
from .packages import unknown_name
from .records import FrameworkSpec, ModelerSpec, SolverSpec, Spec

__all__ = ["RESERVED", "PluginInfo", "Registry", "registry"]

Form: TypeAlias = Literal["cone", "smooth"]

RESERVED = {"solver": ("auto",), "executor": ("auto",)}
"""Names that mean something else than a plugin."""

FRESH = 1.0
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


@dataclass(slots=True)
class _Entry:
    """A record, the distribution it came from and another one with the same name; the object."""

    spec: Spec
    source: Source
    rival: Source | None = None
    object: Any = None


class Registry:
    """All plugins by kind and name; filled from the entry points at first use."""

    def __init__(self, builtin: ModuleType | Any = _builtin) -> None:
        self._builtin = builtin
        self._lock = threading.RLock()
        self._entries: dict[str, dict[str, _Entry]] = {kind: {} for kind in KINDS}
        self._failures: list[Failure] = []
        self._filled = False
        self._usable: dict[str, tuple[float, dict[str, Any]]] = {}

    # -- filling

    def _fill(self) -> None:
        if self._filled:
            return
        with self._lock:
            if not self._filled:
                self._failures = discover(self._accept, self._builtin)
                self._filled = True

    def _accept(self, source: Source, specs: list[Spec]) -> None:
        """Enter the records of one plugin: all of them, or none where one does not hold."""
        names = [(spec.kind, spec.name) for spec in specs]
        for kind, name in names:
            if kind not in KINDS or not isinstance(name, str) or not name:
                raise PluginError(f"a record has kind {kind!r} and name {name!r}")
            _check_reserved(kind, name)
            if names.count((kind, name)) > 1:
                raise DuplicatePluginError(
                    f"{source.distribution} registers the {kind} {name!r} twice"
                )
            known = self._entries[kind].get(name)
            if known is not None and known.source.plugin == "builtin":
                raise DuplicatePluginError(f"the {kind} name {name!r} is built in")
        for spec in specs:
            entry = self._entries[spec.kind].setdefault(spec.name, _Entry(spec, source))
            if entry.source is not source:
                entry.rival = source

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
            known = sorted(self._entries[kind])
            raise UnknownPluginError(unknown_name(kind, name, known, self._failures))
        source, rival = entry.source, entry.rival
        if rival is not None:
            raise DuplicatePluginError(
                f"the {kind} name {name!r} is registered by both {source.distribution} "
                f"{source.version} and {rival.distribution} {rival.version}; uninstall one, or set "
                "FFOADAPT_DISABLE_PLUGINS to the distribution to leave out"
            )
        with self._lock:
            if entry.object is None:
                try:
                    entry.object = load(entry.spec, source)
                except MissingDependencyError:
                    self._usable.clear()
                    raise
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

    def ready(self, kind: str) -> dict[str, Any]:
        """The records of a kind whose requirements are installed."""
        return {n: s for n, s in self.specs(kind).items() if not missing(s)}

    def usable(self, kind: str) -> dict[str, Any]:
        """As `ready`, as of a second ago at most, and the same dict until it is looked at again.

        To ask where modules are takes as long as a small solve, and longer where the path is long.
        """
        now = time.monotonic()
        until, specs = self._usable.get(kind, (0.0, {}))
        if now > until:
            specs = self.ready(kind)
            self._usable[kind] = now + FRESH, specs
        return specs

    def by_module(self, kind: str, cls: type) -> FrameworkSpec | ModelerSpec | None:
        """The record whose ``modules`` hold the root package of a class or one of its bases."""
        roots = [base.__module__.partition(".")[0] for base in cls.__mro__]
        for spec in self.specs(kind).values():
            if any(root in spec.modules for root in roots):
                return spec
        return None

    # -- solvers by what they declare

    def form_of(self, spec: SolverSpec) -> Form:
        """By the class where the record is silent; ``"cone"`` where that cannot be loaded."""
        return spec.form or self._declared(spec)[0] or "cone"

    def solvers(self, form: Form) -> dict[str, frozenset[str]]:
        """The cones (or kinds of constraint) of each ready solver of this form."""
        declared = {name: self._declared(spec) for name, spec in self.ready("solver").items()}
        return {name: cones for name, (own, cones) in declared.items() if (own or "cone") == form}

    def having(self, kinds: frozenset[str], form: Form = "cone") -> dict[str, SolverSpec]:
        """The records of the ready solvers of this form that have these cones (or constraints).

        A class is imported for what its record leaves out where that has measured times, or where
        no other solver would do.
        """

        def able(specs: dict[str, SolverSpec]) -> dict[str, SolverSpec]:
            declared = {name: self._declared(spec) for name, spec in specs.items()}
            return {
                n: specs[n] for n, (own, has) in declared.items() if own == form and kinds <= has
            }

        ready = self.usable("solver")
        return able({n: s for n, s in ready.items() if s.speed or self._speaks(s)}) or able(ready)

    def _speaks(self, spec: SolverSpec) -> bool:
        """Whether form and cones are known without an import."""
        loaded = not isinstance(spec.load, str) or self._entries["solver"][spec.name].object
        return bool(loaded) or (spec.cones is not None and spec.form is not None)

    def _declared(self, spec: SolverSpec) -> tuple[Form | None, frozenset[str]]:
        """Form and cones of a solver; None and no cones where its class cannot be loaded."""
        if spec.cones is not None and spec.form is not None:
            return spec.form, spec.cones
        try:
            solver = self.get("solver", spec.name)
        except PluginError:
            return None, frozenset()
        return "smooth" if solver.form == "smooth" else "cone", frozenset(solver.cones)

    # -- listing

    def listing(self) -> list[PluginInfo]:
        """Every plugin, the unusable ones with the reason."""
        self._fill()
        entries = [entry for kind in self._entries.values() for entry in kind.values()]
        rows = [_info(e.source, e.spec.name, e.spec.kind, *_state(e), e.spec) for e in entries]
        for failure in self._failures:
            state = "disabled" if failure.disabled else "failed"
            name = failure.source.plugin
            rows.append(_info(failure.source, name, "plugin", state, failure.reason))
        return rows


def _info(source: Source, name: str, kind: str, *rest: Any) -> PluginInfo:
    return PluginInfo(name, kind, source.distribution, source.version, *rest)


def _state(entry: _Entry) -> tuple[str, str]:
    """What `PluginInfo` calls state and detail."""
    if entry.rival is not None:
        return "duplicate", f"also registered by {entry.rival.distribution}"
    absent = missing(entry.spec)
    return ("missing", f"pip install {' '.join(absent)}") if absent else ("ready", "")


def _check_reserved(kind: str, name: str) -> None:
    if str(name).lower() in RESERVED.get(kind, ()):
        raise PluginError(
            f"{name!r} cannot name a {kind}: {kind}={name!r} leaves the choice to ffoadapt. Choose "
            "another name"
        )


registry = Registry()
"""The registry of this process."""
