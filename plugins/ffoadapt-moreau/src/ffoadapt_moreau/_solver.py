"""Moreau: interior point, all six cones. Its PSD blocks stack the upper triangle by columns.

The symbolic work is kept in the session, and the numbers that come out are the same bits. The
active-set mode is left out: where P is singular it says solved, or infeasible, and neither is true.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import moreau
import numpy as np

from ffoadapt import ConeForm, Session, Solution, Solver, Status

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
        blocks = sorted(_blocks(program.cones), key=lambda block: _ORDER.index(block[0]))
        order = np.concatenate([np.arange(0), *(rows for *_, rows in blocks)])
        P, A = program.P.tocsr(), program.A.tocsr()[order]
        if (solver := session.get("solver")) is None:
            by_kind = {k: [cone for kind, cone, _ in blocks if kind == k] for k in _ORDER}
            cones = moreau.Cones(
                num_zero_cones=sum(cone.dim for cone in by_kind["zero"]),
                num_nonneg_cones=sum(cone.dim for cone in by_kind["nonnegative"]),
                so_cone_dims=[cone.dim for cone in by_kind["second_order"]],
                psd_dims=[cone.n for cone in by_kind["psd"]],
                num_exp_cones=len(by_kind["exponential"]),
                power_alphas=[cone.alpha for cone in by_kind["power"]],
            )
            settings = moreau.Settings(solver="ipm", device="cpu")
            for name, value in options.items():
                setattr(settings if name in _GENERAL else settings.ipm_settings, name, value)
            session["solver"] = solver = moreau.CompiledSolver(
                *(*A.shape[::-1], P.indptr, P.indices, A.indptr, A.indices), cones, settings
            )
        solver.setup(P.data[None], A.data[None])
        found = solver.solve(program.q[None], program.b[order][None])
        z, s = np.empty((2, order.size))
        z[order], s[order] = found.z[0], found.s[0]
        info = {"status": solver.info.status[0].name, "iterations": solver.info.iterations[0]}
        return Solution(found.x[0], z, s, _STATUS.get(info["status"], Status.ERROR), info)


def _blocks(cones: Any) -> Iterator[tuple[str, Any, Any]]:
    """The kind, the cone and its rows in Moreau's order, for every cone that has rows."""
    start = 0
    for cone in cones:
        rows: Any = np.arange(start, start := start + cone.dim)
        if cone.kind == "psd":
            square = np.zeros((cone.n, cone.n), dtype=int)
            square.T[np.triu_indices(cone.n)] = rows  # ours: the lower triangle by columns
            rows = square[np.tril_indices(cone.n)]  # the upper by columns is the lower by rows
        if rows.size:
            ray = cone.kind == "second_order" and rows.size == 1
            yield "nonnegative" if ray else cone.kind, cone, rows
