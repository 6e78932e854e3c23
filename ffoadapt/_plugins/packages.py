"""The plugin packages of this project, for error texts that say what to install."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Iterable

from .discovery import Failure

__all__ = ["package_of", "packages", "unknown_name"]


def packages() -> list[str]:
    """The plugin packages of this project: the metadata of ffoadapt have an extra for each."""
    try:
        required = importlib.metadata.requires("ffoadapt") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return []
    names = {line.partition(";")[0].partition("[")[0].strip() for line in required}
    return sorted(name for name in names if name.startswith("ffoadapt-"))


def package_of(cls: type) -> str | None:
    """The package of this project whose plugin takes objects of a class, if there is one."""
    roots = {base.__module__.partition(".")[0].removesuffix("lib") for base in cls.__mro__}
    return next((name for name in packages() if name.removeprefix("ffoadapt-") in roots), None)


def unknown_name(kind: str, name: str, known: list[str], failures: Iterable[Failure]) -> str:
    """The error text for a name that no plugin has: what is installed, what was meant, what to do.

    ``known`` are the names of this kind, ``failures`` the plugins that could not be registered.
    """
    text = f"no {kind} is named {name!r}; installed: {', '.join(known) or 'none'}."
    lower = str(name).lower()
    close = difflib.get_close_matches(lower, known, n=1)
    if close:
        text += f" Did you mean {close[0]!r}?"
    for failure in failures:
        source = failure.source
        if name in (source.plugin, source.distribution):
            verb = "was" if failure.disabled else "failed to load:"
            return f"{text} The plugin {name!r} of {source.distribution} {verb} {failure.reason}"
    if not close or (lower not in known and f"ffoadapt-{lower}" in packages()):
        text += f" {_advice(lower)}"
    return text


def _advice(name: str) -> str:
    """What to install for a plugin that is not there: only packages that exist are named."""
    known = packages()
    close = difflib.get_close_matches(f"ffoadapt-{name}", known, n=1, cutoff=0.9)
    if close:
        return f"To install it: pip install {close[0]}"
    return f"No plugin of ffoadapt has that name; there are {', '.join(known)}"
