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
from .job import find_solver
from .options import common_names, translate_options
from .settings import Settings

__all__ = ["Traced"]

LARGEST = 1000
"""Above this many variables and rows, the dense ghost system of a sparse program does not pay."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A `TracedSolve` with a solver that has one."""

    model: Any
    solver: Solver
    options: Mapping[str, Any]
    structure: Structure | None
    xp: Any
    polish: bool
    limit: float
    failed: float
    orders: Sequence[Any]

    @classmethod
    def of(
        cls,
        model: ParametricProgram,
        structure: Structure | None,
        settings: Settings,
        framework: str,
        xp: Any,
        orders: Sequence[Any],
    ) -> Traced | None:
        """The solve, or None where program, solver or a setting do not allow it.

        ``orders`` are those in which the model wants the entries of each parameter.
        """
        if settings.solver == "auto" or not hasattr(model, "traced_program"):
            return None
        if settings.check_attributes and getattr(model, "declares", False):
            return None  # only from the host can it be said what is wrong with a value
        honoured = {
            "solver",
            "solver_options",
            "on_failure",
            "accept_inaccurate",
            "polish",
            "check_attributes",
            "gradient",
        }
        others = [field for field in fields(Settings) if field.name not in honoured]
        if any(getattr(settings, field.name) != field.default for field in others):
            return None
        if settings.resolve is not None or (structure is not None and not structure.polyhedral):
            return None
        shape = structure or Structure(model.outputs[0][1][0], model.outputs[1][1][0], ())
        if not getattr(model, "dense", shape.dense) and shape.n + shape.m > LARGEST:
            return None
        solver, name = find_solver(settings.solver, shape)
        if framework not in solver.traces:
            return None
        given = settings.solver_options or {}
        if "time_limit" in given and "time_limit" not in common_names(solver):
            return None  # only who calls it from the host can stop to wait
        options = translate_options(solver, name, given)
        limit = np.inf if settings.accept_inaccurate else INACCURATE
        failed = 0.0 if settings.on_failure == "nan" else np.nan
        polish = bool(settings.polish)
        return cls(model, solver, options, structure, xp, polish, limit, failed, orders)

    def program(self, values: Sequence[Any]) -> BoxForm:
        values = [
            value if order is None else value[..., order]
            for value, order in zip(values, self.orders, strict=True)
        ]
        return BoxForm(*self.model.traced_program(self.xp, values))

    def outputs(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        found: list[Any] = self.model.traced_outputs(self.xp, x, program.u - program.A @ x, y)
        return found

    def pack(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        return [x, y] if self.structure is None else [x, program.u - program.A @ x, y]

    def solve(self, program: BoxForm) -> tuple[Any, Any, Any]:
        """The solver gets the view of its form."""
        xp, p, structure = self.xp, program, self.structure
        sound = (p.l <= p.u).all() & (p.l < np.inf).all() & (p.u > -np.inf).all()
        for datum in (p.P, p.q, p.A):
            sound = sound & xp.isfinite(datum).all()
        if self.solver.form == "box":
            x, y, solved = self._answer(p, p.u)
            return x, y, solved & sound
        if structure is None:  # which rows are equalities is not known before the program runs
            A, b = xp.concatenate((p.A, -p.A)), xp.concatenate((p.u, -p.l))
            structure = Structure(len(p.q), len(b), (NonnegativeCone(len(b)),))
        else:
            A, b = p.A, p.u
        if self.solver.form == "split":
            eq, ineq = structure.split
            split = SplitForm(p.P, p.q, A[ineq], b[ineq], A[eq], b[eq])
            x, (z_ineq, y_eq), solved = self._answer(split, split.h, split.b)
            rows = np.arange(len(b))
            order = np.argsort(np.concatenate((rows[ineq], rows[eq])))
            z = xp.concatenate((z_ineq, y_eq))[order]
        else:
            free = xp.isinf(b)
            A, b = xp.where(free[:, None], 0.0, A), xp.where(free, 1.0, b)
            form = ConeForm(p.P, p.q, A, b, structure.cones)
            x, z, solved = self._answer(form, b)
        return x, z if self.structure is not None else z[: len(p.u)] - z[len(p.u) :], solved & sound

    def _answer(self, program: Any, *rows: Any) -> tuple[Any, ...]:
        """The solver's answer, whose dual, or pair of duals, has the shapes of ``rows``."""
        x, dual, solved = self.solver.traced(program, self.options)
        parts = dual if len(rows) > 1 else (dual,)
        for found, like in zip((x, *parts), (program.q, *rows), strict=True):
            shape, kind = np.shape(found), np.dtype(getattr(found, "dtype", float)).kind
            if shape != like.shape or kind == "c":  # it would be broadcast, or cut
                raise SolveError(
                    f"the traced {type(self.solver).__name__} returned an array of shape {shape} "
                    f"and kind {kind!r}; expected real numbers of shape {like.shape}"
                )
        return x, dual, solved
