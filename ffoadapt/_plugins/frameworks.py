"""Which framework a call belongs to, found from the types of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._exceptions import ParameterError
from .._kernel.algebra import Algebra, NumpyAlgebra
from .framework import Framework
from .packages import package_of
from .records import FrameworkSpec
from .registry import registry

__all__ = ["algebra_of", "find_framework"]

MOST = 1000
"""Types, and sets of types, that are remembered: a program may make classes without end."""

_by_type: dict[type, Any] = {}  # to a FrameworkSpec, or None
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
    framework = _by_types.get(key)
    if framework is None:
        if len(_by_types) > MOST:
            _by_types.clear()
        given = {name: v for name, v in arguments.items() if not isinstance(v, aside)}
        framework = _by_types[key] = _find(given)
    return framework


def algebra_of(array: Any) -> Algebra:
    """The `Algebra` of the library that an array belongs to."""
    if isinstance(array, np.ndarray):
        return _NUMPY
    return find_framework({"the array": array}).algebra(array)


_NUMPY = NumpyAlgebra()


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


def _spec(cls: type) -> Any:
    if cls not in _by_type:
        if len(_by_type) > MOST:
            _by_type.clear()
        _by_type[cls] = registry.by_module("framework", cls)
    return _by_type[cls]
