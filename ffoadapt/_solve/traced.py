"""A solve in the arrays of a framework that compiles: from parameters to a solver and back.

A framework that traces its functions (JAX), or whose arrays live on a device (torch), can call a
solver that is written in its own arrays and never leave them. Here is what that takes of a program
and a solver; how to differentiate it is the framework's. A model's maps are of one element, without
batch axes; arrays of programs and solutions may have such axes in front where the framework hands
batches to the solver. Only what ``numpy`` and its like have in common is asked of the namespace
``xp``.
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
from .._plugins.registry import registry
from .._plugins.solver import Solver
from .._program.forms import BoxForm, ConeForm, SplitForm
from .._program.structure import Structure
from .._runtime.costs import TRACED_SIZE
from .choice import ranking
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
    name: str
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
        auto: bool = False,
    ) -> Traced | None:
        """The solve, or None where program, solver or a setting do not allow it.

        ``auto`` is whether a solver may be chosen where the user names none.
        """
        wanted = settings.solver
        if wanted == "auto" and auto:
            wanted = next(iter(_traced_by(framework, model.structure)), "auto")
        if wanted == "auto" or not model.traceable:
            return None
        if settings.check_attributes and model.declares:
            return None  # only from the host can it be said what is wrong with a value
        others = [field for field in fields(Settings) if field.name not in _HONOURED]
        if any(getattr(settings, field.name) != field.default for field in others):
            return None
        structure = model.structure
        if settings.resolve is not None or not _dense(structure):
            return None
        solver, name = find_solver(wanted, structure)
        if framework not in solver.traces:
            return None
        given = settings.solver_options or {}
        if "time_limit" in given and "time_limit" not in common_names(solver):
            return None  # only who calls it from the host can stop to wait
        options = translate_options(solver, name, given)
        limit = np.inf if settings.accept_inaccurate else INACCURATE
        failed = 0.0 if settings.on_failure == "nan" else np.nan
        return cls(model, solver, name, options, xp, bool(settings.polish), limit, failed, orders)

    @classmethod
    def maps(
        cls, model: ParametricProgram, settings: Settings, xp: Any, orders: Sequence[Any]
    ) -> Traced | None:
        """What comes before and after a point that is known, which cannot `solve`."""
        exact = settings.resolve is None and not settings.smoothing
        exact = exact and settings.infeasible != "closest" and settings.degenerate == "auto"
        if not (exact and model.traceable and _dense(model.structure)):
            return None
        failed = 0.0 if settings.on_failure == "nan" else np.nan
        return cls(model, None, "", {}, xp, False, np.inf, failed, orders)  # type: ignore[arg-type]

    def program(self, values: Sequence[Any]) -> BoxForm:
        values = [
            value if order is None else value[..., order]
            for value, order in zip(values, self.orders, strict=True)
        ]
        return BoxForm(*self.model.traced_program(self.xp, values))

    def outputs(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        s = program.u - (program.A @ x[..., None])[..., 0]
        return self.model.traced_outputs(self.xp, x, s, y)

    def pack(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        return [x, y] if self.model.box else [x, program.u - program.A @ x, y]

    def solve(self, program: BoxForm) -> tuple[Any, Any, Any]:
        """The solver gets the view of its form."""
        xp, p, structure, rows = self.xp, program, self.model.structure, program.u.shape[-1]
        sound = ((p.l <= p.u) & (p.l < np.inf) & (p.u > -np.inf)).all(axis=-1)
        sound = sound & xp.isfinite(p.q).all(axis=-1)
        for datum in (p.P, p.A):
            sound = sound & xp.isfinite(datum).all(axis=-1).all(axis=-1)
        if self.solver.form == "box":
            x, y, solved = self._solve(p, p.u)
            return x, y, solved & sound
        A, b = p.A, p.u
        if self.model.box:  # which rows are equalities is not known before the program runs
            A, b = xp.concatenate((A, -A), axis=-2), xp.concatenate((b, -p.l), axis=-1)
            size = b.shape[-1]
            structure = Structure(p.q.shape[-1], size, (NonnegativeCone(size),))
        if self.solver.form == "split":
            eq, ineq = structure.split
            less, equal = (A[..., ineq, :], b[..., ineq]), (A[..., eq, :], b[..., eq])
            split = SplitForm(p.P, p.q, *less, *equal)
            x, (z_ineq, y_eq), solved = self._solve(split, split.h, split.b)
            every = np.arange(b.shape[-1])
            order = np.argsort(np.concatenate((every[ineq], every[eq])))
            z = xp.concatenate((z_ineq, y_eq), axis=-1)[..., order]
        else:
            free = xp.isinf(b)
            A, b = xp.where(free[..., None], 0.0, A), xp.where(free, 1.0, b)
            form = ConeForm(p.P, p.q, A, b, structure.cones)
            x, z, solved = self._solve(form, b)
        if self.model.box:
            z = z[..., :rows] - z[..., rows:]
        return x, z, solved & sound

    def _solve(self, program: Any, *rows: Any) -> tuple[Any, ...]:
        """What the solver returns, its dual, or pair of duals, in the shapes of ``rows``."""
        x, dual, solved = self.solver.traced(program, self.options)
        parts = dual if len(rows) > 1 else (dual,)
        for part, like in zip((x, *parts), (program.q, *rows), strict=True):
            shape, dtype = tuple(np.shape(part)), str(getattr(part, "dtype", "float64"))
            if shape != tuple(like.shape) or "complex" in dtype:  # it would be broadcast, or cut
                raise SolveError(
                    f"the traced {type(self.solver).__name__} returned an array of shape {shape} "
                    f"and type {dtype}; expected real numbers of shape {tuple(like.shape)}"
                )
        return x, dual, solved


def _dense(structure: Structure) -> bool:
    """Whether programs have flat cones alone, and may be written with dense matrices."""
    small = structure.dense or structure.n + structure.m <= TRACED_SIZE
    return structure.polyhedral and small


def _traced_by(framework: str, structure: Structure) -> list[str]:
    """The installed solvers whose record says that they are traced there, the fastest first."""
    specs = registry.usable("solver")
    names = [choice.name for choice in ranking(structure)]
    return [name for name in names if framework in (specs[name].traces or ())]
