"""What solvers return, checked: nothing is broadcast, cut, or called solved without a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _kernel
from .._program.points import Points, Solution, Status
from .._program.structure import Structure
from .._types import Floats

__all__ = [
    "ENDS",
    "as_returned",
    "check_kind",
    "failure",
    "put_dual",
    "void_failures",
]

ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends more than a solve; any other exception is a solver's own."""

_FLOAT64 = np.dtype(np.float64)


def check_kind(solution: Any) -> None:
    """Raise unless a solver has returned what it should."""
    if not isinstance(solution, Solution):
        raise TypeError(f"solve returned {type(solution).__name__}, expected Solution")
    info = solution.info
    plain = type(info) is dict  # to ask whether it is a Mapping takes ten times as long
    if not (isinstance(solution.status, Status) and (plain or isinstance(info, Mapping))):
        raise TypeError(
            f"solve returned a Solution with the status {solution.status!r} and the info "
            f"{solution.info!r}; expected an ffoadapt.Status and a dict"
        )


def as_returned(values: Any, shape: tuple[int, ...]) -> Any:
    """The values, if they are real numbers in this shape."""
    if type(values) is not np.ndarray or values.dtype is not _FLOAT64:
        if values is None:
            raise TypeError(f"None came in the place of an array of shape {shape}")
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"an array is of dtype {values.dtype}, expected float64")
    if values.shape != shape:
        raise ValueError(f"an array has shape {values.shape}, not {shape}")
    return values


def put_dual(into: Floats, dual: Any, form: str, structure: Structure) -> None:
    """The dual in the named view, of one program or a batch, as rows (..., m) of ``into``."""
    if form == "split":
        z_ineq, y_eq = dual
        eq, ineq = structure.split
        into[..., ineq] = as_returned(z_ineq, into[..., ineq].shape)
        into[..., eq] = as_returned(y_eq, into[..., eq].shape)
    else:
        into[...] = as_returned(dual, into.shape)


def failure(message: str, **more: Any) -> Solution:
    """What stands for a solve that returned nothing."""
    return Solution(status=Status.ERROR, info={"message": message, **more})


def void_failures(points: Points) -> None:
    """NaN for what was not solved, and an error for what is not finite although it says solved."""
    if _kernel.kernel.all_finite(points.x, points.z):
        return  # what was not solved is NaN already
    finite = np.isfinite(points.x).all(axis=-1) & np.isfinite(points.z).all(axis=-1)
    for i in np.flatnonzero(~finite).tolist():
        if points.status[i].solved:
            points.status[i] = Status.ERROR
            points.info[i] = {"message": "it returned a point that is not finite"}
    failed = [i for i, status in enumerate(points.status) if not status.solved]
    if failed:
        points.x[failed] = points.s[failed] = points.z[failed] = np.nan
