"""One batch element of a smooth program: its data looked at, then solved."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError, ParameterError, ProblemError
from .._types import Floats
from .bounds import Bounds
from .evaluation import Evaluation
from .form import kinds_of
from .functions import Functions
from .model import Model
from .params import plain
from .place import DENSE
from .settings import SmoothSettings
from .solving import Answer, solve, solvers_for

__all__ = ["curvature_of", "point_of", "solve_element", "starts", "telling"]


def starts(given: Floats, shape: tuple[int, ...], size: int, last: object) -> list[Floats]:
    """(n,) for each of ``size`` elements: those given, or the last solutions where there are."""
    count = int(np.prod(shape))
    if given.shape == shape:
        points = [given.reshape(-1)] * size
    elif given.size == size * count and given.shape[given.ndim - len(shape) :] == shape:
        points = list(given.reshape(size, -1))
    else:
        raise ParameterError(
            f"start has shape {given.shape}; expected {shape}, or one for each of the {size} batch "
            "elements"
        )
    if isinstance(last, list) and len(last) == size:
        points = [p if point is None else point for point, p in zip(last, points, strict=True)]
    return points


def solve_element(
    model: Model, names: Sequence[str], bounds: Bounds, start: Floats, settings: SmoothSettings
) -> Answer:
    """The answer for one element; raises where its data or its functions at the start are wrong."""
    for name, leaf in zip(names, model.numbers, strict=True):
        if not np.isfinite(leaf).all():
            raise ProblemError(f"{name} holds what is not finite; expected finite numbers")
    crossing = np.flatnonzero(~(bounds.lower <= bounds.upper))
    if crossing.size:
        k = int(crossing[0])
        raise ProblemError(
            f"the bounds cross: lower[{k}] = {bounds.lower[k]:g} > upper[{k}] = {bounds.upper[k]:g}"
        )
    start = np.minimum(np.maximum(start, bounds.lower), bounds.upper)
    model.check(start)
    first = Evaluation(model, start)
    if not first.finite:
        bad = not np.isfinite(first.values[0])
        what = "objective" if bad else "constraints, or a gradient,"
        raise ParameterError(
            f"no finite value of the {what} at the start (a logarithm or root of a negative "
            "number?); give a start inside of the domain, and bounds that keep y there"
        )
    n = start.size
    runs = solvers_for(settings.solver, kinds(model.functions, bounds), n, settings.solver_options)
    how, typical = curvature_of(settings, n), settings.typical_of(n)
    return solve(first, bounds, runs, how, settings.polish, typical)


def kinds(functions: Functions, bounds: Bounds) -> frozenset[str]:
    """The kinds of constraint that an element has."""
    counts = (functions.count(name) for name in ("inequalities", "equalities"))
    return kinds_of(bounds.lower, bounds.upper, *counts)


def curvature_of(settings: SmoothSettings, n: int) -> str:
    """``"exact"``, ``"cg"`` or ``"dense"``, see `Curvature`."""
    if settings.curvature == "exact":
        return "exact"
    if settings.curvature == "cg" or (settings.curvature != "differences" and n > DENSE):
        return "cg"
    return "dense"


class telling:  # noqa: N801 - reads as what it does
    """A block whose errors tell of which batch element they are: those of ours in their words, a
    user's own in a note."""

    def __init__(self, i: int, single: bool) -> None:
        self.i, self.single = i, single

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None or self.single:
            return
        if isinstance(error, FFOAdaptError):
            named = copy(error)
            named.args = (f"batch element {self.i}: {error}",)
            raise named from error
        error.add_note(f"in batch element {self.i}")


def point_of(start: Any) -> Floats:
    """A start, whatever array or number it is.

    Raises
    ------
    ParameterError
        Where it is none of numbers, or they are not finite.
    """
    try:
        numbers = np.array(plain(start), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"start is no array of numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise ParameterError("start holds what is not finite; expected finite numbers")
    return numbers
