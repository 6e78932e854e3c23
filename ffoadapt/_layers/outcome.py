"""How calls went: what `qp` and its like give next to arrays, and `Layer.last`.

A call keeps its arrays and statuses here, not the factorizations: whoever asks for a report after
the call has lost them pays for them again.
"""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from typing import Any, Protocol

from .._exceptions import DifferentiationError, InaccurateSolutionWarning
from .._oracle.report import GradientReport, Reports
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._runtime.text import counted
from .._types import Floats
from .axes import Axes
from .state import State

__all__ = ["Latest", "Outcome", "described", "infos", "statuses", "unknown", "warn_inaccurate"]


class Reporting(Protocol):
    """A function that can say how far to trust its derivatives; see `SolveFunction`."""

    def reports(self, state: State) -> Reports: ...

    def state(
        self, axes: Axes, batch: ProgramBatch, points: Points, unmet: Floats | None, name: str
    ) -> State: ...


class Outcome:
    """How a call went.

    Attributes
    ----------
    status, info
        A `Status` and a dict; with batch axes, lists of them in the order of the flat batch.
    """

    __slots__ = ("_function", "_known", "_state")

    def __init__(self, function: Reporting, state: State) -> None:
        self._function, self._state = function, weakref.ref(state)
        self._known = state.axes, state.batch, state.points, state.oracle.unmet, state.name

    @property
    def axes(self) -> int:
        """How many batch axes the call had."""
        return len(self._known[0].batch)

    @property
    def status(self) -> Status | list[Status]:
        return statuses(self._known[0].single, self._known[2].status)

    @property
    def info(self) -> Any:
        return infos(self._known[0].single, self._known[2].info, self._known[4])

    def __repr__(self) -> str:
        return f"Outcome({described(self.status)}; solver {self._known[4]!r})"

    def report(self) -> GradientReport | Reports:
        """Why to trust the gradient, or not; one report, or a sequence of one a batch element."""
        reports = self._function.reports(self._state() or self._function.state(*self._known))
        return reports[0] if self._known[0].single else reports


def described(status: Status | list[Status] | None) -> str:
    """The status, or how often there is each, as in a repr."""
    if status is None:
        return "unknown"
    if isinstance(status, Status):
        return status.value
    return f"{len(status)} elements: {counted(each.value for each in status) or 'none'}"


def statuses(single: bool, status: list[Status]) -> Status | list[Status]:
    """As users get them."""
    return status[0] if single else list(status)


def infos(single: bool, info: Any, solver: str) -> Any:
    """As users get them: with the name of the solver."""
    named = [{"solver": solver, **each} for each in info]
    return named[0] if single else named


def unknown() -> DifferentiationError:
    """The error where a report is asked for and nothing is known."""
    return DifferentiationError(
        "nothing is known of how this solution came about: it was traced (jit, vmap, "
        "torch.compile), so that its numbers are not known here, or it is a copy of a solution. "
        "Make the call outside of these, or ask Layer.solve"
    )


class Latest(threading.local):
    """The latest outcome of each thread, where anybody wants it.

    A call puts its own into ``place``, a list, or None where nobody asks. ``said`` is one list for
    all threads: not empty once a layer has warned; None to warn always.
    """

    def __init__(self, wanted: bool = False, said: list[bool] | None = None) -> None:
        self.place: list[Outcome] | None = [] if wanted else None
        self.said = said

    def __reduce__(self) -> Any:
        return Latest, (self.place is not None, None if self.said is None else [])


def warn_inaccurate(status: list[Status], latest: Latest) -> None:
    """Warn where points are only `Status.OPTIMAL_INACCURATE`: a layer once, other calls always.

    The text is the same for all, so that Python shows it once for each line that calls.
    """
    if latest.said or Status.OPTIMAL_INACCURATE not in status:
        return
    warnings.warn(
        "a solution is only optimal_inaccurate: it violates the optimality conditions by more than "
        "it should, and gradients there may be far off. Its status, info and report() say more "
        "(of a layer: layer.last); tighten solver_options={'tolerance': ...}, use another solver, "
        "or make it a failure with accept_inaccurate=False",
        InaccurateSolutionWarning,
        stacklevel=_outside(),
    )
    if latest.said is not None:  # not where the warning was made an error: the next call has it too
        latest.said.append(True)


def _outside() -> int:
    """The stack level, for `warnings.warn` in the caller, of the code that calls ffoadapt."""
    frame, level, outside = sys._getframe(1), 1, 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0].startswith("ffoadapt"):
            outside = level + 1
        frame, level = frame.f_back, level + 1
    return outside
