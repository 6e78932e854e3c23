"""The functions of a program at the parameters of one batch element, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._exceptions import DifferentiationError
from .._runtime.lazy import lazy
from .._types import Floats
from .functions import Functions

__all__ = ["Model", "Recorded", "Shifted"]


TOGETHER = 200_000
"""Numbers in the gradients of several points up to which these are evaluated at once."""

FEW = 3
"""So few points are evaluated one by one: a function for a batch takes several times as long."""

RECORDED = 100_000
"""Up to so many numbers what the framework has recorded of an evaluation is kept."""


class Model:
    """The functions at the parameters of one element; counts its gradient calls.

    y is (n,), weights are (1 + rows,): of the objective, the inequalities, the equalities.
    """

    def __init__(self, functions: Functions, leaves: Sequence[Floats]) -> None:
        self.functions, self.numbers = functions, leaves
        with functions.framework.precise():
            self.leaves = [functions.framework.from_numpy(leaf) for leaf in leaves]
        self.calls = 0
        self._shapes = [leaf.shape for leaf in leaves]
        self._many = sum(leaf.size for leaf in leaves)

    @lazy
    def objective_weights(self) -> Floats:
        """(1 + rows,) 1 and zeros."""
        weights = np.zeros(1 + self.functions.rows)
        weights[0] = 1.0
        return weights

    def check(self, y: Floats) -> None:
        if not self.functions.checked:
            with self.functions.framework.precise():
                self.functions.check(y, self.leaves)

    def recorded(self, y: Floats) -> Recorded | None:
        """The functions at y, evaluated once for any number of gradients; None where the framework
        keeps no record of that, or it would be a large one."""
        return self._record(y, False) if y.size <= RECORDED else None

    def _record(self, y: Floats, leaves: bool) -> Recorded | None:
        framework = self.functions.framework
        with framework.precise():
            given = [framework.from_numpy(y), *self.leaves]
            needed = [True, *[leaves] * len(self.leaves)]
            record = framework.recorded(self.functions.outputs, given, needed)
        return None if record is None else Recorded(self, *record, y.shape, leaves)

    def _records(self, y: Floats, leaves: bool, moved: Any) -> Recorded | None:
        """The functions at several y (k, n), for leaves of their own where ``moved`` gives them, or
        there will be gradients in them."""
        framework, size = self.functions.framework, len(y)
        more: Any = self.leaves
        if moved is not None or leaves:
            more = moved or [np.broadcast_to(v, (size, *v.shape)) for v in self.numbers]
            more = [framework.from_numpy(v) for v in more]
        mapped = [True, *[more is not self.leaves] * len(more)]
        with framework.precise():
            given, needed = [framework.from_numpy(y), *more], [True, *[leaves] * len(more)]
            record = framework.recorded(self.functions.outputs, given, needed, mapped)
        return None if record is None else Recorded(self, *record, y.shape, leaves)

    def at(self, y: Floats, w: Floats, leaves: bool = False) -> tuple[Floats, Floats, list[Any]]:
        """Gradient in y (n,), values (1 + rows,), and where asked for the gradients in leaves."""
        record = self._record(y, leaves)
        if record is not None:
            gradient, more = record.gradients(w)
            return gradient, record.values, more
        framework = self.functions.framework
        needed = [True, True, *[leaves] * len(self.leaves)]
        self.calls += 1
        with framework.precise():
            given = [framework.from_numpy(y), framework.from_numpy(w), *self.leaves]
            _, gradients = framework.gradients(self.functions, given, needed)
            if leaves:
                return self._read(gradients, y.shape, w.shape, ())
            return (
                self._array(gradients[0], (), y.shape),
                self._array(gradients[1], (), w.shape),
                [],
            )

    def each(
        self, y: Floats, w: Floats, leaves: bool = False, moved: Sequence[Floats] | None = None
    ) -> tuple[Floats, Floats, list[Any]]:
        """`at` for several y (k, n) or weights (k, 1 + rows), or both; leaves where ``moved``
        gives them, each (k, *shape)."""
        framework = self.functions.framework
        size = next(len(v) for v in (y, w) if v.ndim == 2)
        numbers = size * (y.shape[-1] + (self._many if leaves else 0))
        if moved is None and not FEW < size < TOGETHER * size / max(numbers, 1):
            pairs = [(y[k] if y.ndim == 2 else y, w[k] if w.ndim == 2 else w) for k in range(size)]
            first, second, third = zip(*(self.at(*pair, leaves) for pair in pairs), strict=True)
            return (
                np.stack(first),
                np.stack(second),
                [np.stack(g) for g in zip(*third, strict=True)],
            )
        if y.ndim == 2 and (record := self._records(y, leaves, moved)) is not None:
            gradient, more = record.gradients(w if w.ndim == 2 else np.tile(w, (size, 1)))
            self.calls += size - 1
            return gradient, record.values, more
        mapped = [y.ndim == 2, w.ndim == 2, *(moved is not None for _ in self.leaves)]
        needed = [True, True, *(leaves for _ in self.leaves)]
        self.calls += size
        with framework.precise():
            others = self.leaves if moved is None else [*map(framework.from_numpy, moved)]
            given = [framework.from_numpy(y), framework.from_numpy(w), *others]
            _, gradients = framework.gradients_each(self.functions, given, mapped, needed)
            return self._read(
                gradients if leaves else gradients[:2], y.shape[-1:], w.shape[-1:], (size,)
            )

    def along(
        self, y: Floats, w: Floats, dy: Floats, dw: Floats | None = None
    ) -> tuple[Floats, Floats, list[Any]]:
        """The derivatives of what `at` gives along (dy, dw), by second derivatives."""
        framework = self.functions.framework
        self.calls += 1
        with framework.precise():
            given = [framework.from_numpy(y), framework.from_numpy(w), *self.leaves]
            moves = [framework.from_numpy(dy), None if dw is None else framework.from_numpy(dw)]
            moves += [None] * len(self.leaves)
            products = framework.curvature(self.functions, given, moves)
            return self._read(products, y.shape, w.shape, ())

    def _read(
        self, parts: Sequence[Any], y: Any, w: Any, lead: tuple[int, ...]
    ) -> tuple[Floats, Floats, list[Any]]:
        read = self._array
        if self.functions.framework.gradients_by_hand and any(g is None for g in parts[2:]):
            raise DifferentiationError(
                "a function for NumPy returned no gradient in params, so there is none of the "
                "solution; return (value, (in params, in y)), or ask for jvp"
            )
        pairs = zip(parts[2:], self.numbers, strict=False)
        leaves = [read(g, lead, n.shape) for g, n in pairs]
        return read(parts[0], lead, y), read(parts[1], lead, w), leaves

    def _array(self, gradient: Any, lead: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
        shape = (*lead, *shape)
        if gradient is None:
            return np.zeros(shape)
        array = self.functions.framework.to_numpy(gradient)
        numbers: Floats = np.asarray(array, dtype=np.float64)
        return numbers if numbers.shape == shape else numbers.reshape(shape)


class Recorded:
    """All functions at one y: ``values`` (1 + rows,), and gradients of their weighted sums; or at
    several, with an axis in front of all. In y alone, or in the leaves too."""

    __slots__ = ("_leaves", "_model", "_pull", "_shape", "values")

    def __init__(
        self, model: Model, values: Floats, pull: Any, shape: tuple[int, ...], leaves: bool
    ) -> None:
        self._model, self.values, self._pull = model, values, pull
        self._shape, self._leaves = shape, leaves

    def gradient(self, w: Floats, again: bool = False) -> Floats:
        """Of the sum of all with weights w (1 + rows,), in y: zeros where it is in none."""
        self._model.calls += 1
        product: Floats | None = self._pull(w, again)[0]
        return np.zeros(self._shape) if product is None else product

    def gradients(self, w: Floats) -> tuple[Floats, list[Floats]]:
        """In y, and in the leaves."""
        if not self._leaves:
            return self.gradient(w), []
        self._model.calls += 1
        y, *leaves = self._pull(w, False)
        lead = self._shape[:-1]
        shapes = [(*lead, *shape) for shape in self._model._shapes]
        pairs = zip(leaves, shapes, strict=True)
        every = [np.zeros(shape) if g is None else g for g, shape in pairs]
        return np.zeros(self._shape) if y is None else y, every


class Shifted(Model):
    """The same functions with tilt'y added to the objective, and numbers to the constraints."""

    def __init__(self, model: Model, tilt: Floats, moved: Floats) -> None:
        self.functions, self.numbers, self.leaves = model.functions, model.numbers, model.leaves
        self.calls, self._many, self._shapes = 0, model._many, model._shapes
        self.tilt, self.moved = tilt, moved

    def at(self, y: Floats, w: Floats, leaves: bool = False) -> tuple[Floats, Floats, list[Any]]:
        return self._shifted(y, w, super().at(y, w, leaves))

    def recorded(self, y: Floats) -> Recorded | None:
        return None

    def each(
        self, y: Floats, w: Floats, leaves: bool = False, moved: Sequence[Floats] | None = None
    ) -> tuple[Floats, Floats, list[Any]]:
        return self._shifted(y, w, super().each(y, w, leaves, moved))

    def _shifted(
        self, y: Floats, w: Floats, along: tuple[Floats, Floats, list[Any]]
    ) -> tuple[Floats, Floats, list[Any]]:
        gradient, values, leaves = along
        moved = np.broadcast_to(self.moved, (*y.shape[:-1], self.moved.size))
        more = np.concatenate(((y @ self.tilt)[..., None], moved), axis=-1)
        return gradient + w[..., :1] * self.tilt, values + more, leaves
