"""A batch as lists of arrays for the upper and for the lower function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._exceptions import ParameterError, ShapeError
from .._plugins.framework import Framework
from ._inputs import check_arrays

__all__ = ["BatchParts"]

Arrays = list[Any]


class BatchParts:
    """Takes batches apart and puts them together; their structure never changes."""

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self._known: dict[str, Any] = {}

    @property
    def any(self) -> bool:
        """Whether a function took a batch."""
        return any(count for count, _ in self._known.values())

    def count(self, level: str) -> int:
        """How many arrays a batch has for one of the functions."""
        return int(self._known[level][0]) if level in self._known else 0

    def parts(self, level: str, batch: Any) -> Arrays:
        """The arrays of a batch for one of the functions; its structure never changes."""
        known = self._known.get(level)
        if known is not None and known[0] == 0 and isinstance(batch, tuple) and not batch:
            return []
        if isinstance(batch, Mapping):
            if odd := set(batch) - {"upper", "lower"}:
                raise ParameterError(
                    f"a batch has the keys {sorted(map(str, odd))}; expected 'upper' and 'lower', "
                    "each a tuple of arrays"
                )
            batch = batch.get(level, ())
        if batch is None or (isinstance(batch, tuple) and not batch):
            flat, build = list[Any](), lambda leaves: ()
        else:
            if not isinstance(batch, tuple | list):
                batch = (batch,)
            flat, build = self.framework.flatten(tuple(batch))
        if known is None:
            check_arrays(f"the {level} batch", flat, self.framework)
            self._known[level] = (len(flat), build)
        elif known[0] != len(flat):
            raise ShapeError(
                f"a batch of the {level} function holds {len(flat)} arrays; earlier ones held "
                f"{known[0]}"
            )
        return list(flat)

    def built(self, level: str, leaves: Sequence[Any]) -> Sequence[Any]:
        known = self._known.get(level)
        return known[1](leaves) if known and leaves else ()
