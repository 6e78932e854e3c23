"""What a value must be before anything is computed with it, and the words when it is not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .._exceptions import FFOAdaptError, ProblemError
from .._oracle.batched import definite
from .._plugins.modeler import ParametricProgram
from .._program.batch import FAINT, ProgramBatch
from .._types import Floats
from .convexity import ASYMMETRY, check_convex

__all__ = [
    "Refused",
    "check_finite",
    "check_sizes",
    "checked_program",
    "finite_values",
    "too_large",
]


RANGE = 1e100
"""The largest numbers of P, q, constraint matrices and right-hand sides are within this factor of
1."""

WHERE = {
    "P": "P",
    "q": "the linear objective q",
    "A": "the constraint matrix",
    "b": "the right-hand side of the constraints",
}


@dataclass(eq=False, slots=True)
class Refused:
    """The elements of a batch that state no program, each with the error that says why.

    Without ``contain`` the first error is raised. A contained element is not solved; where its
    numbers are not finite others take their place, so that nothing is computed with them.
    """

    contain: bool
    errors: dict[int, FFOAdaptError] = field(default_factory=dict)

    def add(self, elements: Iterable[int], error: FFOAdaptError) -> None:
        """Those elements are refused because of this error."""
        if not self.contain:
            raise error
        for i in elements:
            self.errors.setdefault(i, error)


def check_finite(name: str, value: Floats, core: int, infinite: bool) -> None:
    """Raise unless all entries are finite; with ``infinite``, infinities pass and NaN does not."""
    bad = np.isnan(value) if infinite else ~np.isfinite(value)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        element = ""
        if value.ndim > core:
            element = f" of batch element {', '.join(map(str, where[: value.ndim - core]))}"
        raise ProblemError(
            f"{name} holds {value[where]} at index {where[value.ndim - core :]}{element}; "
            f"expected {'numbers or infinite bounds' if infinite else 'finite numbers'}. "
            "Check the values that go into the layer (a diverged model gives NaN)"
        )


def finite_values(
    names: Sequence[str], values: Sequence[Floats], unbounded: Collection[str], refused: Refused
) -> list[Floats]:
    """Values (B or 1, ...) of which those of refused elements are those of another element, or 0.

    What is not finite refuses its element; a value that all elements share refuses all.
    """
    leads = [len(value) for value in values]
    size = max(leads, default=1) if 0 not in leads else 0
    for name, value in zip(names, values, strict=True):
        bad = np.isnan(value) if name in unbounded else ~np.isfinite(value)
        for i in np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim)))).tolist():
            what = "holds what is no number" if name in unbounded else "is not finite"
            error = ProblemError(f"{name} {what}")
            refused.add([i] if len(value) > 1 else range(size), error)
    return _replaced(values, refused, size)


def _replaced(values: Sequence[Floats], refused: Refused, size: int) -> list[Floats]:
    good = next((i for i in range(size) if i not in refused.errors), None)
    if good is None:
        return [np.zeros_like(value) for value in values]
    bad = list(refused.errors)
    replaced = []
    for value in values:
        if bad and len(value) > 1:
            value = value.copy()
            value[bad] = value[good]
        replaced.append(value)
    return replaced


def checked_program(
    model: ParametricProgram,
    values: Sequence[Floats],
    size: int,
    precisions: Sequence[float] | None = None,
    refused: Refused | None = None,
    attributes: bool = True,
) -> ProgramBatch:
    """The programs for these values; those that state no convex one are ``refused``.

    ``precisions`` are those of the types in which the values came, see `ProgramBatch`; None is that
    of float64. Without ``attributes``, values are not held to what parameters declare.
    """
    refused = refused or Refused(contain=False)
    if attributes or not model.declares:
        try:
            entering = model.check(values, precisions)
        except FFOAdaptError as error:
            elements = getattr(error, "elements", None)
            refused.add(range(size) if elements is None else elements, error)
            values = _replaced(values, refused, size)
            # What is left is in order, but need not be what enters.
            entering = model.check(values, precisions) if len(refused.errors) < size else None
        values = values if entering is None else entering
    batch = model.program(values, size)
    if precisions:
        batch.precision = max(precisions)
    if not model.convex:
        if batch.structure.P is None and batch.P.size:
            batch.P_factor = definite(batch.P, ASYMMETRY)
        if batch.P_factor is None:
            check_convex(batch, refused.add, refused.errors)
    return batch


def too_large(value: Floats) -> bool:
    """Whether a finite number is beyond `RANGE`."""
    size = np.abs(value)
    return bool(((size > RANGE) & (size < np.inf)).any())


def check_sizes(batch: ProgramBatch, refused: Refused) -> None:
    """Refuse the elements whose numbers are so large or so small that products of a few of them
    leave what a float64 holds; single entries may be as small as they like."""
    least, most = 1.0 / RANGE, RANGE
    for name, what in WHERE.items():
        values: Floats = np.abs(getattr(batch, name))
        counts = np.isfinite(values)
        if name == "b":  # a bound may be as far away as it likes
            counts &= ~(batch.structure.nonnegative & (batch.b > RANGE))
        values = np.where(counts, values, 0.0).reshape(len(values), math.prod(values.shape[1:]))
        largest = np.maximum.reduce(values, axis=-1, initial=0.0)
        odd = (largest != 0.0) & ~((least <= largest) & (largest <= most))
        for i in range(batch.size) if odd.any() else ():
            k = i if len(largest) > 1 else 0
            size = float(largest[k])
            if odd[k]:
                where = f" of batch element {i}" if batch.size > 1 else ""
                error = ProblemError(
                    f"the largest number in {what}{where} is {size:.3g}; expected one between "
                    f"{least:.0e} and {most:.0e}. State the problem in other units (and a missing "
                    "bound as inf)"
                )
                refused.add([i], error)
    if batch.faint:
        _check_faint(batch, refused)


def _check_faint(batch: ProgramBatch, refused: Refused) -> None:
    """Refuse the elements in which a row asks for something of numbers that are as good as 0."""
    dense = batch.as_dense() if not batch.structure.dense else batch
    size = np.abs(dense.A).max(axis=-1, initial=0.0)
    asks = np.where(batch.structure.equality, batch.b != 0.0, batch.b < 0.0)
    faint = (size > 0.0) & (size < FAINT) & asks
    for i in range(batch.size):
        row = faint[i if len(faint) > 1 else 0]
        if row.any():
            where = f" of batch element {i}" if batch.size > 1 else ""
            error = ProblemError(
                f"row {int(np.flatnonzero(row)[0])} of the constraint matrix{where} has no number "
                f"above {FAINT:.0e}, and its right-hand side is not 0. State it in other units"
            )
            refused.add([i], error)
