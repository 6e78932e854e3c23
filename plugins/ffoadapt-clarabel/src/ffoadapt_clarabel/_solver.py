"""Clarabel: interior point, all six cones. Its PSD blocks stack the upper triangle by columns."""

import clarabel
import numpy as np

from ffoadapt import ConeForm, Options, Session, Solution, Solver, Status

from . import CONES

_CONES = {
    "zero": lambda c: clarabel.ZeroConeT(c.dim),
    "nonnegative": lambda c: clarabel.NonnegativeConeT(c.dim),
    "second_order": lambda c: clarabel.SecondOrderConeT(c.dim),
    "psd": lambda c: clarabel.PSDTriangleConeT(c.n),
    "exponential": lambda c: clarabel.ExponentialConeT(),
    "power": lambda c: clarabel.PowerConeT(c.alpha),
}
_TOLERANCES = ("tol_feas", "tol_gap_abs", "tol_gap_rel")
_STALLED = {"InsufficientProgress": Status.OPTIMAL_INACCURATE}  # often at a point that polishes


class ClarabelSolver(Solver):
    """See https://clarabel.org; options are the fields of ``clarabel.DefaultSettings``."""

    form = "cone"
    cones = CONES
    common_options = {"tolerance": _TOLERANCES, "max_iterations": "max_iter"}
    defaults = {"verbose": False, "max_threads": 1}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [name for name in dir(clarabel.DefaultSettings()) if not name.startswith("_")]

    def solve(self, program: ConeForm, options: Options, session: Session) -> Solution:
        settings = clarabel.DefaultSettings()
        for name, value in options.items():
            setattr(settings, name, value)
        rows = program.rows(psd="upper")
        cones = [_CONES[cone.kind](cone) for cone in program.cones]
        A, b = program.A_rows(rows), program.b[rows]
        data = (program.P_upper(), program.q, A, b, cones, settings)
        found = clarabel.DefaultSolver(*data).solve()
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = found.z, found.s
        info = {"status": str(found.status), "iterations": found.iterations}
        status = _STALLED.get(info["status"], Status.read(info["status"]))
        return Solution(np.array(found.x), z, s, status, info)
