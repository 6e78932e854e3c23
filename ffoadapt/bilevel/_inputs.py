"""What a bilevel problem is made from, checked: its arrays, their shapes, its projections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._exceptions import ParameterError, ShapeError, UnsupportedProblemError
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._runtime.trees import flatten

__all__ = [
    "check_arrays",
    "check_floating",
    "checked_projections",
    "framework_of",
    "same_answer",
    "same_shapes",
]

Arrays = list[Any]


def framework_of(x: Any, y: Any) -> Framework:
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


def check_floating(name: str, arrays: Arrays) -> None:
    for k, array in enumerate(arrays):
        if "float" not in str(array.dtype):
            raise ParameterError(
                f"{name}[{k}] holds {array.dtype}; expected floating-point numbers"
            )


def check_arrays(name: str, arrays: Arrays, framework: Framework) -> None:
    for k, array in enumerate(arrays):
        if not hasattr(array, "dtype") or find_framework({"array": array}) is not framework:
            try:
                framework.gradients(lambda a: a.sum() * 0.0, [array], [False])
            except Exception as error:
                raise ParameterError(
                    f"array {k} of {name} is a {type(array).__module__}.{type(array).__name__}; "
                    "convert it to the framework of x"
                ) from error


def same_shapes(name: str, models: Sequence[Any], arrays: Sequence[Any]) -> None:
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


def same_answer(known: list[tuple[int, ...]], leaves: Sequence[Any]) -> None:
    """Keep the shapes of the first answer of a lower level; raise where they change."""
    shapes = [tuple(getattr(leaf, "shape", ())) for leaf in leaves]
    if not known:
        known.extend(shapes)
    elif known != shapes:
        raise ShapeError(
            f"the lower level gave y of shape {shapes}; before it was {known}, and never changes"
        )


def checked_projections(project: Any, kind: str) -> dict[str, Callable[[Any], Any]]:
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
