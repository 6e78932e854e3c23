"""Trees of arrays: nested dicts, lists, tuples and None, without any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .lazy import lazy

__all__ = ["Tree", "flatten"]


@dataclass(frozen=True)
class Tree:
    """The structure of a tree; called with leaves it gives a tree of that structure.

    ``kind`` is the type of the node, None for a leaf; ``keys`` those of a dict.
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    parts: tuple[Tree, ...] = ()

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return 1 if self.kind is None else sum(part.size for part in self.parts)

    @lazy
    def _flat(self) -> bool:
        return all(part.kind is None for part in self.parts)

    def __call__(self, leaves: Sequence[Any]) -> Any:
        if self.kind is None:
            return leaves[0]
        if self._flat and self.kind is dict:
            return dict(zip(self.keys, leaves, strict=True))
        values, start = [], 0
        for part in self.parts:
            values.append(part(leaves[start : start + part.size]))
            start += part.size
        if self.kind is type(None):
            return None
        if self.kind is dict:
            return dict(zip(self.keys, values, strict=True))
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)


def flatten(tree: Any) -> tuple[list[Any], Tree]:
    """The leaves, of dicts by sorted key, and what makes the same tree of other leaves."""
    if tree is None:
        return [], Tree(type(None))
    if isinstance(tree, Mapping):
        try:
            keys = tuple(sorted(tree))
        except TypeError:  # of types that do not compare
            keys = tuple(tree)
        kind: type = dict
        parts = [tree[key] for key in keys]
    elif isinstance(tree, list | tuple):
        kind, keys, parts = type(tree), (), list(tree)
    else:
        return [tree], Tree(None)
    inner = [flatten(part) for part in parts]
    leaves = [leaf for some, _ in inner for leaf in some]
    return leaves, Tree(kind, keys, tuple(form for _, form in inner))
