"""A user's functions as one scalar function of arrays, whose gradient says everything.

Of total(y, w, leaves) = w[0] g + w[1:]'(h, e) the gradient in y is that of a Lagrangian, in w it is
the values of all functions, and in the leaves of the parameters it is what derivatives need: one
gradient call gives the three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import DifferentiationError, ParameterError, ShapeError
from .._plugins.framework import Framework
from .._plugins.registry import registry
from .._runtime.trees import flatten

__all__ = ["Functions", "Model", "Shifted"]

Floats = NDArray[np.float64]
Function = Callable[..., Any]

TOGETHER = 200_000
"""Numbers in the gradients of several points up to which these are evaluated at once."""


FEW = 3
"""So few points are evaluated one by one: a function for a batch takes several times as long."""


class Functions:
    """Objective, inequalities and equalities of (params, y) for one framework and one tree.

    Parameters
    ----------
    named
        ``{"objective": g, "inequalities": h or None, "equalities": e or None}``.
    rebuild
        The tree of parameters from its array leaves.
    shape
        Of y.
    """

    def __init__(
        self,
        framework: Framework,
        named: dict[str, Function | None],
        rebuild: Callable[[Sequence[Any]], Any],
        shape: tuple[int, ...],
    ) -> None:
        self.framework, self.rebuild, self.shape = framework, rebuild, shape
        self.parts = [Part(self, name, f) for name, f in named.items() if f is not None]
        self.constraints = self.parts[1:]
        self.checked = False

    @property
    def rows(self) -> int:
        """Rows of all constraints; known once `check` was called."""
        return sum(part.rows for part in self.constraints)

    def count(self, name: str) -> int:
        """Rows of the named constraints, 0 where there are none."""
        return next((part.rows for part in self.constraints if part.name == name), 0)

    def __call__(self, y: Any, w: Any, *leaves: Any) -> Any:
        params, at, k = self.rebuild(leaves), y.reshape(self.shape), 1
        objective, *rest = (part.values(params, at) for part in self.parts)
        if isinstance(objective, ByHand):
            return combined(w, objective, rest, len(leaves))
        total = w[0] * objective[0].reshape(())
        for values in rest:
            for value in values:
                flat = value.reshape(-1)
                total = total + (w[k : k + flat.shape[0]] * flat).sum()
                k += flat.shape[0]
        return total

    def check(self, y: Floats, leaves: Sequence[Any]) -> None:
        """That all return what they should at y, for leaves of the framework.

        Raises
        ------
        ParameterError, ShapeError
            With the name of the function.
        """
        at = self.framework.from_numpy(y)
        for part in self.parts:
            part.check(at, leaves)
        self.checked = True


class NotScalarError(ShapeError):
    """The objective is no scalar."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(
            f"the objective returned shape {', '.join(map(str, shapes))}; expected a scalar, shape "
            "(). Where an axis is a batch, say which arrays have it: SmoothLayer(..., "
            "params=an example without batch axes)"
        )
        self.shape = shapes[0] if len(shapes) == 1 else ()


