"""The method as a solver: one program, a batch at once, or inside of a compiled program."""

from typing import Any

from ffoadapt import BoxForm, Options, Session, Solution, Solver
from ffoadapt.experimental import Solutions

from . import MATRICES
from ._algebra import run
from ._claims import statuses


class InteriorPointSolver(Solver):
    """Options: ``tolerance`` and ``max_iterations``, in the units of the scaled program."""

    form = "box"
    matrices = MATRICES
    traces = ("jax", "torch")
    defaults = {"tolerance": 1e-9, "max_iterations": 60}

    def known_options(self) -> list[str]:
        return list(self.defaults)

    def solve(self, program: BoxForm, options: Options, session: Session) -> Solution:
        x, y, solved, steps = run(program, options)
        (status,) = statuses(program, x, y, solved)
        return Solution(x, y, None, status, {"iterations": int(steps)})

    def solve_batch(self, programs: BoxForm, options: Options, session: Session) -> Solutions:
        x, y, solved, steps = run(programs, options)
        status = statuses(programs, x, y, solved)
        return Solutions(x, y, status, [{"iterations": int(count)} for count in steps])

    def traced(self, program: BoxForm, options: Options) -> tuple[Any, Any, Any]:
        return run(program, options)[:3]
