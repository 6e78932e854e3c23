"""The method as a solver: one program, a batch at once, or inside of a compiled program."""

from __future__ import annotations

from typing import Any

from ffoadapt import BoxForm, Options, Session, Solution, Solver, Status
from ffoadapt.experimental import Solutions, elements

from . import MATRICES
from ._algebra import NumpyAlgebra, algebra_of
from ._claims import claim
from ._method import solve_program


class InteriorPointSolver(Solver):
    """Options: ``tolerance`` and ``max_iterations``, in the units of the scaled program."""

    form = "box"
    matrices = MATRICES
    traces = ("jax", "torch")
    defaults = {"tolerance": 1e-9, "max_iterations": 60}

    def known_options(self) -> list[str]:
        return ["tolerance", "max_iterations"]

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        found = solve_program(program, NumpyAlgebra(), options)
        status = Status.OPTIMAL if found.solved else claim(program, found.x, found.y)
        return Solution(found.x, found.y, None, status, {"iterations": int(found.steps)})

    def solve_batch(self, programs: BoxForm, options: Options, session: Session) -> Solutions:
        found = solve_program(programs, NumpyAlgebra(), options)
        each = zip(found.solved.tolist(), found.x, found.y, strict=True)
        status = [
            Status.OPTIMAL if done else claim(elements(programs, k), x, y)
            for k, (done, x, y) in enumerate(each)
        ]
        return Solutions(found.x, found.y, status, [{"iterations": int(k)} for k in found.steps])

    def traced(self, program: BoxForm, options: Options) -> tuple[Any, Any, Any]:
        found = solve_program(program, algebra_of(program.q), options)
        return found.x, found.y, found.solved
