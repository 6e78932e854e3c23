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
        rows = program.rows(psd="upper")
        P, A, b = program.P_upper(), program.A_rows(rows), program.b[rows]
        solver = session.get("kept")
        if solver is not None and b.max(initial=0.0) < clarabel.get_infinity():
            solver.update(P=P.data, q=program.q, A=A.data, b=b)
        else:
            settings = clarabel.DefaultSettings()
            for name, value in options.items():
                setattr(settings, name, value)
            cones = [_CONES[cone.kind](cone) for cone in program.cones]
            solver = clarabel.DefaultSolver(P, program.q, A, b, cones, settings)
            # An update keeps the scaling, and with it the last digits, of earlier numbers.
            if session.warm_start is not None and solver.is_data_update_allowed():
                session["kept"] = solver
        result = solver.solve()
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = result.z, result.s
        info = {"status": str(result.status), "iterations": result.iterations}
        status = _STALLED.get(info["status"], Status.read(info["status"]))
        return Solution(np.array(result.x), z, s, status, info)
