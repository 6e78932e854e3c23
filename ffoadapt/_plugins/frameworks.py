"""Which framework a call belongs to, found from the types of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._exceptions import ParameterError
from .framework import Framework
from .records import FrameworkSpec
from .registry import package_of, registry

__all__ = ["find_framework"]

_by_type: dict[type, FrameworkSpec | None] = {}
_by_types: dict[tuple[frozenset[type], tuple[type, ...]], Framework] = {}


def find_framework(arguments: Mapping[str, Any], aside: tuple[type, ...] = ()) -> Framework:
    """The framework of the named arguments; plain numbers and lists belong to any, and so do
    objects of the types ``aside``.

    Raises
    ------
    ParameterError
        Where two frameworks meet that do not mix, or an argument is no array at all.
    """
    key = frozenset(map(type, arguments.values())), aside
    found = _by_types.get(key)
    if found is None:
        if len(_by_types) > 1000:  # classes made on the fly
            _by_types.clear()
        given = {name: v for name, v in arguments.items() if not isinstance(v, aside)}
        found = _by_types[key] = _find(given)
    return found


def _find(arguments: Mapping[str, Any]) -> Framework:
    seen: dict[str, tuple[FrameworkSpec, str]] = {}
    for name, value in arguments.items():
        spec = _spec(type(value))
        if spec is not None:
            seen.setdefault(spec.name, (spec, name))
        elif not isinstance(value, int | float | list | tuple):
            package = package_of(type(value))
            raise ParameterError(
                f"{name} is a {type(value).__module__}.{type(value).__qualname__}; expected an "
                f"array of an installed framework: {', '.join(registry.ready('framework'))}"
                + (f". For these: pip install {package}" if package else "")
            )
    main = [spec for spec, _ in seen.values() if not _constant_in(spec, seen)]
    if len(main) > 1:
        what = ", ".join(f"{argument} is {name}" for name, (_, argument) in seen.items())
        raise ParameterError(
            f"one call mixes frameworks: {what}. Convert all arguments to one of them"
        )
    framework: Framework = registry.get("framework", main[0].name if main else "numpy")
    return framework


def _constant_in(spec: FrameworkSpec, seen: Mapping[str, tuple[FrameworkSpec, str]]) -> bool:
    """Whether some other framework of the call takes this one's arrays as constants."""
    return any(spec.name in other.mixes_with for other, _ in seen.values())


def _spec(cls: type) -> FrameworkSpec | None:
    if cls not in _by_type:
        if len(_by_type) > 1000:  # classes made on the fly
            _by_type.clear()
        found = registry.by_module("framework", cls)
        if isinstance(found, FrameworkSpec):
            _by_type[cls] = found
        else:
            _by_type[cls] = None
    return _by_type[cls]
