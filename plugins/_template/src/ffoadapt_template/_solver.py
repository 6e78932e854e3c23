"""The adapter: from ffoadapt's view of a program to the solver's call and back."""

from __future__ import annotations

import numpy as np

from ffoadapt import Options, Session, Solution, Solver, SplitForm, Status

from ._interior_point import interior_point

__all__ = ["TemplateSolver"]


class TemplateSolver(Solver):
    """Options: ``tol``, relative accuracy; ``max_iter``."""

    form = "split"
    matrices = ("dense",)
    common_options = {"tolerance": "tol", "max_iterations": "max_iter"}
    # A gradient is as accurate as the point it is taken at, so the default is tight.
    defaults = {"tol": 1e-9, "max_iter": 100}

    def known_options(self) -> list[str]:
        return ["tol", "max_iter"]

    def solve(self, program: SplitForm, options: Options, session: Session) -> Solution:
        p = program
        bounded = np.isfinite(p.h)  # the solver takes no infinite bound; such a row has z = 0
        result = interior_point(p.P, p.q, p.G[bounded], p.h[bounded], p.A, p.b, **options)
        z = np.zeros(p.h.size)
        z[bounded] = result.z
        info = {"status": result.status, "iterations": result.iterations}
        return Solution(result.x, (z, result.y), None, Status.read(result.status), info)
