"""Batches of small programs through DAQP's C interface.

A program of ten variables takes DAQP 3 microseconds and its Python wrapper as long again. The
package's compiled module also exports the C function itself, `daqp_quadprog`; the structures below
are those of DAQP's types.h and api.h in the versions named here. Elsewhere, and where a platform
hides the function, batches are solved one by one.
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

import daqp
import numpy as np
from numpy.typing import NDArray

from ffoadapt import BoxForm, call_each

__all__ = ["VERSIONS", "quadprog", "solve"]

VERSIONS = ("0.11.0",)
"""The versions of DAQP whose structures these are."""

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
def quadprog() -> Callable[..., None] | None:
    """DAQP's function of a RESULT, a PROBLEM and SETTINGS; None where it is not to be had."""
    if metadata.version("daqp") not in VERSIONS or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        found: Callable[..., None] = ctypes.CDLL(daqp.__file__).daqp_quadprog
    except (OSError, AttributeError):
        return None
    return found


def settings(options: Mapping[str, Any]) -> NDArray[Any]:
    """(1,) SETTINGS: DAQP's own but for these options."""
    found = np.zeros(1, SETTINGS)
    for name, value in {**daqp.Model().settings, **options}.items():
        found[name] = value
    return found


def solve(
    programs: BoxForm, given: NDArray[Any]
) -> tuple[Floats, Floats, list[int], list[int]]:
    """x (B, n), multipliers (B, m), exit flags (B,) and iterations (B,)."""
    size, m, n = programs.A.shape
    P, A = _rows(programs.P), _rows(programs.A)
    vectors = map(_rows, (programs.q, programs.u, programs.l))
    x, multipliers = np.empty((size, n)), np.empty((size, m))
    problem, result = np.zeros(size, PROBLEM), np.zeros(size, RESULT)
    problem["n"], problem["m"] = n, m
    sense = np.zeros(m, np.int32)  # all are what their bounds say
    problem["sense"] = sense.ctypes.data
    data = zip(("H", "A", "f", "bupper", "blower"), (P, A, *vectors), strict=True)
    for name, array in data:
        problem[name] = _addresses(array)
    result["x"], result["lam"] = _addresses(x), _addresses(multipliers)
    call_each(quadprog(), result, problem, given)
    return x, multipliers, result["exitflag"].tolist(), result["iter"].tolist()


def _rows(array: Floats) -> Floats:
    """The array with every element in C order; what elements share stays shared."""
    if array.strides[0]:
        return np.ascontiguousarray(array)
    return np.broadcast_to(np.ascontiguousarray(array[0]), array.shape)


def _addresses(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Of each element of the first axis."""
    return array.strides[0] * np.arange(len(array), dtype=np.uint64) + array.ctypes.data
