"""params as a tree of the framework's floating arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._exceptions import DifferentiationError, ParameterError
from .._plugins.framework import Framework
from .._plugins.registry import registry
from .._runtime.trees import flatten

__all__ = ["Params", "form_of", "identity_of", "names_of", "plain", "read_params", "tangents_of"]


def read_params(params: Any) -> tuple[Framework, list[Any], Any, list[Any]]:
    """The framework, the leaves that are its floating arrays, what makes params of such leaves, and
    the other leaves."""
    if hasattr(params, "__next__"):  # a module's parameters
        params = list(params)
    every = flatten(params)[0]
    kinds = {}
    for leaf in every:
        spec = registry.by_module("framework", type(leaf))
        if spec is not None:
            kinds[spec.name] = spec
    strict = {name: s for name, s in kinds.items() if not _mixes(s, kinds)}
    if len(strict) > 1:
        raise ParameterError(
            f"params mixes arrays of {' and '.join(sorted(strict))}; convert them to one framework"
        )
    name = next(iter(strict), None)
    if name is None:
        name = _by_tree(every)
    framework: Framework = registry.get("framework", name)
    every, build = framework.flatten(params)
    if any("complex" in str(getattr(leaf, "dtype", "")) for leaf in every):
        raise ParameterError("a leaf of params is complex; expected real numbers")
    floating = [_floating(leaf, framework) for leaf in every]
    if not any(floating):
        raise ParameterError(
            "params has no floating array among its leaves; there is nothing to differentiate by. "
            "Give at least one, of torch, JAX or NumPy"
        )
    constants = [leaf for leaf, on in zip(every, floating, strict=True) if not on]
    leaves = [leaf for leaf, on in zip(every, floating, strict=True) if on]
    if framework.gradients_by_hand:
        leaves = [np.asarray(leaf) for leaf in leaves]
    return framework, leaves, Params(build, tuple(floating), constants), constants


class Params:
    """params from its floating leaves; the others are constants."""

    def __init__(self, build: Any, floating: tuple[bool, ...], constants: list[Any]) -> None:
        self.build, self.floating, self.constants = build, floating, constants

    def __call__(self, leaves: Sequence[Any]) -> Any:
        if not self.constants:
            return self.build(leaves)
        mine, others = iter(leaves), iter(self.constants)
        return self.build([next(mine) if on else next(others) for on in self.floating])


def _by_tree(every: Sequence[Any]) -> str:
    """The framework of a tree that it alone knows, such as a registered class."""
    for leaf in every:
        if isinstance(leaf, bool | int | float | str | complex):
            continue
        for name in registry.ready("framework"):
            framework = registry.get("framework", name)
            inner = framework.flatten(leaf)[0]
            if len(inner) > 1 or (inner and inner[0] is not leaf):
                spec = registry.by_module("framework", type(inner[0]))
                if spec is not None and spec.name == name:
                    return str(name)
        raise ParameterError(
            f"params holds a {type(leaf).__module__}.{type(leaf).__qualname__}; expected arrays of "
            f"an installed framework: {', '.join(registry.ready('framework'))}"
        )
    return "numpy"


def _mixes(spec: Any, kinds: dict[str, Any]) -> bool:
    return any(spec.name in other.mixes_with for other in kinds.values())


def _floating(leaf: Any, framework: Framework) -> bool:
    if framework.gradients_by_hand and isinstance(leaf, float):
        return True
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return False
    return "float" in str(dtype)


def form_of(framework: Framework, tree: Params) -> Any:
    return type(framework), tree.floating, tree.build


def identity_of(constants: Sequence[Any]) -> Any:
    """What tells constants apart: numbers and words by value, everything else by identity."""
    plain = (bool, int, float, str, type(None))
    return tuple((type(c), c if isinstance(c, plain) else id(c)) for c in constants)


def names_of(params: Any, leaves: Sequence[Any]) -> list[str] | None:
    """The keys of a flat dict of arrays."""
    if not isinstance(params, dict):
        return None
    keys = [k for k in sorted(params, key=str) if any(params[k] is leaf for leaf in leaves)]
    return [str(k) for k in keys] if len(keys) == len(leaves) else None


def tangents_of(framework: Framework, params: Any, tangents: Any) -> list[Any]:
    """Tangents of the floating leaves, zeros where there is None."""
    _, leaves, tree, _ = read_params(params)

    def walk(value: Any, tangent: Any) -> list[Any]:
        if tangent is None:
            return [None] * len(framework.flatten(value)[0])
        if isinstance(value, dict):
            unknown = sorted(set(tangent) - set(value), key=str)
            if unknown:
                raise DifferentiationError(f"params has no {unknown[0]!r}")
            keys = sorted(value, key=str)
            return [leaf for k in keys for leaf in walk(value[k], tangent.get(k))]
        if isinstance(value, list | tuple):
            return [leaf for v, t in zip(value, tangent, strict=True) for leaf in walk(v, t)]
        return [tangent]

    every = walk(params, tangents)
    floating = [t for t, on in zip(every, tree.floating, strict=True) if on]
    arrays = []
    for leaf, tangent in zip(leaves, floating, strict=True):
        if tangent is None:
            arrays.append(np.zeros(tuple(leaf.shape)))
            continue
        array = np.asarray(plain(tangent), dtype=np.float64)
        if array.shape != tuple(leaf.shape):
            raise DifferentiationError(
                f"a tangent has shape {array.shape}, expected {tuple(leaf.shape)}"
            )
        arrays.append(array)
    return arrays


def plain(array: Any) -> Any:
    """Any framework's array as NumPy's."""
    spec = registry.by_module("framework", type(array))
    if spec is None or isinstance(array, np.ndarray):
        return array
    return registry.get("framework", spec.name).to_numpy(array)
