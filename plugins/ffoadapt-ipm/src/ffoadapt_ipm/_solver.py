"""The method as a solver: one program, a batch at once, or inside of a compiled program."""

from __future__ import annotations

from typing import Any

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status
from ffoadapt.experimental import Solutions

from . import _method
from ._algebra import NumpyAlgebra, algebra_of
from ._claims import claim


class InteriorPointSolver(Solver):
    """Options: ``tolerance`` and ``max_iterations``, in the units of the scaled program."""

    form = "box"
    matrices = ("dense",)
    traces = ("jax", "torch")
    common_options = {}
    defaults = {"tolerance": 1e-9, "max_iterations": 60}

    def known_options(self) -> list[str]:
        return ["tolerance", "max_iterations"]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        found = self._solved(program, NumpyAlgebra(), options)
        status = Status.OPTIMAL if found.solved else claim(program, found.x, found.y)
        info = {"iterations": int(found.steps)}
        return Solution(found.x, found.y, None, status, info)

    def solve_batch(self, programs: BoxForm, options: Options, session: Session) -> Solutions:
        p = programs
        found = self._solved(p, NumpyAlgebra(), options)
        status = [
            Status.OPTIMAL
            if done
            else claim(BoxForm(p.P[k], p.q[k], p.A[k], p.l[k], p.u[k]), found.x[k], found.y[k])
            for k, done in enumerate(found.solved.tolist())
        ]
        return Solutions(found.x, found.y, status, [{"iterations": int(k)} for k in found.steps])

    def traced(self, program: BoxForm, options: Options) -> tuple[Any, Any, Any]:
        found = self._solved(program, algebra_of(program.q), options)
        return found.x, found.y, found.solved

    @staticmethod
    def _solved(p: BoxForm, algebra: Any, options: Options) -> Any:
        tolerance, limit = float(options["tolerance"]), int(options["max_iterations"])
        return _method.solve(algebra, p.P, p.q, p.A, p.l, p.u, tolerance, limit)
