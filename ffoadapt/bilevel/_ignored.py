"""What is no bilevel problem: an upper function that ignores y, a lower one that ignores x."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._exceptions import ParameterError
from ._arrays import constant, finite, zeros

if TYPE_CHECKING:
    from ._problem import BilevelProblem

__all__ = ["near", "refuse_ignored"]

Arrays = list[Any]

_IGNORES_Y = (
    "the upper function ignores y: its gradient in y is zero at the start and next to it, so that "
    "the lower level plays no part. Use y in it, or minimize it over x alone"
)
_IGNORES_X = (
    "the lower function ignores x: its gradient in x is zero at the start and next to it, so that "
    "y does not depend on x. Use x in it, without detaching it"
)
_NO_Y_OF_X = (
    "the lower function ignores x: what it gives does not depend on x, or is detached from it. "
    "Use x in it, and the framework's own operations"
)


def refuse_ignored(problem: BilevelProblem, x: Arrays, y: Arrays, batch: Any) -> None:
    """See `BilevelProblem.check`."""
    for name, arrays in (("x", x), ("y", y)):
        for k, array in enumerate(arrays):
            if not finite([array]):
                raise ParameterError(
                    f"array {k} of {name} is not finite at the start; NaN or infinity came in"
                )
    calls = problem.gradient_calls
    try:
        if problem.kind == "function":
            _check_function(problem, x, y, batch)
        else:
            _check_map(problem, x, batch)
    finally:
        problem.gradient_calls = calls


def _check_function(problem: BilevelProblem, x: Arrays, y: Arrays, batch: Any) -> None:
    if all(
        not _any(problem.upper(*at, batch, "y")[2]) for at in ((x, y), (near(x, 1.0), near(y, 2.0)))
    ):
        raise ParameterError(_IGNORES_Y)
    if all(
        not _any(problem.lower(*at, batch, "x")[1]) for at in ((x, y), (near(x, 1.0), near(y, 2.0)))
    ):
        raise ParameterError(_IGNORES_X)


def _check_map(problem: BilevelProblem, x: Arrays, batch: Any) -> None:
    y, build = problem.framework.flatten(problem.answer(x, batch))
    y = [constant(a) for a in y]
    rest = problem.batches.parts("upper", batch)

    def upper(*arrays: Any) -> Any:
        known = problem.batches.built("upper", list(arrays[len(y) :]))
        return problem.upper_function(problem.tree_x(x), build(arrays[: len(y)]), *known)

    if all(not _any(problem.gradients(upper, at, rest)[1]) for at in (y, near(y, 2.0))):
        raise ParameterError(_IGNORES_Y)
    if _constant(problem, x, batch):
        raise ParameterError(_NO_Y_OF_X)


def _constant(problem: BilevelProblem, x: Arrays, batch: Any) -> bool:
    """Whether the framework says that y has nothing of x, or y is the same wherever x is.

    A gradient of zero says neither: y of a linear program moves in jumps. A program need not be
    differentiable: its duals may be all that is used of it.
    """
    if problem.kind == "map":
        moves = _gradient_moves(problem, x, batch)
        if moves is not None:
            return not moves
    first = problem.framework.flatten(problem.answer(x, batch))[0]
    for other in (near(x, 1.0), [-a for a in near(x, 2.0)], [a - 3.0 for a in near(x, 3.0)]):
        with contextlib.suppress(Exception):  # where it has no answer nothing is known
            again = problem.framework.flatten(problem.answer(other, batch))[0]
            if _any([a - b for a, b in zip(again, first, strict=True)]):
                return False
    return True


def _gradient_moves(problem: BilevelProblem, x: Arrays, batch: Any) -> bool | None:
    """Whether y moves with x, where its gradient says so; None where it is zero."""
    rest = problem.batches.parts("lower", batch)

    def total(*arrays: Any) -> Any:
        known = problem.batches.built("lower", list(arrays[len(x) :]))
        tree = problem.lower_function(problem.tree_x(arrays[: len(x)]), *known)
        return sum(a.sum() for a in problem.framework.flatten(tree)[0])

    needed = [True] * len(x) + [False] * len(rest)
    _, gradients = problem.framework.gradients(total, [*x, *rest], needed)
    slopes = gradients[: len(x)]
    if all(g is None for g in slopes):
        return False
    return True if _any([g for g in slopes if g is not None]) else None


def _any(arrays: Sequence[Any]) -> bool:
    """Whether an entry is not zero (NaN counts)."""
    return any(float(abs(a).sum()) != 0.0 for a in arrays)


def near(arrays: Sequence[Any], phase: float) -> Arrays:
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
