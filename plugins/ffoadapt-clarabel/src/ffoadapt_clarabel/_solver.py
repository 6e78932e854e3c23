"""Clarabel: interior point, all six cones. Its PSD blocks stack the upper triangle by columns."""

from collections.abc import Mapping
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from ffoadapt import ConeForm, PSDCone, Session, Solution, Solver, Status

from . import CONES

_CONES = {
    "zero": lambda cone: clarabel.ZeroConeT(cone.dim),
    "nonnegative": lambda cone: clarabel.NonnegativeConeT(cone.dim),
    "second_order": lambda cone: clarabel.SecondOrderConeT(cone.dim),
    "psd": lambda cone: clarabel.PSDTriangleConeT(cone.n),
    "exponential": lambda cone: clarabel.ExponentialConeT(),
    "power": lambda cone: clarabel.PowerConeT(cone.alpha),
}
_STATUS = {
    "Solved": Status.OPTIMAL,
    "AlmostSolved": Status.OPTIMAL_INACCURATE,
    "InsufficientProgress": Status.OPTIMAL_INACCURATE,
    "PrimalInfeasible": Status.PRIMAL_INFEASIBLE,
    "AlmostPrimalInfeasible": Status.PRIMAL_INFEASIBLE,
    "DualInfeasible": Status.DUAL_INFEASIBLE,
    "AlmostDualInfeasible": Status.DUAL_INFEASIBLE,
    "MaxIterations": Status.ITERATION_LIMIT,
    "MaxTime": Status.TIME_LIMIT,
}
_TOLERANCES = ("tol_feas", "tol_gap_abs", "tol_gap_rel")


class ClarabelSolver(Solver):
    """See https://clarabel.org; options are the fields of ``clarabel.DefaultSettings``."""

    form = "cone"
    cones = CONES
    common_options = {
        "tolerance": _TOLERANCES,
        "max_iterations": "max_iter",
        "time_limit": "time_limit",
        "verbose": "verbose",
    }
    defaults = {"verbose": False, "max_threads": 1}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(clarabel.DefaultSettings()) if not name.startswith("_")]

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        settings = clarabel.DefaultSettings()
        for name, value in options.items():
            setattr(settings, name, value)
        order = _order(program)
        A, b = (program.A, program.b) if order is None else (program.A[order], program.b[order])
        cones = [_CONES[cone.kind](cone) for cone in program.cones]
        P = sparse.triu(program.P, format="csc")
        found = clarabel.DefaultSolver(
            P, program.q, sparse.csc_matrix(A), b, cones, settings
        ).solve()
        z, s = np.array(found.z), np.array(found.s)
        if order is not None:
            z[order], s[order] = z.copy(), s.copy()
        status = _STATUS.get(str(found.status), Status.ERROR)
        info = {"status": str(found.status), "iterations": found.iterations}
        return Solution(np.array(found.x), z, s, status, info)


def _order(program: ConeForm) -> Any:
    """The rows of the program in Clarabel's order: None where no PSD block needs a change."""
    parts, start = [], 0
    for cone in program.cones:
        rows = np.arange(start, start + cone.dim)
        if isinstance(cone, PSDCone):
            lower = np.zeros((cone.n, cone.n), dtype=int)
            lower.T[np.triu_indices(cone.n)] = rows  # ours: lower triangle by columns
            rows = lower[np.tril_indices(cone.n)]  # upper by columns is lower by rows
        parts.append(rows)
        start += cone.dim
    changed = any(isinstance(cone, PSDCone) and cone.n > 2 for cone in program.cones)
    return np.concatenate(parts) if changed else None