class Part:
    """One of the user's functions; called, the sum of its values at (y, *leaves)."""

    def __init__(self, functions: Functions, name: str, function: Function) -> None:
        self.functions, self.name, self.function = functions, name, function
        self.rows = 0
        self.kinds: set[type] = set()

    def values(self, params: Any, y: Any) -> Any:
        """Its arrays; or values and gradients `ByHand`, which NumPy's users return."""
        try:
            found = self.function(params, y)
        except (KeyError, IndexError, AttributeError) as error:
            raise ParameterError(
                f"{self.name} failed on these params with {type(error).__name__}: {error}"
            ) from error
        if self.functions.framework.gradients_by_hand:
            found = ByHand(self.name, found, y)
            self.rows = found.value.size
            return found
        arrays = list(found) if isinstance(found, list | tuple) else [found]
        for array in arrays:
            if not hasattr(array, "reshape"):
                raise ParameterError(
                    f"{self.name} returned a {type(array).__name__}; expected an array of the "
                    "framework of params that depends on y"
                )
        if self.name == "objective" and (len(arrays) != 1 or _size(arrays[0]) != 1):
            raise NotScalarError([tuple(a.shape) for a in arrays])
        self.rows, self.kinds = sum(map(_size, arrays)), {*map(type, arrays)}
        return arrays

    def __call__(self, y: Any, *leaves: Any) -> Any:
        functions = self.functions
        arrays = self.values(functions.rebuild(leaves), y.reshape(functions.shape))
        if isinstance(arrays, ByHand):
            rows = arrays.rows.sum(axis=0)
            return float(arrays.value.sum()), [rows, *(None for _ in leaves)]
        return sum(array.sum() for array in arrays)

    def check(self, y: Any, leaves: Sequence[Any]) -> None:
        framework, name = self.functions.framework, self.name
        _, (gradient, *_) = framework.gradients(
            self, [y, *leaves], [True, *(False for _ in leaves)]
        )
        for kind in self.kinds:
            spec = registry.by_module("framework", kind)
            if spec is not None and registry.get("framework", spec.name) is not framework:
                raise ParameterError(
                    f"{name} returned an array of {spec.name}; expected one of the framework of "
                    "params: write it with that framework's functions"
                )
        if self.rows and gradient is None:
            raise ParameterError(
                f"{name} returned what does not depend on y, or has lost its graph (a constant, an "
                "integer, .detach(), .item(), torch.no_grad); compute it from y with operations of "
                "the framework"
            )


class ByHand:
    """What functions for NumPy return: (value, gradient in y), or (value, (in params, in y)).

    A vector of m values comes with gradients of shape (m, *shape).
    """

    def __init__(self, name: str, given: Any, y: Any) -> None:
        if not isinstance(given, tuple) or len(given) != 2:
            raise ParameterError(
                f"{name} returned a {type(given).__name__}; functions of NumPy arrays return "
                "(value, gradient), with gradient that in y or the pair (in params, in y). Write "
                "it for torch or JAX to have the gradient taken"
            )
        value, gradient = given
        pair = isinstance(gradient, tuple) and len(gradient) == 2
        self.params: Any = gradient[0] if pair else None
        rows = gradient[1] if pair else gradient
        self.value = np.asarray(value, dtype=np.float64).reshape(-1)
        if name == "objective" and self.value.size != 1:
            raise ShapeError(f"the objective returned shape {np.shape(value)}; expected a scalar")
        rows = np.asarray(rows, dtype=np.float64)
        if rows.size != self.value.size * y.size:
            raise ShapeError(
                f"{name} returned a gradient in y of shape {rows.shape}; expected "
                f"{(*np.shape(value), *y.shape)}"
            )
        self.rows = rows.reshape(self.value.size, y.size)

    def leaves(self, count: int) -> list[Any] | None:
        """Gradients in the leaves of params, each (rows, *shape); None where none were given."""
        if self.params is None:
            return None
        found = flatten(self.params)[0]
        if len(found) != count:
            raise ShapeError(
                f"a gradient in params has {len(found)} leaves; expected {count}, as params has"
            )
        return [np.asarray(g, np.float64).reshape(self.value.size, -1) for g in found]


def combined(w: Floats, objective: ByHand, rest: Sequence[ByHand], count: int) -> Any:
    """Value and gradients of the weighted total from those of the parts."""
    parts = [objective, *rest]
    values = np.concatenate([part.value for part in parts])
    y = w @ np.concatenate([part.rows for part in parts])
    leaves: list[Any] = [None] * count
    each = [part.leaves(count) for part in parts]
    if all(one is not None for one in each):
        stacked = zip(*(one for one in each if one is not None), strict=True)
        leaves = [w @ np.concatenate(rows) for rows in stacked]
    return float(w @ values), [y, values, *leaves]


def _size(array: Any) -> int:
    return math.prod(array.shape)


