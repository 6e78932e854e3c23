"""The batch of each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .._exceptions import ParameterError

__all__ = ["Source"]


class Source:
    """The batch of each step, from a function or an iterable."""

    def __init__(self, source: Any) -> None:
        if source is not None and not callable(source) and not isinstance(source, Iterable):
            raise ParameterError(
                f"batches is a {type(source).__name__}; expected an iterable of tuples of arrays, "
                "or a function from the number of a step to one"
            )
        self.source, self.start = source, 0
        self._iterator: Iterator[Any] | None = None
        self._held: list[Any] = []
        self._taken = 0

    def first(self) -> Any:
        """The batch of the first step, which `get` gives again."""
        if self.source is None:
            return ()
        if callable(self.source):
            return self.source(self.start)
        if not self._held:
            try:
                self._held = [self._next()]
            except StopIteration:
                raise ParameterError("batches is empty") from None
        return self._held[0]

    def get(self, step: int) -> Any:
        """The batch of a step; of an iterable those before it are skipped."""
        if self.source is None:
            return ()
        if callable(self.source):
            return self.source(step)
        while self._taken <= step - self.start:
            batch = self._held.pop() if self._held else self._next()
            self._taken += 1
        return batch

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.source)
        try:
            return next(self._iterator)
        except StopIteration:
            if self._iterator is self.source:
                raise
        self._iterator = iter(self.source)
        return next(self._iterator)
