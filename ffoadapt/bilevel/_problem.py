"""The two functions of a bilevel problem, on lists of arrays, and the count of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._exceptions import ParameterError, ShapeError
from .._plugins.framework import Framework
from ._arrays import Flat, constant, plus
from ._batch import BatchParts
from ._ignored import refuse_ignored
from ._inputs import check_floating, checked_projections, framework_of, same_answer, same_shapes

__all__ = ["BilevelProblem"]

Arrays = list[Any]


class BilevelProblem:
    """minimize f(x, y) over x, where y minimizes g(x, .): what the algorithms work on.

    Parameters
    ----------
    upper
        f: ``upper(x, y, *batch)`` -> scalar.
    lower
        One of three. Where ``y`` is given, g: ``lower(x, y, *batch)`` -> scalar (kind
        ``"function"``). Where it is None, the answer itself: ``lower(x, *batch)`` -> y,
        differentiable, through any layer of this project (kind ``"map"``). Or a `LowerProgram`
        (kind ``"program"``), which is both: its answer, and the functions it is made of.
    x, y
        Trees of arrays of one framework, at which structure, shapes and dtypes are read. Copied.
    project
        ``{"x": function, "y": function}``, one or both: of the tree, to the nearest point of the
        set that it must lie in. Where the lower level is constrained, y's must be given to the
        algorithms that take plain steps in it.

    Attributes
    ----------
    framework, kind
        What was found.
    flat_x, flat_y
        Between the leaves of x, of y, and NumPy vectors.
    gradient_calls
        How many gradients of f or g were taken through this problem; a gradient of
        f(x, lower(x)), and one of a Lagrangian of g, count as one.
    cache
        What algorithms keep for speed alone, by name; no result depends on it.
    """

    def __init__(
        self,
        upper: Callable[..., Any],
        lower: Any,
        x: Any,
        y: Any = None,
        project: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        for name, value in (("upper", upper), ("lower", lower)):
            if not callable(value):
                raise ParameterError(
                    f"{name} is a {type(value).__name__}; expected a callable, "
                    f"{name}(x, y, *batch) -> scalar"
                )
        self.upper_function, self.lower_function = upper, lower
        self.framework: Framework = framework_of(x, y)
        if hasattr(lower, "with_objective"):
            self.kind = "program"
        else:
            self.kind = "map" if y is None else "function"
        self._x, self.tree_x = self.framework.flatten(x)
        self._y, self.tree_y = self.framework.flatten(None if self.kind == "program" else y)
        check_floating("x", self._x)
        check_floating("y", self._y)
        if not self._x:
            raise ParameterError("x holds no array; there is nothing to minimize over")
        self.flat_x, self.flat_y = (Flat(self.framework, a) for a in (self._x, self._y))
        self._project = checked_projections(project, self.kind)
        self.gradient_calls = 0
        self.cache: dict[Any, Any] = {}
        self.batches = BatchParts(self.framework)
        self._f = self._made(self.upper_function, "upper")
        self._g = self._made(self.lower_function, "lower")
        self._total = self._made_total()
        self._asked: dict[tuple[str, str, int], list[bool]] = {}
        self._descent = self._made_descent()
        self._answer: list[Any] = []
        self._plus = self.framework.compiled(plus)

    # -- trees and lists

    def leaves(self, x: Any, y: Any) -> tuple[Arrays, Arrays]:
        """The arrays of trees of this problem's structure, without gradient.

        Raises
        ------
        ShapeError
        """
        return self._leaves("x", x, self._x), self._leaves("y", y, self._y)

    @property
    def count_x(self) -> int:
        """How many arrays x has."""
        return len(self._x)

    def start(self) -> tuple[Any, Any]:
        """The trees that the problem was made with."""
        x, y = ([constant(a) for a in arrays] for arrays in (self._x, self._y))
        return self.tree_x(x), self.tree_y(y)

    def _leaves(self, name: str, tree: Any, models: Arrays) -> Arrays:
        leaves = list(self.framework.flatten(tree)[0])
        if len(leaves) != len(models):
            raise ShapeError(f"{name} has {len(leaves)} arrays; the problem's has {len(models)}")
        same_shapes(name, models, leaves)
        return [a.detach() if hasattr(a, "detach") else a for a in leaves]

    def check_shapes(self, before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]) -> None:
        """See `Algorithm.step`."""
        for name, old, new in zip("xy", before, after, strict=True):
            if len(old) != len(new):
                raise ShapeError(f"a step made {len(new)} arrays of {name} from {len(old)}")
            same_shapes(name, old, new)

    def project_x(self, x: Arrays) -> Arrays:
        """The leaves of x, projected."""
        return self._projected("x", x, self.tree_x)

    def project_y(self, y: Arrays) -> Arrays:
        """The leaves of y, projected."""
        return self._projected("y", y, self.tree_y)

    def _projected(self, name: str, leaves: Arrays, build: Callable[[Any], Any]) -> Arrays:
        function = self._project.get(name)
        if function is None:
            return leaves
        projected = list(self.framework.flatten(function(build(leaves)))[0])
        if len(projected) != len(leaves):
            raise ShapeError(
                f"project[{name!r}] gave {len(projected)} arrays for the {len(leaves)} of {name}"
            )
        same_shapes(f"project[{name!r}]'s result", leaves, projected)
        return projected

    # -- gradients

    def upper(
        self, x: Arrays, y: Arrays, batch: Any = (), needed: str = "xy"
    ) -> tuple[Any, Arrays, Arrays]:
        """f, and its gradients in x and y; an empty list where not ``needed``."""
        return self._both(self._f, "upper", x, y, batch, needed)

    def lower(
        self, x: Arrays, y: Arrays, batch: Any = (), needed: str = "xy"
    ) -> tuple[Any, Arrays, Arrays]:
        """g likewise."""
        return self._both(self._g, "lower", x, y, batch, needed)

    def total(self, x: Arrays, batch: Any = ()) -> tuple[Any, Arrays]:
        """f(x, lower(x)) and its gradient, for kinds ``"map"`` and ``"program"``."""
        rest = [*self.batches.parts("upper", batch), *self.batches.parts("lower", batch)]
        return self.gradients(self._total, x, rest)

    def gradients(
        self, function: Callable[..., Any], arrays: Arrays, constants: Sequence[Any] = ()
    ) -> tuple[Any, Arrays]:
        """Value and gradients in ``arrays`` of ``function(*arrays, *constants)``; one call."""
        self.gradient_calls += 1
        needed = [True] * len(arrays) + [False] * len(constants)
        value, slopes = self.framework.gradients(function, [*arrays, *constants], needed)
        return value, _filled(arrays, slopes[: len(arrays)])

    def value(self, x: Arrays, y: Arrays, batch: Any = ()) -> float:
        """f alone; no gradient call."""
        arrays = [*x, *y, *self.batches.parts("upper", batch)]
        return float(self.framework.gradients(self._f, arrays, [False] * len(arrays))[0])

    def value_at(self, x: Arrays, y: Any, batch: Any = ()) -> float:
        """f at a tree y of any structure, not differentiated."""
        rest = self.batches.built("upper", self.batches.parts("upper", batch))
        return float(self.upper_function(self.tree_x(x), y, *rest))

    @property
    def batched(self) -> bool:
        """Whether a function took a batch."""
        return self.batches.any

    def lower_value(self, x: Arrays, y: Arrays, batch: Any = ()) -> float:
        """g alone; no gradient call."""
        arrays = [*x, *y, *self.batches.parts("lower", batch)]
        return float(self.framework.gradients(self._g, arrays, [False] * len(arrays))[0])

    def answer(self, x: Arrays, batch: Any = ()) -> Any:
        """The tree y = lower(x), for kinds ``"map"`` and ``"program"``."""
        rest = self.batches.built("lower", list(self.batches.parts("lower", batch)))
        return self.lower_function(self.tree_x(x), *rest)

    def _both(
        self, function: Any, level: str, x: Arrays, y: Arrays, batch: Any, needed: str
    ) -> tuple[Any, Arrays, Arrays]:
        self.gradient_calls += 1
        rest = self.batches.parts(level, batch)
        key = (level, needed, len(rest))
        asked = self._asked.get(key)
        if asked is None:
            asked = [needed != "y"] * len(x) + [needed != "x"] * len(y) + [False] * len(rest)
            self._asked[key] = asked
        arrays = [*x, *y, *rest]
        value, slopes = self.framework.gradients(function, arrays, asked)
        first, last = len(x), len(x) + len(y)
        return (
            value,
            _filled(x, slopes[:first]) if needed != "y" else [],
            _filled(y, slopes[first:last]) if needed != "x" else [],
        )

    def descend(
        self, x: Arrays, y: Arrays, batch: Any, size: float, share: float | None = None
    ) -> Arrays:
        """y - size * grad_y g(x, y), projected; one gradient call.

        With a ``share`` that many times grad_y f(x, y) is added to grad_y g, for one call more.
        """
        self.gradient_calls += 1 if share is None else 2
        lower = self.batches.parts("lower", batch)
        upper = [] if share is None else self.batches.parts("upper", batch)
        return self.project_y(self._descent(x, y, lower, size, upper, share))

    def _made_descent(self) -> Callable[..., Any]:
        framework, f, g = self.framework, self._f, self._g

        def slopes(function: Any, x: Arrays, y: Arrays, rest: Arrays) -> Arrays:
            asked = [False] * len(x) + [True] * len(y) + [False] * len(rest)
            _, gradients = framework.gradients(function, [*x, *y, *rest], asked)
            return _filled(y, gradients[len(x) : len(x) + len(y)])

        def descent(
            x: Arrays, y: Arrays, lower: Arrays, size: Any, upper: Arrays, share: Any
        ) -> Arrays:
            down = slopes(g, x, y, lower)
            if share is not None:
                down = plus(down, slopes(f, x, y, upper), share)
            return plus(y, down, -size)

        return framework.compiled(descent)

    def plus(self, a: Arrays, b: Arrays, scale: float = 1.0) -> Arrays:
        """a + scale * b."""
        total: Arrays = self._plus(a, b, scale)
        return total

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Framework.compiled`; of a function that lives as long as the problem."""
        known = self.cache.get(function)
        if known is None:
            known = self.cache[function] = self.framework.compiled(function)
        return known

    def _made(self, function: Any, level: str) -> Callable[..., Any]:
        first, last = len(self._x), len(self._x) + len(self._y)

        def flat(*arrays: Any) -> Any:
            x, y = self.tree_x(arrays[:first]), self.tree_y(arrays[first:last])
            if len(arrays) == last:
                return function(x, y)
            return function(x, y, *self.batches.built(level, arrays[last:]))

        return flat

    def _made_total(self) -> Callable[..., Any]:
        first = len(self._x)

        def total(*arrays: Any) -> Any:
            x, rest = self.tree_x(arrays[:first]), list(arrays[first:])
            split = self.batches.count("upper")
            y = self.lower_function(x, *self.batches.built("lower", rest[split:]))
            if not rest:  # a batch of another size may well have another y
                same_answer(self._answer, self.framework.flatten(y)[0])
            return self.upper_function(x, y, *self.batches.built("upper", rest[:split]))

        return total

    # -- what is no bilevel problem

    def check(self, x: Any, y: Any, batch: Any = ()) -> None:
        """Refuse an upper function that ignores y, a lower one that ignores x, and NaN.

        Gradients are zero here and at another point: a zero here alone may be chance. Not counted.

        Raises
        ------
        ParameterError
        """
        refuse_ignored(self, *self.leaves(x, y), batch)


def _filled(arrays: Sequence[Any], gradients: Sequence[Any]) -> Arrays:
    """Zeros where a function does not depend on an array."""
    return [a * 0 if g is None else g for a, g in zip(arrays, gradients, strict=True)]
