"""Moreau: interior point, all six cones. Its PSD blocks stack the upper triangle by columns.

The symbolic work is kept in the session, and the numbers that come out are the same bits. The
active-set mode is left out: where P is singular it says solved, or infeasible, and neither is true.
"""

import moreau
import numpy as np

from ffoadapt import ConeForm, Options, Session, Solution, Solver, Status

from . import CONES

_SIZES = """
    num_zero_cones num_nonneg_cones so_cone_dims psd_dims num_exp_cones power_alphas
""".split()
_GENERAL = ("max_iter", "time_limit", "verbose")
_TOLERANCES = ("tol_gap_abs", "tol_gap_rel", "tol_feas")


class MoreauSolver(Solver):
    """See https://moreau.so; options are ``max_iter``, ... and the fields of its `IPMSettings`."""

    form = "cone"
    cones = CONES
    common_options = {"tolerance": _TOLERANCES, "max_iterations": "max_iter"}
    defaults = dict.fromkeys(_TOLERANCES, 1e-10)
    releases_gil = True

    def known_options(self) -> list[str]:
        return [*_GENERAL, *moreau.IPMSettings.model_fields]

    def solve(self, program: ConeForm, options: Options, session: Session) -> Solution:
        counts = program.sizes()
        rows = program.rows(counts, psd="upper")
        P, A = program.P.tocsr(), program.A.tocsr()[rows]
        if (solver := session.get("solver")) is None:
            sizes = moreau.Cones(**dict(zip(_SIZES, counts.values(), strict=True)))
            settings = moreau.Settings(solver="ipm", device="cpu")
            for name, value in options.items():
                setattr(settings if name in _GENERAL else settings.ipm_settings, name, value)
            session["solver"] = solver = moreau.CompiledSolver(
                *(*A.shape[::-1], P.indptr, P.indices, A.indptr, A.indices), sizes, settings
            )
        solver.setup(P.data[None], A.data[None])
        result = solver.solve(program.q[None], program.b[rows][None])
        z, s = np.empty((2, program.b.size))
        z[rows], s[rows] = result.z[0], result.s[0]
        info = {"status": solver.info.status[0].name, "iterations": solver.info.iterations[0]}
        return Solution(result.x[0], z, s, Status.read(info["status"]), info)
