"""Batches through DAQP's C interface.

A program of ten variables takes DAQP 3 microseconds and its Python wrapper as long again. The
package's compiled module also exports the C function itself, `daqp_quadprog`; the structures below
are those of DAQP's types.h and api.h in the versions named here. Elsewhere, and where a platform
hides the function, batches are solved one by one.
"""

import ctypes
import numbers
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

import daqp
import numpy as np
from numpy.typing import NDArray

from ffoadapt import BoxForm, Options, Session, Status
from ffoadapt.experimental import Solutions, call_each, elements

from ._form import least_distance

__all__ = ["STATUS", "VERSIONS", "function", "settings", "solve_batch"]

STATUS = {
    1: Status.OPTIMAL,
    -1: Status.PRIMAL_INFEASIBLE,
    -3: Status.DUAL_INFEASIBLE,
    -4: Status.ITERATION_LIMIT,
    -6: Status.PRIMAL_INFEASIBLE,  # the equalities contradict each other
    -7: Status.TIME_LIMIT,
}
"""What DAQP's exit flags stand for; any other is an error."""

VERSIONS = ("0.11.0",)
"""The versions of DAQP whose structures these are."""

PART = 1e8
"""n^2 (n + m) of all elements that are solved in one call, some 50 ms: a user who interrupts waits
as long, and memory is for so many."""

CALL = 2000
"""What a call takes of that in any case."""

PROBLEM = np.dtype(
    [(name, "i4") for name in ("n", "m", "ms")]
    + [(name, "u8") for name in ("H", "f", "A", "bupper", "blower", "sense", "break_points")]
    + [(name, "i4") for name in ("nh", "problem_type")],
    align=True,
)
SETTINGS = np.dtype(
    [(name, "f8") for name in ("primal_tol", "dual_tol", "zero_tol", "pivot_tol", "progress_tol")]
    + [(name, "i4") for name in ("cycle_tol", "iter_limit")]
    + [(name, "f8") for name in ("fval_bound", "eps_prox", "eta_prox", "rho_soft")]
    + [(name, "f8") for name in ("rel_subopt", "abs_subopt", "sing_tol", "refactor_tol")]
    + [(name, "f8") for name in ("time_limit", "w_soft")]
    + [(name, "i4") for name in ("eq_reduction", "presolve")],
    align=True,
)
RESULT = np.dtype(
    [(name, "u8") for name in ("x", "lam")]
    + [(name, "f8") for name in ("fval", "soft_slack")]
    + [(name, "i4") for name in ("exitflag", "iter", "nodes")]
    + [(name, "f8") for name in ("solve_time", "setup_time")],
    align=True,
)

Floats = NDArray[np.float64]


@cache
def function() -> Callable[..., None] | None:
    """DAQP's function of a RESULT, a PROBLEM and SETTINGS; None where it is not to be had."""
    try:
        if metadata.version("daqp") not in VERSIONS or ctypes.sizeof(ctypes.c_void_p) != 8:
            return None
        function: Callable[..., None] = ctypes.CDLL(daqp.__file__).daqp_quadprog
    except (OSError, AttributeError, metadata.PackageNotFoundError):
        return None
    return function


def settings(options: Mapping[str, Any]) -> NDArray[Any]:
    """(1,) SETTINGS: DAQP's own but for these options."""
    settings = np.zeros(1, SETTINGS)
    for name, value in {**daqp.Model().settings, **options}.items():
        if not isinstance(value, numbers.Real):  # NumPy would read words, and None as NaN
            raise TypeError(f"{name} must be a real number, not {type(value).__name__}")
        settings[name] = value
    return settings


def solve_batch(programs: BoxForm, options: Options, session: Session) -> Solutions | None:
    """See `Solver.solve_batch`."""
    if not programs.A.size or function() is None:
        return None
    if "settings" not in session:
        session["settings"] = settings(options)
    size, m, n = programs.A.shape
    step = 1 + int(PART / (n * n * (n + m) + CALL))
    parts = [
        _solve(elements(programs, slice(k, k + step)), session["settings"])
        for k in range(0, size, step)
    ]
    x, dual, results = (
        parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    )
    flags, iterations, error = results["exitflag"].tolist(), results["iter"].tolist(), Status.ERROR
    status = [STATUS.get(flag, error) for flag in flags]
    taken = zip(flags, iterations, strict=True)
    return Solutions(x, dual, status, [{"status": f, "iterations": k} for f, k in taken])


def _solve(programs: BoxForm, given: NDArray[Any]) -> tuple[Floats, Floats, NDArray[Any]]:
    """x (B, n), the multipliers (B, m), and RESULTs (B,)."""
    size, m, n = programs.A.shape
    problem, result = np.zeros(size, PROBLEM), np.zeros(size, RESULT)
    x, dual = np.empty((size, n)), np.empty((size, m))
    sense = np.zeros(m, np.int32)  # all rows are what their bounds say
    data = [_rows(v) for v in (programs.P, programs.q, programs.A, programs.u, programs.l)]
    form = least_distance(programs)
    problem["n"], problem["m"], problem["sense"] = n, m, sense.ctypes.data
    for name, array in zip(("H", "f", "A", "bupper", "blower"), data, strict=True):
        problem[name] = _addresses(array)
    if form:
        on, gone = form.equalities >= 0, form.equalities[form.equalities >= 0]
        problem["n"][on] -= gone
        problem["m"][on] -= gone
        problem["H"][on] = problem["f"][on] = 0  # NULL: the identity, and nothing
        for name, array in (("A", form.rows), ("bupper", form.upper), ("blower", form.lower)):
            problem[name][on] = _addresses(array)[on]
    result["x"], result["lam"] = _addresses(x), _addresses(dual)
    call_each(function(), result, problem, given)
    if form:
        x, dual = form.restore(x, dual)
    return x, dual, result


def _rows(array: Floats) -> Floats:
    """The array with every element in C order; what elements share stays shared."""
    if array.strides[0]:
        return np.ascontiguousarray(array, dtype=np.float64)
    return np.broadcast_to(np.ascontiguousarray(array[0], dtype=np.float64), array.shape)


def _addresses(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Of each element of the first axis."""
    return array.strides[0] * np.arange(len(array), dtype=np.uint64) + array.ctypes.data
