"""SCS: operator splitting, all six cones, its PSD blocks stacked as ours. Rows sorted by cone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scs
from ffoadapt import ConeForm, Session, Solution, Solver, Status
from scipy import sparse

from . import CONES

_ORDER = ("zero", "nonnegative", "second_order", "psd", "exponential", "power")
_STATUS = {
    1: Status.OPTIMAL,
    2: Status.OPTIMAL_INACCURATE,
    -1: Status.DUAL_INFEASIBLE,
    -2: Status.PRIMAL_INFEASIBLE,
    -6: Status.DUAL_INFEASIBLE,
    -7: Status.PRIMAL_INFEASIBLE,
}
_SETTINGS = """normalize scale adaptive_scale rho_x max_iters eps_abs eps_rel eps_infeas alpha
    time_limit_secs verbose acceleration_lookback acceleration_interval""".split()


class SCSSolver(Solver):
    """See https://www.cvxgrp.org/scs; options are SCS's settings."""

    form = "cone"
    cones = CONES
    common_options = {
        "tolerance": ("eps_abs", "eps_rel"),
        "max_iterations": "max_iters",
        "time_limit": "time_limit_secs",
        "verbose": "verbose",
    }
    defaults = {"verbose": False, "eps_abs": 1e-6, "eps_rel": 1e-6, "max_iters": 100_000}
    releases_gil = True

    def known_options(self) -> list[str]:
        return _SETTINGS

    def solve(self, program: ConeForm, options: Mapping[str, Any], session: Session) -> Solution:
        blocks = sorted(_blocks(program), key=lambda block: _ORDER.index(block[0].kind))
        order = np.concatenate([rows for _, rows in blocks]) if blocks else np.arange(0)
        sizes: dict[str, Any] = {"z": 0, "l": 0, "q": [], "s": [], "ep": 0, "p": []}
        for cone, _ in blocks:
            if cone.kind in ("zero", "nonnegative", "exponential"):
                key = {"zero": "z", "nonnegative": "l", "exponential": "ep"}[cone.kind]
                sizes[key] += 1 if key == "ep" else cone.dim
            else:
                key = {"second_order": "q", "psd": "s", "power": "p"}[cone.kind]
                sizes[key].append(getattr(cone, {"q": "dim", "s": "n", "p": "alpha"}[key]))
        A, b = sparse.csc_matrix(program.A[order]), program.b[order]
        if not order.size:  # SCS wants a row: 0'x <= 1
            A, b, sizes["l"] = sparse.csc_matrix((1, program.q.size)), np.ones(1), 1
        data = {"P": sparse.triu(program.P, format="csc"), "A": A, "b": b, "c": program.q}
        found = scs.SCS(data, sizes, **options).solve()
        z, s = np.empty((2, order.size))
        z[order], s[order] = found["y"][: order.size], found["s"][: order.size]
        code, info = found["info"]["status_val"], found["info"]
        status = _STATUS.get(code, Status.ERROR)
        if code == 2:  # inaccurate: it ran into a limit
            late = info["iter"] < options["max_iters"]
            status = Status.TIME_LIMIT if late else Status.ITERATION_LIMIT
        return Solution(
            found["x"], z, s, status, {"status": info["status"], "iterations": info["iter"]}
        )


def _blocks(program: ConeForm) -> Any:
    start = 0
    for cone in program.cones:
        yield cone, np.arange(start, start + cone.dim)
        start += cone.dim
