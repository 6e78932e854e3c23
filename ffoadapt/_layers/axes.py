"""The batch axes of the arguments of a call: which each has, and what they are together.

Everything here follows from shapes alone, so that a function finds it once for each set of shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._exceptions import ShapeError
from .._runtime.lazy import lazy
from .._types import Floats, Shape

__all__ = ["Axes"]


@dataclass(frozen=True, eq=False)
class Axes:
    """Of arguments with core shapes ``cores``: the batch axes of each, and of all together."""

    cores: Sequence[Shape]
    leads: Sequence[Shape]
    batch: Shape

    @classmethod
    def of(cls, names: Sequence[str], cores: Sequence[Shape], shapes: Sequence[Shape]) -> Axes:
        """Those of arguments of these shapes; raises `ShapeError` where they do not fit."""
        leads = []
        for name, core, shape in zip(names, cores, shapes, strict=True):
            split = len(shape) - len(core)
            if split < 0 or shape[split:] != core:
                raise ShapeError(
                    f"{name} has shape {shape}; expected {_text(core)}, or with batch axes in "
                    f"front {_text(('batch', *core))}"
                )
            leads.append(shape[:split])
        try:
            return cls(cores, leads, np.broadcast_shapes(*leads))
        except (ValueError, RuntimeError) as error:  # NumPy broadcasts no more than 32 axes
            pairs = [f"{n}: {lead}" for n, lead in zip(names, leads, strict=True) if lead != ()]
            raise ShapeError(
                f"the batch axes of the parameters do not fit together: {', '.join(pairs)}; "
                "expected equal batch sizes, or 1, or none"
            ) from error

    @classmethod
    def none(cls, cores: Sequence[Shape]) -> Axes:
        """Those of arguments without batch axes."""
        return cls(cores, [()] * len(cores), ())

    @lazy
    def single(self) -> bool:
        """Whether no argument has a batch axis."""
        return self.batch == ()

    @lazy
    def size(self) -> int:
        """The number of elements B."""
        return math.prod(self.batch)

    def within(self, batch: Shape) -> Axes:
        """The same arguments in a batch that has more axes than they say."""
        return Axes(self.cores, self.leads, np.broadcast_shapes(self.batch, batch))

    def flatten(self, values: Sequence[Floats | None]) -> list[Floats | None]:
        """The arguments as (B, *core), or (1, *core) where they do not vary over the batch."""
        if self.single:
            return [None if v is None else v[None] for v in values]
        return [None if v is None else self._flattened(k, v) for k, v in enumerate(values)]

    def _flattened(self, k: int, value: Floats) -> Floats:
        lead, core = self.leads[k], self.cores[k]
        if not lead:
            return value[None]
        if math.prod(lead) == 1:
            return value.reshape(1, *core)
        if lead != self.batch:
            value = np.broadcast_to(value, (*self.batch, *core))
        return value.reshape(self.size, *core)

    def unflatten(self, grads: Sequence[Floats | None], extra: int) -> list[Floats | None]:
        """The gradients (*lead, B or 1, *core) of the arguments in the shapes (*lead, *own, *core);
        the first ``extra`` axes are further cotangents."""
        return [None if g is None else self._unflattened(k, g, extra) for k, g in enumerate(grads)]

    def _unflattened(self, k: int, grad: Floats, extra: int) -> Floats:
        own, core = self.leads[k], self.cores[k]
        if not (own or extra) and grad.shape[0] == 1:
            return grad[0]
        lead = grad.shape[:extra]
        if grad.shape[extra] == 1 != math.prod(own) and not grad.any():  # nothing depends on it
            return np.zeros((*lead, *own, *core))
        if grad.shape[extra] != self.size or math.prod(own) == 1:
            if grad.shape[extra] != 1:
                grad = grad.sum(axis=extra, keepdims=True)
            return grad.reshape((*lead, *own, *core))
        grad = grad.reshape((*lead, *self.batch, *core))
        missing = len(self.batch) - len(own)
        summed = [extra + i for i in range(missing)]
        summed += [
            extra + missing + i
            for i, (mine, full) in enumerate(zip(own, self.batch[missing:], strict=True))
            if mine == 1 and full != 1
        ]
        if summed:
            grad = grad.sum(axis=tuple(summed))
        return grad.reshape((*lead, *own, *core))


def _text(core: Sequence[object]) -> str:
    inside = ", ".join(map(str, core))
    return f"({inside},)" if len(core) == 1 else f"({inside})"
