"""Moreau: interior point, all six cones. Its PSD blocks stack the upper triangle by columns.

The symbolic work is kept in the session, and the numbers that come out are the same bits. The
active-set mode is left out: where P is singular it says solved, or infeasible, and neither is true.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import moreau
import numpy as np

from ffoadapt import (
    ConeForm,
    NonnegativeCone,
    SecondOrderCone,
    Session,
    Solution,
    Solver,
    Status,
)

from . import CONES

_ORDER = ("zero", "nonnegative", "second_order", "psd", "exponential", "power")
# fmt: off
_STATUS = {
    "Solved": Status.OPTIMAL, "AlmostSolved": Status.OPTIMAL_INACCURATE,
    "PrimalInfeasible": Status.PRIMAL_INFEASIBLE, "DualInfeasible": Status.DUAL_INFEASIBLE,
    "AlmostPrimalInfeasible": Status.PRIMAL_INFEASIBLE,
    "AlmostDualInfeasible": Status.DUAL_INFEASIBLE,
    "MaxIterations": Status.ITERATION_LIMIT, "MaxTime": Status.TIME_LIMIT,
}
# fmt: on
RAY = SecondOrderCone(1)
_GENERAL = ("max_iter", "time_limit", "verbose")


class MoreauSolver(Solver):
    """See https://moreau.so; options are ``max_iter``, ... and the fields of its `IPMSettings`."""

    form = "cone"
    cones = CONES
    common_options: ClassVar = {
        "tolerance": ("tol_gap_abs", "tol_gap_rel", "tol_feas"),
        "max_iterations": "max_iter",
        "time_limit": "time_limit",
        "verbose": "verbose",
    }
    defaults: ClassVar = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [*_GENERAL, *moreau.IPMSettings.model_fields]

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        # It has no cones without rows, and a ray is a nonnegative number to it.
        given = [NonnegativeCone(1) if c == RAY else c for c in program.cones if c.dim]
        cones: Any
        cones, rows = replace(program, cones=tuple(given)).grouped(_ORDER, psd="upper")
        P, A = program.P.tocsr(), program.A.tocsr()[rows]
        if (solver := session.get("solver")) is None:
            zero, nonnegative, second_order, psd, exponential, power = (
                [cone for cone in cones if cone.kind == kind] for kind in _ORDER
            )
            sizes = moreau.Cones(
                num_zero_cones=sum(cone.dim for cone in zero),
                num_nonneg_cones=sum(cone.dim for cone in nonnegative),
                so_cone_dims=[cone.dim for cone in second_order],
                psd_dims=[cone.n for cone in psd],
                num_exp_cones=len(exponential),
                power_alphas=[cone.alpha for cone in power],
            )
            settings = moreau.Settings(solver="ipm", device="cpu")
            for name, value in options.items():
                setattr(settings if name in _GENERAL else settings.ipm_settings, name, value)
            session["solver"] = solver = moreau.CompiledSolver(
                *(*A.shape[::-1], P.indptr, P.indices, A.indptr, A.indices), sizes, settings
            )
        solver.setup(P.data[None], A.data[None])
        found = solver.solve(program.q[None], program.b[rows][None])
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = found.z[0], found.s[0]
        info = {"status": solver.info.status[0].name, "iterations": solver.info.iterations[0]}
        return Solution(found.x[0], z, s, _STATUS.get(info["status"], Status.ERROR), info)
