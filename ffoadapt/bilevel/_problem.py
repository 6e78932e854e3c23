"""The two functions of a bilevel problem, on lists of arrays, and the count of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._exceptions import ParameterError, ShapeError, UnsupportedProblemError
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._runtime.trees import flatten
from ._arrays import constant, plus, zeros

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
        self.framework: Framework = _framework(x, y)
        if hasattr(lower, "with_objective"):
            self.kind = "program"
        else:
            self.kind = "map" if y is None else "function"
        self._x, self.tree_x = self.framework.flatten(x)
        self._y, self.tree_y = self.framework.flatten(None if self.kind == "program" else y)
        _check_floating("x", self._x)
        _check_floating("y", self._y)
        if not self._x:
            raise ParameterError("x holds no array; there is nothing to minimize over")
        self._project = _checked_projections(project, self.kind)
        self.gradient_calls = 0
        self.cache: dict[Any, Any] = {}
        self._batch: dict[str, Any] = {}
        self._f = self._made(self.upper_function, "upper")
        self._g = self._made(self.lower_function, "lower")
        self._total = self._made_total()
        self._asked: dict[tuple[str, str, int], list[bool]] = {}
        self._descent = self._made_descent()
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
        found = list(self.framework.flatten(tree)[0])
        if len(found) != len(models):
            raise ShapeError(f"{name} has {len(found)} arrays; the problem's has {len(models)}")
        _same_shapes(name, models, found)
        return [a.detach() if hasattr(a, "detach") else a for a in found]

    def check_shapes(self, before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]) -> None:
        """See `Algorithm.step`."""
        for name, old, new in zip("xy", before, after, strict=True):
            if len(old) != len(new):
                raise ShapeError(f"a step made {len(new)} arrays of {name} from {len(old)}")
            _same_shapes(name, old, new)

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
        found = list(self.framework.flatten(function(build(leaves)))[0])
        if len(found) != len(leaves):
            raise ShapeError(
                f"project[{name!r}] gave {len(found)} arrays for the {len(leaves)} of {name}"
            )
        _same_shapes(f"project[{name!r}]'s result", leaves, found)
        return found

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
        rest = [*self._parts("upper", batch), *self._parts("lower", batch)]
        return self.gradients(self._total, x, rest)

    def gradients(
        self, function: Callable[..., Any], arrays: Arrays, constants: Sequence[Any] = ()
    ) -> tuple[Any, Arrays]:
        """Value and gradients in ``arrays`` of ``function(*arrays, *constants)``; one call."""
        self.gradient_calls += 1
        needed = [True] * len(arrays) + [False] * len(constants)
        value, found = self.framework.gradients(function, [*arrays, *constants], needed)
        return value, _filled(arrays, found[: len(arrays)])

    def value(self, x: Arrays, y: Arrays, batch: Any = ()) -> float:
        """f alone; no gradient call."""
        arrays = [*x, *y, *self._parts("upper", batch)]
        return float(self.framework.gradients(self._f, arrays, [False] * len(arrays))[0])

    def value_at(self, x: Arrays, y: Any, batch: Any = ()) -> float:
        """f at a tree y of any structure, not differentiated."""
        rest = self._built("upper", self._parts("upper", batch))
        return float(self.upper_function(self.tree_x(x), y, *rest))

    @property
    def batched(self) -> bool:
        """Whether a function took a batch."""
        return any(count for count, _ in self._batch.values())

    def lower_value(self, x: Arrays, y: Arrays, batch: Any = ()) -> float:
        """g alone; no gradient call."""
        arrays = [*x, *y, *self._parts("lower", batch)]
        return float(self.framework.gradients(self._g, arrays, [False] * len(arrays))[0])

    def answer(self, x: Arrays, batch: Any = ()) -> Any:
        """The tree y = lower(x), for kinds ``"map"`` and ``"program"``."""
        rest = self._built("lower", list(self._parts("lower", batch)))
        return self.lower_function(self.tree_x(x), *rest)

    def _both(
        self, function: Any, level: str, x: Arrays, y: Arrays, batch: Any, needed: str
    ) -> tuple[Any, Arrays, Arrays]:
        self.gradient_calls += 1
        rest = self._parts(level, batch)
        key = (level, needed, len(rest))
        asked = self._asked.get(key)
        if asked is None:
            asked = [needed != "y"] * len(x) + [needed != "x"] * len(y) + [False] * len(rest)
            self._asked[key] = asked
        arrays = [*x, *y, *rest]
        value, found = self.framework.gradients(function, arrays, asked)
        first, last = len(x), len(x) + len(y)
        return (
            value,
            _filled(x, found[:first]) if needed != "y" else [],
            _filled(y, found[first:last]) if needed != "x" else [],
        )

    def descend(self, x: Arrays, y: Arrays, batch: Any, size: float) -> Arrays:
        """y - size * grad_y g(x, y), projected; one gradient call."""
        self.gradient_calls += 1
        return self.project_y(self._descent(x, y, self._parts("lower", batch), size))

    def _made_descent(self) -> Callable[..., Any]:
        framework, g = self.framework, self._g

        def descent(x: Arrays, y: Arrays, rest: Arrays, size: Any) -> Arrays:
            asked = [False] * len(x) + [True] * len(y) + [False] * len(rest)
            _, found = framework.gradients(g, [*x, *y, *rest], asked)
            slopes = _filled(y, found[len(x) : len(x) + len(y)])
            return [a - size * slope for a, slope in zip(y, slopes, strict=True)]

        return framework.compiled(descent)

    def plus(self, a: Arrays, b: Arrays, scale: float = 1.0) -> Arrays:
        """a + scale * b."""
        found: Arrays = self._plus(a, b, scale)
        return found

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """See `Framework.compiled`; of a function that lives as long as the problem."""
        known = self.cache.get(function)
        if known is None:
            known = self.cache[function] = self.framework.compiled(function)
        return known

    def _made(self, function: Any, level: str) -> Callable[..., Any]:
        first, last = len(self._x), len(self._x) + len(self._y)

        def flat(*arrays: Any) -> Any:
            rest = self._built(level, list(arrays[last:]))
            return function(self.tree_x(arrays[:first]), self.tree_y(arrays[first:last]), *rest)

        return flat

    def _made_total(self) -> Callable[..., Any]:
        first = len(self._x)

        def total(*arrays: Any) -> Any:
            x, rest = self.tree_x(arrays[:first]), list(arrays[first:])
            split = self._batch["upper"][0] if "upper" in self._batch else 0
            y = self.lower_function(x, *self._built("lower", rest[split:]))
            return self.upper_function(x, y, *self._built("upper", rest[:split]))

        return total

    # -- batches

    def _parts(self, level: str, batch: Any) -> Arrays:
        """The arrays of a batch for one of the functions; its structure never changes."""
        known = self._batch.get(level)
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
            found, build = list[Any](), lambda leaves: ()
        else:
            if not isinstance(batch, tuple | list):
                batch = (batch,)
            found, build = self.framework.flatten(tuple(batch))
        if known is None:
            _check_arrays(f"the {level} batch", found, self.framework)
            self._batch[level] = (len(found), build)
        elif known[0] != len(found):
            raise ShapeError(
                f"a batch of the {level} function holds {len(found)} arrays; earlier ones held "
                f"{known[0]}"
            )
        return list(found)

    def _built(self, level: str, leaves: Arrays) -> Sequence[Any]:
        known = self._batch.get(level)
        return known[1](leaves) if known and leaves else ()

    # -- what is no bilevel problem

    def check(self, x: Any, y: Any, batch: Any = ()) -> None:
        """Refuse an upper function that ignores y and a lower one that ignores x.

        Both gradients are zero then, here and at another point: a zero here alone may be chance.
        Not counted.

        Raises
        ------
        ParameterError
        """
        first, second = self.leaves(x, y)
        calls = self.gradient_calls
        try:
            if self.kind == "function":
                self._check_function(first, second, batch)
            else:
                self._check_map(first, batch)
        finally:
            self.gradient_calls = calls

    def _check_function(self, x: Arrays, y: Arrays, batch: Any) -> None:
        if all(
            not _any(self.upper(*at, batch, "y")[2])
            for at in ((x, y), (_near(x, 1.0), _near(y, 2.0)))
        ):
            raise ParameterError(_IGNORES_Y)
        if all(
            not _any(self.lower(*at, batch, "x")[1])
            for at in ((x, y), (_near(x, 1.0), _near(y, 2.0)))
        ):
            raise ParameterError(
                "the lower function ignores x: its gradient in x is zero at the start and next to "
                "it, so that y does not depend on x. Use x in it, without detaching it"
            )

    def _check_map(self, x: Arrays, batch: Any) -> None:
        y, build = self.framework.flatten(self.answer(x, batch))
        y = [constant(a) for a in y]
        rest = self._parts("upper", batch)

        def upper(*arrays: Any) -> Any:
            known = self._built("upper", list(arrays[len(y) :]))
            return self.upper_function(self.tree_x(x), build(arrays[: len(y)]), *known)

        if all(not _any(self.gradients(upper, at, rest)[1]) for at in (y, _near(y, 2.0))):
            raise ParameterError(_IGNORES_Y)


_IGNORES_Y = (
    "the upper function ignores y: its gradient in y is zero at the start and next to it, so that "
    "the lower level plays no part. Use y in it, or minimize it over x alone"
)


def _framework(x: Any, y: Any) -> Framework:
    named = {f"x[{k}]": leaf for k, leaf in enumerate(flatten(x)[0])}
    named |= {f"y[{k}]": leaf for k, leaf in enumerate(flatten(y)[0])}
    for name, leaf in named.items():
        if not hasattr(leaf, "dtype"):
            raise ParameterError(
                f"{name} is a {type(leaf).__name__}; x and y are arrays of torch or JAX, or trees "
                "(dicts, lists, tuples) of them"
            )
    framework = find_framework(named)
    if framework.gradients_by_hand:
        raise UnsupportedProblemError(
            "x and y are NumPy arrays, through which no gradients flow; give arrays of torch or JAX"
        )
    return framework


def _check_floating(name: str, arrays: Arrays) -> None:
    for k, array in enumerate(arrays):
        if "float" not in str(array.dtype):
            raise ParameterError(
                f"{name}[{k}] holds {array.dtype}; expected floating-point numbers"
            )


def _check_arrays(name: str, arrays: Arrays, framework: Framework) -> None:
    for k, array in enumerate(arrays):
        if not hasattr(array, "dtype") or find_framework({"array": array}) is not framework:
            try:
                framework.gradients(lambda a: a.sum() * 0.0, [array], [False])
            except Exception as error:
                raise ParameterError(
                    f"array {k} of {name} is a {type(array).__module__}.{type(array).__name__}; "
                    "convert it to the framework of x"
                ) from error


def _same_shapes(name: str, models: Sequence[Any], arrays: Sequence[Any]) -> None:
    for k, (model, array) in enumerate(zip(models, arrays, strict=True)):
        if tuple(model.shape) != tuple(getattr(array, "shape", ("no array",))):
            raise ShapeError(
                f"array {k} of {name} has shape {tuple(getattr(array, 'shape', ()))}; expected "
                f"{tuple(model.shape)}, which never changes"
            )
        if model.dtype != array.dtype:
            raise ShapeError(
                f"array {k} of {name} has dtype {array.dtype}; expected {model.dtype}, which never "
                "changes"
            )


def _checked_projections(project: Any, kind: str) -> dict[str, Callable[[Any], Any]]:
    if project is None:
        return {}
    if not isinstance(project, Mapping) or set(project) - {"x", "y"}:
        what = sorted(map(str, project)) if isinstance(project, Mapping) else type(project).__name__
        raise ParameterError(
            f"project={what}; expected {{'x': function, 'y': function}}, one or both"
        )
    if kind != "function" and "y" in project:
        raise ParameterError("project['y'] is for a lower function g(x, y); here lower gives y")
    for name, function in project.items():
        if not callable(function):
            raise ParameterError(f"project[{name!r}] is a {type(function).__name__}, no function")
    return dict(project)


def _filled(arrays: Sequence[Any], gradients: Sequence[Any]) -> Arrays:
    """Zeros where a function does not depend on an array."""
    return [a * 0 if g is None else g for a, g in zip(arrays, gradients, strict=True)]


def _any(arrays: Sequence[Any]) -> bool:
    """Whether an entry is not zero (NaN counts)."""
    return any(float(abs(a).sum()) != 0.0 for a in arrays)


def _near(arrays: Arrays, phase: float) -> Arrays:
    """Another point, the same every time; of another phase by other steps."""
    made = zeros(arrays)
    for k, array in enumerate(arrays):
        wave = np.cos(phase + k + np.arange(int(np.prod(array.shape)))).reshape(array.shape)
        made[k] = array + 0.1 * _of(array, wave)
    return made


def _of(model: Any, values: Any) -> Any:
    """A NumPy array as one of the framework's, like a model."""
    if hasattr(model, "new_tensor"):
        return model.new_tensor(values)
    return model * 0 + values.astype(str(model.dtype).rpartition(".")[-1])
