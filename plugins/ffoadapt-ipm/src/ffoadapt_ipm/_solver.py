"""The method as a solver: one program, a batch at once, or inside of a compiled program."""

from typing import Any

from ffoadapt import BoxForm, Options, Session, Solution, Solver
from ffoadapt.experimental import Solutions, algebra_of

from . import MATRICES, TRACES
from ._claims import statuses
from ._method import Answer, solve


def run(program: BoxForm, options: Options) -> Answer:
    """`solve` in the framework of the program's arrays, with these options."""
    p, tolerance, limit = program, float(options["tolerance"]), int(options["max_iterations"])
    return solve(algebra_of(p.q), p.P, p.q, p.A, p.l, p.u, tolerance, limit)


class InteriorPointSolver(Solver):
    """Options: ``tolerance`` and ``max_iterations``, in the units of the scaled program."""

    form = "box"
    matrices = MATRICES
    traces = TRACES
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
