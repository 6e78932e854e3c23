"""The derivatives of one call, as the settings say, also through the change of infeasible programs.

Next to that, the warning for who trains on a linear program and has not chosen: its solution is a
vertex, which stays where it is when the costs move a little, so the exact gradient is 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from .._exceptions import ProblemError, ZeroGradientWarning
from .._oracle.differentiation import Differentiation, Exact, Resolving
from .._oracle.gradient import Adjoint, Tangents
from .._oracle.resolve import Resolve
from .._plugins.modeler import ParametricProgram
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._solve.program_solver import ProgramSolver
from .._solve.settings import Settings
from .._types import Floats
from .state import State

__all__ = ["gradients", "named", "tangents", "vjp", "warn_zero"]


ZERO = 1e-9
"""The response of x to costs that move by their own size counts as none below this share of |x|."""


class Function(Protocol):
    """What derivatives ask of the function of a call."""

    model: ParametricProgram
    settings: Settings
    names: list[str]
    solver: ProgramSolver
    warns_of_zero: bool
    """Whether the warning of `warn_zero` is still to be given."""


def named(function: Function, method: str | None, delta: float) -> Differentiation:
    """The way to differentiate that ``Result.vjp`` is asked for; None is that of the settings."""
    if method is None:
        return function.settings.differentiation
    if method == "direct":
        return Exact()
    if method == "resolve":
        return Resolving(how=Resolve(delta))
    raise ProblemError(f"method={method!r}; expected 'direct' or 'resolve'")


def vjp(
    function: Function,
    state: State,
    at: tuple[Floats | None, Floats | None, Floats | None],
    how: Differentiation,
) -> Adjoint:
    """The gradient for cotangents on x, s and z; the state keeps what it rests on."""
    contain = function.settings.on_failure == "nan"
    adjoint = how.at(state.oracle, function.solver.solutions, contain).vjp(*at)
    state.evidence = adjoint.evidence or state.evidence
    return adjoint


def gradients(
    function: Function, state: State, adjoint: Adjoint, needed: Sequence[bool]
) -> list[Floats | None]:
    """The gradients by the parameters, also through the change of infeasible programs."""
    direct = function.model.program_vjp(adjoint, needed)
    if state.closest is None:
        return direct
    through = state.closest.vjp(state.batch, state.points, adjoint.zeta)
    pairs = zip(direct, function.model.program_vjp(through, needed), strict=True)
    return [None if g is None or more is None else g + more for g, more in pairs]


def tangents(function: Function, state: State, moved: Mapping[str, Floats]) -> Tangents:
    """Tangents on x, s and z from those on P, q, A and b; the state keeps what they rest on."""
    if state.closest is not None:
        moved = state.closest.jvp(state.batch, moved)
    settings = function.settings
    contain = settings.on_failure == "nan"
    moves = settings.differentiation.at(state.oracle, function.solver.solutions, contain).jvp(moved)
    state.evidence = moves.evidence or state.evidence
    return moves


def warn_zero(
    function: Function,
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
    function: Function, batch: ProgramBatch, gradients: Sequence[Floats | None]
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
