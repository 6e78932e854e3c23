"""A solve in the arrays of a framework that compiles: from parameters to a solver and back.

A framework that traces its functions (JAX) can call a solver that is written in its own arrays
without leaving the compiled program. Here is what that takes of a program and a solver; how to
differentiate it is the framework's. Every array is one element's, without batch axes, and only
what ``numpy`` and its like have in common is asked of the namespace ``xp``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .._cones import NonnegativeCone
from .._exceptions import SolveError
from .._oracle.report import INACCURATE
from .._plugins.modeler import ParametricProgram
from .._plugins.solver import Solver
from .._program.forms import BoxForm, ConeForm, SplitForm
from .._program.structure import Structure
from .._runtime.costs import TRACED_SIZE
from .lookup import find_solver
from .options import common_names, translate_options
from .settings import Settings

__all__ = ["Traced"]

_HONOURED = (
    *("solver", "solver_options", "on_failure", "accept_inaccurate", "polish"),
    *("check_attributes", "gradient", "objective"),
)
"""The settings that a traced solve keeps to; with another one it is not traced."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A `TracedSolve` with a solver that has one.

    ``orders`` are those in which the model wants the entries of each parameter.
    """

    model: ParametricProgram
    solver: Solver
    options: Mapping[str, Any]
    xp: Any
    polish: bool
    limit: float
    failed: float
    orders: Sequence[Any]

    @classmethod
    def of(
        cls,
        model: ParametricProgram,
        settings: Settings,
        framework: str,
        xp: Any,
        orders: Sequence[Any],
    ) -> Traced | None:
        """The solve, or None where program, solver or a setting do not allow it."""
        if settings.solver == "auto" or not model.traceable:
            return None
        if settings.check_attributes and model.declares:
            return None  # only from the host can it be said what is wrong with a value
        others = [field for field in fields(Settings) if field.name not in _HONOURED]
        if any(getattr(settings, field.name) != field.default for field in others):
            return None
        structure = model.structure
        if settings.resolve is not None or not structure.polyhedral:
            return None
        if not structure.dense and structure.n + structure.m > TRACED_SIZE:
            return None
        solver, name = find_solver(settings.solver, structure)
        if framework not in solver.traces:
            return None
        given = settings.solver_options or {}
        if "time_limit" in given and "time_limit" not in common_names(solver):
            return None  # only who calls it from the host can stop to wait
        options = translate_options(solver, name, given)
        limit = np.inf if settings.accept_inaccurate else INACCURATE
        failed = 0.0 if settings.on_failure == "nan" else np.nan
        return cls(model, solver, options, xp, bool(settings.polish), limit, failed, orders)

    def program(self, values: Sequence[Any]) -> BoxForm:
        values = [
            value if order is None else value[..., order]
            for value, order in zip(values, self.orders, strict=True)
        ]
        return BoxForm(*self.model.traced_program(self.xp, values))

    def outputs(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        return self.model.traced_outputs(self.xp, x, program.u - program.A @ x, y)

    def pack(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        return [x, y] if self.model.box else [x, program.u - program.A @ x, y]

    def solve(self, program: BoxForm) -> tuple[Any, Any, Any]:
        """The solver gets the view of its form."""
        xp, p, structure, rows = self.xp, program, self.model.structure, len(program.u)
        sound = (p.l <= p.u).all() & (p.l < np.inf).all() & (p.u > -np.inf).all()
        for datum in (p.P, p.q, p.A):
            sound = sound & xp.isfinite(datum).all()
        if self.solver.form == "box":
            x, y, solved = self._solve(p, p.u)
            return x, y, solved & sound
        A, b = p.A, p.u
        if self.model.box:  # which rows are equalities is not known before the program runs
            A, b = xp.concatenate((A, -A)), xp.concatenate((b, -p.l))
            structure = Structure(len(p.q), len(b), (NonnegativeCone(len(b)),))
        if self.solver.form == "split":
            eq, ineq = structure.split
            split = SplitForm(p.P, p.q, A[ineq], b[ineq], A[eq], b[eq])
            x, (z_ineq, y_eq), solved = self._solve(split, split.h, split.b)
            every = np.arange(len(b))
            order = np.argsort(np.concatenate((every[ineq], every[eq])))
            z = xp.concatenate((z_ineq, y_eq))[order]
        else:
            free = xp.isinf(b)
            A, b = xp.where(free[:, None], 0.0, A), xp.where(free, 1.0, b)
            form = ConeForm(p.P, p.q, A, b, structure.cones)
            x, z, solved = self._solve(form, b)
        return x, z[:rows] - z[rows:] if self.model.box else z, solved & sound

    def _solve(self, program: Any, *rows: Any) -> tuple[Any, ...]:
        """What the solver returns, its dual, or pair of duals, in the shapes of ``rows``."""
        x, dual, solved = self.solver.traced(program, self.options)
        parts = dual if len(rows) > 1 else (dual,)
        for part, like in zip((x, *parts), (program.q, *rows), strict=True):
            shape, kind = np.shape(part), np.dtype(getattr(part, "dtype", float)).kind
            if shape != like.shape or kind == "c":  # it would be broadcast, or cut
                raise SolveError(
                    f"the traced {type(self.solver).__name__} returned an array of shape {shape} "
                    f"and kind {kind!r}; expected real numbers of shape {like.shape}"
                )
        return x, dual, solved
