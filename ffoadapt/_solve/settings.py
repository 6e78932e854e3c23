"""How to solve and differentiate: the keyword arguments that every way in shares."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from numbers import Real
from typing import Any, Literal, TypedDict, get_args

import numpy as np

from .._exceptions import OptionError
from .._oracle.active_set import Degenerate
from .._oracle.differentiation import Differentiation, Exact, Resolving, Smoothed
from .._oracle.resolve import Resolve
from .._plugins.executor import Executor
from .._plugins.solver import Solver
from .options import check_options

__all__ = ["Settings", "SolveSettings"]


class SolveSettings(TypedDict, total=False):
    """Keyword arguments of `qp`, `box_qp`, `cone_program`, `solve` and `Layer`, next to ``solver``.

    Attributes
    ----------
    solver_options
        ``tolerance`` (> 0), ``max_iterations`` (an integer > 0), ``time_limit`` (seconds > 0) and
        ``verbose`` (True or False) mean the same for every solver, ``"auto"`` included; what has
        another value raises `OptionError`. A solver that cannot print stays quiet. One that has not
        come back after twice its ``time_limit``, or 5 s beyond it where that is longer, is left
        behind in its thread, and the status is ``time_limit``; so is one that has no time limit of
        its own, when the time is over. Other names are options of the named solver's own, as that
        solver takes them; one that it does not know raises `OptionError`, and with ``"auto"`` so
        does any.
    executor
        Runs the solves of a batch: ``"auto"`` (threads where the solver releases the GIL),
        ``"serial"``, ``"threads"``, or another installed one.
    on_failure
        ``"raise"`` a `SolveError` that names every failed batch element, or ``"nan"``: NaN for the
        failed elements alone, those that state no program (NaN, P not convex) among them, and zero
        gradient through them.
    infeasible
        What becomes of elements that no point satisfies: ``"raise"`` or ``"nan"``, as for
        ``on_failure``, which decides where this says nothing; or ``"closest"``: the program whose
        right-hand side (h and b, l and u) is changed by the least t in the sense of least squares
        that makes it feasible is solved in their place. ``info["closest"]`` is |t| there. The
        gradient is that of both steps, also through t.
    accept_inaccurate
        False makes a point that violates a constraint by more than 1e-7 of its size, or another
        optimality condition by more than 3e-6 of the data, or that its solver calls inaccurate, a
        failure. True (the default) keeps it, with the status ``optimal_inaccurate`` and a report
        that says so; what violates them by as much as the data is a failure in any case.
    warm_start
        True starts each solve from the thread's previous solution, where the solver can.
    polish
        Newton steps on the optimality conditions make the solver's point more accurate where that
        lowers their residual: ``"auto"`` where it matters for the gradient, True for every point,
        False for none.
    degenerate
        What the derivative does with weakly active constraints (zero slack and zero multiplier),
        where the solution has a kink: ``"keep"`` or ``"drop"`` them for the derivative on either
        side, ``"least_squares"`` for the midpoint of the two in each row, ``"auto"`` leaves each
        to the larger of its slack and multiplier. A block of a curved cone at a kink is one
        constraint, and for ``"least_squares"`` as for ``"auto"``. Elsewhere all are the same.
    check_attributes
        False takes the values of a layer's parameters as they are. True (the default) holds them
        to what the parameters declare (``nonneg=True``, ``PSD=True``, ... of cvxpy), up to rounding
        in their dtype, and raises `ParameterError` with the entry where they do not.
    smoothing
        mu >= 0: differentiates as if mu/2 |x - x*|^2, with x* the solution, were part of the
        objective, which leaves x* a solution. Makes the gradient of a program with many solutions
        that of the nearest one, times 1/mu where nothing else holds x. Its bias is O(mu), and the
        report does not call it `differentiable` where that matters.
    gradient
        ``"exact"``: the derivative of the solution. ``"resolve"`` or an `ffoadapt.Resolve`: by
        solving again with a finite step, at each backward pass, which also says where the solution
        of a linear program jumps to. Without a choice it is the exact one, and one that is zero
        because the program is linear warns once (`ZeroGradientWarning`).
    objective
        True gives the value of the objective at the solution, too: of layers as one more output,
        the last, of solutions as ``solution.objective``; `solve` gives it always. Its gradient is
        that of the optimal value, by the envelope theorem: exact also for linear programs and at
        kinks, whatever ``gradient`` says, and without a linear system.
    """

    solver_options: Mapping[str, Any] | None
    executor: str | Executor
    on_failure: Literal["raise", "nan"]
    infeasible: Literal["raise", "nan", "closest"]
    accept_inaccurate: bool
    warm_start: bool
    polish: bool | Literal["auto"]
    degenerate: Degenerate
    check_attributes: bool
    smoothing: float
    gradient: Literal["exact", "resolve"] | Resolve
    objective: bool


@dataclass(frozen=True)
class Settings:
    """`SolveSettings` with their defaults, and the solver, checked."""

    solver: str | Solver | type[Solver] = "auto"
    solver_options: Mapping[str, Any] | None = None
    executor: str | Executor = "auto"
    on_failure: Literal["raise", "nan"] = "raise"
    infeasible: Literal["raise", "nan", "closest"] | None = None
    accept_inaccurate: bool = True
    warm_start: bool = False
    polish: bool | Literal["auto"] = "auto"
    degenerate: Degenerate = "auto"
    check_attributes: bool = True
    smoothing: float = 0.0
    gradient: Literal["exact", "resolve"] | Resolve | None = None
    objective: bool = False

    @classmethod
    def of(cls, solver: str | Solver | type[Solver], given: Mapping[str, Any]) -> Settings:
        """From keyword arguments; an unknown one raises `OptionError` with the known."""
        if not given and (isinstance(solver, str) or type(solver).__hash__ is object.__hash__):
            return _plain(solver)
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise OptionError(
                    f"there is no setting {name!r}.{hint} The settings are {', '.join(known)}; "
                    "options of the solver go into solver_options={...}"
                )
        return cls(solver, **given)

    def __post_init__(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "on_failure": ("raise", "nan"),
            "infeasible": ("raise", "nan", "closest"),
            "accept_inaccurate": (True, False),
            "warm_start": (True, False),
            "check_attributes": (True, False),
            "objective": (True, False),
            "polish": ("auto", True, False),
            "degenerate": get_args(Degenerate),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value is None and name == "infeasible":
                continue
            plain = isinstance(value, str | int | float | np.bool_)
            choice = [choice for choice in allowed if plain and value == choice]
            if not choice:
                expected = " or ".join(map(repr, allowed))
                raise OptionError(f"{name}={value!r}; expected {expected}")
            if value is not choice[0]:  # np.True_, 1
                object.__setattr__(self, name, choice[0])
        if not isinstance(self.executor, str | Executor):
            raise OptionError(
                f"executor={self.executor!r}; expected a name, such as 'serial' or 'threads', or "
                "an ffoadapt.Executor"
            )
        if self.solver_options is not None:
            auto = isinstance(self.solver, str) and self.solver == "auto"
            options = check_options(self.solver_options, auto) or None
            object.__setattr__(self, "solver_options", options)
        mu: Any = self.smoothing
        number = isinstance(mu, Real) and not isinstance(mu, bool)
        if not number or not 0.0 <= mu < sys.float_info.max:
            raise OptionError(f"smoothing={mu!r}; expected a number mu with 0 <= mu < inf")
        how = self.gradient
        if not (
            isinstance(how, Resolve | None)
            or (isinstance(how, str) and how in ("exact", "resolve"))
        ):
            raise OptionError(
                f"gradient={how!r}; expected 'exact', 'resolve' or an ffoadapt.Resolve(step=...)"
            )
        if self.resolve is not None and self.smoothing:
            raise OptionError(
                f"smoothing={mu!r} is for the exact gradient; with gradient={how!r} use "
                "ffoadapt.Resolve(proximal=...)"
            )

    @cached_property
    def resolve(self) -> Resolve | None:
        """How to differentiate by solving again; None where that is not wanted."""
        if isinstance(self.gradient, Resolve):
            return self.gradient
        return Resolve() if self.gradient == "resolve" else None

    @cached_property
    def differentiation(self) -> Differentiation:
        """How to differentiate."""
        if self.resolve is not None:
            return Resolving(self.degenerate, self.resolve)
        if self.smoothing:
            return Smoothed(self.degenerate, self.smoothing)
        return Exact(self.degenerate)

    @cached_property
    def key(self) -> tuple[Any, ...] | None:
        """Equal for equal settings; None where an option has no hash."""
        options = self.solver_options
        solver = self.solver if isinstance(self.solver, str) else id(self.solver)
        values = (getattr(self, f.name) for f in fields(self) if "solver" not in f.name)
        try:
            # With their types, which solvers tell apart where Python does not: 1, 1.0 and True.
            given = options and tuple((k, type(v), v) for k, v in sorted(options.items()))
            key = (solver, given, *values)
            hash(key)
        except TypeError:
            return None
        return key


@lru_cache(maxsize=64)
def _plain(solver: str | Solver | type[Solver]) -> Settings:
    return Settings(solver)
