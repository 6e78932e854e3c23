"""What DAQP is given: the least-distance form of a program, or the program as it is.

DAQP turns every program into one of least distance and eliminates the equalities on the way, in
plain loops that take longer than its iterations; LAPACK takes half as long.
"""

import numpy as np
from numpy.typing import NDArray

from ffoadapt import BoxForm
from ffoadapt.experimental import LeastDistance, elements

__all__ = ["Form", "Unchanged", "least_distance", "of"]

Floats = NDArray[np.float64]

SMALL = 2e5
"""n^2 (n + m - 2 p) up to which DAQP's own loops take less time, by measurement."""


def _large(program: BoxForm) -> bool:
    """Whether there may be a form that gains time."""
    m, n = program.A.shape[-2:]
    return bool(n * n * (n + m) >= SMALL and LeastDistance.available())


def least_distance(programs: BoxForm) -> LeastDistance | None:
    """The forms of a batch of programs; None where they are too small."""
    return LeastDistance(programs, SMALL) if _large(programs) else None


class Unchanged:
    """The program as it is; ``data`` is H, f, A, the upper and the lower bounds."""

    def __init__(self, program: BoxForm) -> None:
        # Copies, because DAQP asks for writable arrays in C order.
        data = program.P, program.q, program.A, program.u, program.l
        self.data = tuple(array.copy() for array in data)

    def start(self, dual: Floats) -> Floats:
        """The multipliers of the rows that DAQP sees, of those of all."""
        return _finite(dual, *self.data[4:2:-1])

    def point(self, x: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """x and the multipliers of the program, from those that DAQP has found."""
        return x, dual


class Form:
    """One program in its least-distance form; see `Unchanged`."""

    def __init__(self, form: LeastDistance) -> None:
        rows, lower, upper = form.program(0)
        self.form, self.data = form, (None, None, rows, upper, lower)

    def start(self, dual: Floats) -> Floats:
        _, _, _, upper, lower = self.data
        return _finite(dual[self.form.order[0, dual.size - lower.size :]], lower, upper)

    def point(self, x: Floats, dual: Floats) -> tuple[Floats, Floats]:
        at, multipliers = self.form.restore(x[None], dual[None])
        return at[0], multipliers[0]


def of(program: BoxForm) -> Form | Unchanged:
    """What DAQP is given for one program."""
    if _large(program):
        form = LeastDistance(elements(program, None), SMALL)
        if form.equalities[0] >= 0:
            return Form(form)
    return Unchanged(program)


def _finite(dual: Floats, lower: Floats, upper: Floats) -> Floats:
    """The multipliers, 0 where their bound is infinite by now: DAQP would start from NaN."""
    return np.where(np.isfinite(np.where(dual > 0.0, upper, lower)), dual, 0.0)
