"""Keys of objects: what the graph of a framework's compiler can carry where it takes no objects."""

from __future__ import annotations

import itertools
import os
import weakref
from typing import Any

from .._exceptions import ParameterError

__all__ = ["Keyed"]

_objects: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

_numbers = itertools.count(int.from_bytes(os.urandom(6), "big") << 12)
"""From where no other process begins, so that a key of another process is none of this one."""


class Keyed:
    """An object with a ``key``: the decimal digits of a number below 2^63, of no other object.

    Copies have keys of their own. Whoever has a key does not keep the object alive.
    """

    __slots__ = ("__weakref__", "key")

    key: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        self.key = str(next(_numbers))
        _objects[self.key] = self
        return self

    def __getstate__(self) -> Any:
        return self.__dict__

    @staticmethod
    def of(key: str) -> Any:
        """The object with this key.

        Raises
        ------
        ParameterError
            Where there is none, or none any more, in this process.
        """
        try:
            return _objects[key]
        except KeyError:
            raise ParameterError(
                f"no object of this process has the key {key}: it is gone, or of another process"
            ) from None
