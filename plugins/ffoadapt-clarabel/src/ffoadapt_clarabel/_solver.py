"""Clarabel: interior point, all six cones. Its PSD blocks stack the upper triangle by columns."""

from collections.abc import Mapping
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from ffoadapt import ConeForm, Session, Solution, Solver, Status

from . import CONES

# fmt: off
_CONES = {
    "zero": lambda c: clarabel.ZeroConeT(c.dim), "power": lambda c: clarabel.PowerConeT(c.alpha),
    "nonnegative": lambda c: clarabel.NonnegativeConeT(c.dim),
    "second_order": lambda c: clarabel.SecondOrderConeT(c.dim),
    "psd": lambda c: clarabel.PSDTriangleConeT(c.n),
    "exponential": lambda c: clarabel.ExponentialConeT()}
_STATUS = {
    "Solved": Status.OPTIMAL, "AlmostSolved": Status.OPTIMAL_INACCURATE,
    "PrimalInfeasible": Status.PRIMAL_INFEASIBLE, "DualInfeasible": Status.DUAL_INFEASIBLE,
    "AlmostPrimalInfeasible": Status.PRIMAL_INFEASIBLE, "MaxTime": Status.TIME_LIMIT,
    "AlmostDualInfeasible": Status.DUAL_INFEASIBLE, "MaxIterations": Status.ITERATION_LIMIT,
    "InsufficientProgress": Status.OPTIMAL_INACCURATE}
# fmt: on


class ClarabelSolver(Solver):
    """See https://clarabel.org; options are the fields of ``clarabel.DefaultSettings``."""

    form = "cone"
    cones = CONES
    # fmt: off
    common_options = {
        "tolerance": ("tol_feas", "tol_gap_abs", "tol_gap_rel"), "max_iterations": "max_iter",
        "time_limit": "time_limit", "verbose": "verbose"}
    # fmt: on
    defaults = {"verbose": False, "max_threads": 1}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(clarabel.DefaultSettings()) if not name.startswith("_")]

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        settings = clarabel.DefaultSettings()
        for name, value in options.items():
            setattr(settings, name, value)
        kept, rows = program.grouped(psd="upper")
        A, P = sparse.csc_matrix(program.A[rows]), sparse.triu(program.P, format="csc")
        cones = [_CONES[cone.kind](cone) for cone in kept]
        data = (P, program.q, A, program.b[rows], cones, settings)
        found = clarabel.DefaultSolver(*data).solve()
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = found.z, found.s
        info = {"status": str(found.status), "iterations": found.iterations}
        return Solution(np.array(found.x), z, s, _STATUS.get(info["status"], Status.ERROR), info)
