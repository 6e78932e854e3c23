"""Finds plugins and keeps a broken one from hurting the others.

The only file besides `hookspecs` that knows pluggy. Every entry point of the group ``ffoadapt``
loads in a try of its own; what went wrong is kept for the plugin listing and for error texts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from .. import hookspecs
from .._exceptions import PluginError
from .._runtime.text import told
from .records import Spec

__all__ = ["GROUP", "Failure", "Source", "discover"]

GROUP = "ffoadapt"
DISABLE = "FFOADAPT_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Source:
    """Where a record came from."""

    plugin: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be registered, and why; ``disabled`` ones were not even imported."""

    source: Source
    reason: str
    disabled: bool = False


Accept = Callable[[Source, list[Spec]], None]

_lock = threading.RLock()


def discover(accept: Accept, builtin: Any) -> list[Failure]:
    """Hand every installed plugin's records to ``accept`` and return what failed.

    ``builtin`` is registered first, by the same path. ``accept`` may raise `PluginError` to refuse
    the records of one plugin.
    """
    manager = pluggy.PluginManager("ffoadapt")
    manager.add_hookspecs(hookspecs)
    collected: list[Any] = []
    for name in _hook_names():
        getattr(manager.hook, name).call_historic(result_callback=collected.append, kwargs={})

    failures: list[Failure] = []
    core = Source("builtin", "ffoadapt", _version("ffoadapt"))
    candidates: list[tuple[Source, Callable[[], Any]]] = [(core, lambda: builtin)]
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        dist = entry.dist
        source = Source(entry.name, dist.name if dist else "?", dist.version if dist else "?")
        if entry.name in disabled or source.distribution in disabled:
            failures.append(Failure(source, f"disabled by {DISABLE}", disabled=True))
        else:
            candidates.append((source, entry.load))

    with _lock:
        for source, load in candidates:
            collected.clear()
            try:
                _register(manager, source, load())
                accept(source, _specs(source, collected))
            except (Exception, SystemExit) as error:
                failures.append(Failure(source, told(error)))
    return failures


def _register(manager: pluggy.PluginManager, source: Source, plugin: Any) -> None:
    if manager.is_registered(plugin):
        raise PluginError(f"the object {plugin!r} is already registered as another plugin")
    manager.register(plugin, name=f"{source.distribution}:{source.plugin}")
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec():
            manager.unregister(plugin)
            raise PluginError(
                f"it implements a hook that does not exist: {caller.name!r}; "
                f"the hooks are {', '.join(_hook_names())}"
            )
    if not callers:
        manager.unregister(plugin)
        raise PluginError(
            f"{plugin!r} implements no hook; mark functions named {' or '.join(_hook_names())} "
            "with ffoadapt.hookimpl"
        )


def _hook_names() -> list[str]:
    return [name for name in hookspecs.__all__ if name.startswith("ffoadapt_")]


def _specs(source: Source, results: Iterable[Any]) -> list[Spec]:
    specs: list[Spec] = []
    for result in results:
        items = [result] if isinstance(result, Spec) else result
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise PluginError(f"a hook returned {result!r}; expected a list of *Spec records")
        for item in items:
            if not isinstance(item, Spec):
                raise PluginError(f"a hook returned {item!r}; expected *Spec records")
            specs.append(item)
    return specs


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "?"