class Model:
    """The functions at the parameters of one element; counts its gradient calls.

    y is (n,), weights are (1 + rows,): of the objective, the inequalities, the equalities.
    """

    def __init__(self, functions: Functions, leaves: Sequence[Floats]) -> None:
        self.functions, self.numbers = functions, leaves
        with functions.framework.precise():
            self.leaves = [functions.framework.from_numpy(leaf) for leaf in leaves]
        self.calls = 0
        self._many = sum(leaf.size for leaf in leaves)

    def check(self, y: Floats) -> None:
        if not self.functions.checked:
            with self.functions.framework.precise():
                self.functions.check(y, self.leaves)

    def at(self, y: Floats, w: Floats, leaves: bool = False) -> tuple[Floats, Floats, list[Any]]:
        """Gradient in y (n,), values (1 + rows,), and where asked for the gradients in leaves."""
        framework = self.functions.framework
        needed = [True, True, *[leaves] * len(self.leaves)]
        self.calls += 1
        with framework.precise():
            given = [framework.from_numpy(y), framework.from_numpy(w), *self.leaves]
            _, found = framework.gradients(self.functions, given, needed)
            if leaves:
                return self._read(found, y.shape, w.shape, ())
            return self._array(found[0], (), y.shape), self._array(found[1], (), w.shape), []

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
        mapped = [y.ndim == 2, w.ndim == 2, *(moved is not None for _ in self.leaves)]
        needed = [True, True, *(leaves for _ in self.leaves)]
        self.calls += size
        with framework.precise():
            others = self.leaves if moved is None else [*map(framework.from_numpy, moved)]
            given = [framework.from_numpy(y), framework.from_numpy(w), *others]
            _, found = framework.gradients_each(self.functions, given, mapped, needed)
            return self._read(found if leaves else found[:2], y.shape[-1:], w.shape[-1:], (size,))

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
            found = framework.curvature(self.functions, given, moves)
            return self._read(found, y.shape, w.shape, ())

    def _read(
        self, found: Sequence[Any], y: Any, w: Any, lead: tuple[int, ...]
    ) -> tuple[Floats, Floats, list[Any]]:
        read = self._array
        if self.functions.framework.gradients_by_hand and any(g is None for g in found[2:]):
            raise DifferentiationError(
                "a function for NumPy returned no gradient in params, so there is none of the "
                "solution; return (value, (in params, in y)), or ask for jvp"
            )
        pairs = zip(found[2:], self.numbers, strict=False)
        leaves = [read(g, lead, n.shape) for g, n in pairs]
        return read(found[0], lead, y), read(found[1], lead, w), leaves

    def _array(self, gradient: Any, lead: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
        shape = (*lead, *shape)
        if gradient is None:
            return np.zeros(shape)
        array = self.functions.framework.to_numpy(gradient)
        found: Floats = np.asarray(array, dtype=np.float64)
        return found if found.shape == shape else found.reshape(shape)


class Shifted(Model):
    """The same functions with tilt'y added to the objective, and numbers to the constraints."""

    def __init__(self, model: Model, tilt: Floats, moved: Floats) -> None:
        self.functions, self.numbers, self.leaves = model.functions, model.numbers, model.leaves
        self.calls, self._many = 0, model._many
        self.tilt, self.moved = tilt, moved

    def at(self, y: Floats, w: Floats, leaves: bool = False) -> tuple[Floats, Floats, list[Any]]:
        return self._shifted(y, w, super().at(y, w, leaves))

    def each(
        self, y: Floats, w: Floats, leaves: bool = False, moved: Sequence[Floats] | None = None
    ) -> tuple[Floats, Floats, list[Any]]:
        return self._shifted(y, w, super().each(y, w, leaves, moved))

    def _shifted(
        self, y: Floats, w: Floats, found: tuple[Floats, Floats, list[Any]]
    ) -> tuple[Floats, Floats, list[Any]]:
        gradient, values, leaves = found
        moved = np.broadcast_to(self.moved, (*y.shape[:-1], self.moved.size))
        more = np.concatenate(((y @ self.tilt)[..., None], moved), axis=-1)
        return gradient + w[..., :1] * self.tilt, values + more, leaves
