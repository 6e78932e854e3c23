"""A user's functions as one scalar function of arrays, whose gradient says everything.

Of total(y, w, leaves) = w[0] g + w[1:]'(h, e) the gradient in y is that of a Lagrangian, in w it is
the values of all functions, and in the leaves of the parameters it is what derivatives need: one
gradient call gives the three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .._exceptions import FFOAdaptError, ParameterError, ShapeError
from .._plugins.framework import Framework
from .._plugins.registry import registry
from .._types import Floats
from .by_hand import ByHand, combined

__all__ = ["UNFIT", "Functions", "NotScalarError"]

Function = Callable[..., Any]

UNFIT = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)
"""What functions raise where they are given what they were not written for."""


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
        self._flat = len(shape) == 1
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

    def outputs(self, y: Any, *leaves: Any) -> list[Any]:
        """The arrays that all functions return, objective first."""
        params, at = self.rebuild(leaves), y if self._flat else y.reshape(self.shape)
        arrays: list[Any] = []
        for part in self.parts:
            arrays += part.values(params, at)
        return arrays

    def check(self, y: Floats, leaves: Sequence[Any]) -> None:
        """That all return what they should at y, for leaves of the framework.

        Raises
        ------
        ParameterError, ShapeError
            With the name of the function.
        """
        at = self.framework.from_numpy(y)
        for part in self.parts:
            try:
                part.check(at, leaves)
            except FFOAdaptError:
                raise
            except UNFIT as error:
                raise ParameterError(
                    f"{part.name} failed on these params with a y of shape {self.shape}, as start "
                    f"has: {type(error).__name__}: {error}"
                ) from error
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
        self._kind: type | None = None  # of what it returned, where that was one array
        self._shape: Any = None

    def values(self, params: Any, y: Any) -> Any:
        """Its arrays; or values and gradients `ByHand`, which NumPy's users return."""
        returned: Any = self.function(params, y)
        kind: Any = type(returned)
        if kind is self._kind and returned.shape == self._shape:
            return [returned]
        if self.functions.framework.gradients_by_hand:
            returned = ByHand(self.name, returned, y)
            self.rows = returned.value.size
            return returned
        arrays = list(returned) if isinstance(returned, list | tuple) else [returned]
        for array in arrays:
            self._belongs(array)
        if self.name == "objective" and (len(arrays) != 1 or _size(arrays[0]) != 1):
            raise NotScalarError([tuple(a.shape) for a in arrays])
        self.rows = sum(map(_size, arrays))
        if len(arrays) == 1 and arrays[0] is returned:
            self._kind, self._shape = type(returned), returned.shape
        return arrays

    def __call__(self, y: Any, *leaves: Any) -> Any:
        functions = self.functions
        arrays = self.values(functions.rebuild(leaves), y.reshape(functions.shape))
        if isinstance(arrays, ByHand):
            rows = arrays.rows.sum(axis=0)
            return float(arrays.value.sum()), [rows, *(None for _ in leaves)]
        return sum(array.sum() for array in arrays)

    def _belongs(self, array: Any) -> None:
        """That it is an array of the framework of params."""
        framework = self.functions.framework
        spec = registry.by_module("framework", type(array))
        other = spec is not None and registry.get("framework", spec.name) is not framework
        if spec is not None and other:
            raise ParameterError(
                f"{self.name} returned an array of {spec.name}; expected one of the framework of "
                "params: write it with that framework's functions"
            )
        if not hasattr(array, "reshape"):
            raise ParameterError(
                f"{self.name} returned a {type(array).__name__}; expected an array of the "
                "framework of params that depends on y"
            )

    def check(self, y: Any, leaves: Sequence[Any]) -> None:
        framework, name = self.functions.framework, self.name
        _, (gradient, *_) = framework.gradients(
            self, [y, *leaves], [True, *(False for _ in leaves)]
        )
        if self.rows and (gradient is None or framework.unused(self, [y, *leaves])[0]):
            raise ParameterError(
                f"{name} returned what does not depend on y, or has lost its graph (a constant, an "
                "integer, .detach(), .item(), torch.no_grad); compute it from y with operations of "
                "the framework"
            )


def _size(array: Any) -> int:
    return math.prod(array.shape)
