"""How to differentiate, where it is not by the ghost problem: the setting ``gradient=``.

Next to that, the warning for who trains on a linear program and has not chosen: its solution is a
vertex, which stays where it is when the costs move a little, so the exact gradient is 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._exceptions import ZeroGradientWarning
from .._oracle.gradient import Adjoint
from .._oracle.resolve import Resolved
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._types import Floats

if TYPE_CHECKING:
    from .function import SolveFunction, State

__all__ = ["adjoint", "each", "gradients", "tangents", "warn_zero"]


ZERO = 1e-9
"""The response of x to costs that move by their own size counts as none below this share of |x|."""


def adjoint(
    function: SolveFunction,
    state: State,
    at: tuple[Floats | None, Floats | None, Floats | None],
    watched: bool,
) -> Adjoint:
    """The gradient for cotangents on x, s and z, as the settings say."""
    if function.settings.resolve is None:
        return state.oracle.vjp(*at, watched=watched)
    return _resolved(function, state).vjp(*at, contain=function.settings.on_failure == "nan")


def gradients(
    function: SolveFunction, state: State, adjoint: Adjoint, needed: Sequence[bool]
) -> list[Floats | None]:
    """The gradients by the parameters, also through the change of infeasible programs."""
    found = function.model.program_vjp(adjoint, needed)
    if state.closest is None:
        return found
    through = state.closest.vjp(state.batch, state.points, adjoint.zeta)
    pairs = zip(found, function.model.program_vjp(through, needed), strict=True)
    return [None if g is None or more is None else g + more for g, more in pairs]


def tangents(
    function: SolveFunction, state: State, moved: Mapping[str, Floats]
) -> tuple[Floats, Floats, Floats]:
    """Tangents on x, s and z from those on P, q, A and b, as the settings say."""
    if state.closest is not None:
        moved = state.closest.jvp(state.batch, moved)
    if function.settings.resolve is None:
        return state.oracle.jvp(moved)
    return _resolved(function, state).jvp(moved, contain=function.settings.on_failure == "nan")


def _resolved(function: SolveFunction, state: State) -> Resolved:
    how = function.settings.resolve
    assert how is not None
    return Resolved(state.oracle, function.solutions, how)


def each(
    function: SolveFunction,
    state: State,
    cotangents: Sequence[Floats | None],
    needed: Sequence[bool],
) -> list[Floats | None] | None:
    """The gradients for several cotangents, of which each has its own solves: one after the other.

    None where there is one cotangent alone.
    """
    pairs = zip(cotangents, function.model.outputs, strict=True)
    axes = len(state.axes.batch)
    leads = [c.shape[: c.ndim - axes - len(shape)] for c, (_, shape) in pairs if c is not None]
    lead = next(iter(leads), ())
    if not lead:
        return None
    found = [
        function.vjp(state, [None if c is None else c[k] for c in cotangents], needed)
        for k in np.ndindex(lead)
    ]
    if not found:
        return None
    columns: Any = zip(*found, strict=True)
    return [None if c[0] is None else np.stack(c).reshape(*lead, *c[0].shape) for c in columns]


def warn_zero(
    function: SolveFunction,
    adjoint: Adjoint,
    v_x: Floats | None,
    gradients: Sequence[Floats | None],
) -> None:
    """Warn where the programs are linear and a gradient by their costs was asked for and is zero.

    Once for each function: what has been said, or cannot be (the costs are no parameter), is not
    looked at again.
    """
    batch = adjoint.batch
    if batch.P.size and batch.P.flat[0] != 0.0:  # in less time than the rest: no linear program
        return
    if v_x is None or not batch.structure.polyhedral or batch.P.any() or not v_x.any():
        return
    response = np.abs(adjoint.w).max(initial=0.0) * np.abs(batch.q).max(initial=0.0)
    if not response <= ZERO * np.abs(v_x).max() * np.abs(adjoint.x).max(initial=0.0):
        return
    by_costs = _costs_in(function, batch, gradients)
    names = [n for n, on in zip(function.names, by_costs, strict=True) if on]
    function.warns_of_zero = False
    if not names:
        return
    warnings.warn(
        f"the gradient by {', '.join(names)} is zero: a linear program's solution does not move "
        "when its costs move a little. To learn costs use gradient='resolve', or "
        "gradient=ffoadapt.Resolve(step=...), which differentiates with a finite step; "
        "gradient='exact' says that zero is what you want",
        ZeroGradientWarning,
        stacklevel=2,
    )


def _costs_in(
    function: SolveFunction, batch: ProgramBatch, gradients: Sequence[Floats | None]
) -> list[bool]:
    """Which of the parameters that a gradient was asked for enter the costs q."""
    structure = batch.structure
    nowhere = np.zeros((batch.size, structure.n)), np.zeros((batch.size, structure.m))
    points = Points(
        nowhere[0], nowhere[1], nowhere[1], [Status.OPTIMAL] * batch.size, [{}] * batch.size
    )
    moved = Adjoint(batch, points, np.ones_like(nowhere[0]), nowhere[1])
    by_costs = function.model.program_vjp(moved, [g is not None for g in gradients])
    return [g is not None and bool(g.any()) for g in by_costs]
