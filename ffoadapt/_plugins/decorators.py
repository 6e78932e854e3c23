"""A function as a solver: three lines, no class, no registration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .._exceptions import OptionError
from .._program.points import Solution, Status
from .records import SolverSpec
from .registry import registry
from .solver import POLYHEDRAL, Session, Solver

__all__ = ["box_solver", "conic_solver", "register_solver", "smooth_solver", "split_solver"]

Function = Callable[..., Any]


class _FunctionSolver(Solver):
    """A `Solver` around a function; `function` stays callable through it."""

    def __init__(self, function: Function, cones: Collection[str], matrices: str) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "solver")
        self.__doc__ = function.__doc__
        # On the instance: every decorated function has its own declarations.
        self.cones = frozenset(cones)  # type: ignore[misc]
        self.matrices = (matrices,)  # type: ignore[misc]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the solver function {self.name!r} cannot be pickled; register it in every process "
            "with ffoadapt.register_solver and pass its name"
        )


class _BoxFunction(_FunctionSolver):
    form = "box"

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        p = program
        answer = self.function(p.P, p.q, p.A, p.l, p.u, dict(options))
        (x, y), status = _read(self.name, answer, {"x": p.q.size, "y": p.l.size})
        return Solution(x, y, None, status)


class _SplitFunction(_FunctionSolver):
    form = "split"

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        p = program
        answer = self.function(p.P, p.q, p.G, p.h, p.A, p.b, dict(options))
        sizes = {"x": p.q.size, "z_ineq": p.h.size, "y_eq": p.b.size}
        (x, z, y), status = _read(self.name, answer, sizes)
        return Solution(x, (z, y), None, status)


class _ConicFunction(_FunctionSolver):
    form = "cone"

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        p = program
        answer = self.function(p.P, p.q, p.A, p.b, p.cones, dict(options))
        sizes = {"x": p.q.size, "s": p.b.size, "z": p.b.size}
        (x, s, z), status = _read(self.name, answer, sizes)
        return Solution(x, z, s, status)


def _read(name: str, answer: Any, sizes: Mapping[str, int]) -> tuple[Sequence[Any], Status]:
    """The vectors of these names and sizes that a function returned, and the status."""
    wanted = ", ".join(sizes)
    if not isinstance(answer, tuple | list):
        what = f"a {type(answer).__name__}"
        if np.shape(answer) == (sizes["x"],):
            what = "x alone"
        raise TypeError(
            f"the function {name!r} returned {what}; expected {wanted}: gradients need the dual, "
            "the multipliers of the constraints"
        )
    if len(answer) not in (len(sizes), len(sizes) + 1):
        raise TypeError(
            f"the function {name!r} returned {len(answer)} values; expected {wanted}, and perhaps "
            "a Status"
        )
    vectors, status = answer[: len(sizes)], [*answer[len(sizes) :], Status.OPTIMAL][0]
    if not isinstance(status, Status):
        raise TypeError(f"the status is {status!r}; expected an ffoadapt.Status")
    if status.solved:
        _check_vectors(name, dict(zip(sizes, vectors, strict=True)), sizes)
        pairs = zip(vectors, sizes, strict=True)
        vectors = [np.zeros(0) if v is None and not sizes[key] else v for v, key in pairs]
    return vectors, status


def _check_vectors(name: str, vectors: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    for key, vector in vectors.items():
        if vector is None and not (key == "s" or sizes[key] == 0):
            raise TypeError(
                f"the function {name!r} returned None for {key}; expected an array of "
                f"{sizes[key]} numbers (0 where a constraint does not hold x), or as a further "
                "value a Status that is not solved"
            )
    shapes = {key: np.shape(vector) for key, vector in vectors.items() if vector is not None}
    wrong = [key for key, shape in shapes.items() if shape != (sizes[key],)]
    if wrong:
        seen, expected = list(shapes.values()), [(sizes[key],) for key in shapes]
        order = ", ".join(sizes)
        hint = ""
        if sorted(seen) == sorted(expected):
            hint = f". These are the right sizes in another order; return {order}"
        raise ValueError(
            f"the function {name!r} returned the wrong shape or type: {', '.join(map(str, seen))}; "
            f"expected {', '.join(map(str, expected))} for {', '.join(shapes)}{hint}"
        )


def _decorator(
    kind: type[_FunctionSolver], function: Function | None, cones: Collection[str], matrices: str
) -> Any:
    if matrices not in ("dense", "sparse"):
        raise OptionError(f"matrices={matrices!r}; expected 'dense' or 'sparse'")
    if function is None:
        return lambda wrapped: kind(wrapped, cones, matrices)
    return kind(function, cones, matrices)


def box_solver(function: Function | None = None, *, matrices: str = "dense") -> Any:
    """Turn ``(P, q, A, l, u, options) -> x, y`` into a solver (y > 0 at u, y < 0 at l).

    Matrices come as ndarrays, or CSC with ``matrices="sparse"``. A `Status` may follow as a third
    value. The result goes wherever a solver does: ``solver=mine``.
    """
    return _decorator(_BoxFunction, function, POLYHEDRAL, matrices)


def split_solver(function: Function | None = None, *, matrices: str = "dense") -> Any:
    """Turn ``(P, q, G, h, A, b, options) -> x, z_ineq, y_eq`` into a solver (Gx <= h, Ax = b)."""
    return _decorator(_SplitFunction, function, POLYHEDRAL, matrices)


def conic_solver(
    function: Function | None = None,
    *,
    cones: Collection[str] = POLYHEDRAL,
    matrices: str = "dense",
) -> Any:
    """Turn ``(P, q, A, b, cones, options) -> x, s, z`` into a solver (Ax + s = b, s in K).

    ``cones`` are the kinds it supports, of ``"zero"``, ``"nonnegative"``, ``"second_order"``,
    ``"psd"``, ``"exponential"``, ``"power"``.
    """
    return _decorator(_ConicFunction, function, cones, matrices)


class _SmoothFunctionSolver(_FunctionSolver):
    form = "smooth"

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        found = self.function(program, program.start, dict(options))
        if not isinstance(found, tuple):
            return Solution(found)
        x, dual, *status = found
        given = status[0] if status else Status.OPTIMAL
        if not isinstance(given, Status):
            raise TypeError(f"the status is {given!r}; expected an ffoadapt.Status")
        return Solution(x, dual, None, given)


def smooth_solver(
    function: Function | None = None,
    *,
    constraints: Collection[str] = ("bounds", "inequalities", "equalities"),
) -> Any:
    """Turn ``(problem, start, options) -> y`` into a solver of functions (see `SmoothForm`).

    It may return ``(y, duals)`` with ``duals = (z_ineq, z_eq, z_lower, z_upper)``, or None for
    these: then they are found from y. A `Status` may follow. ``constraints`` are the kinds that it
    takes.
    """
    unknown = sorted(set(constraints) - {"bounds", "inequalities", "equalities"})
    if unknown:
        raise OptionError(
            f"constraints={constraints!r}; expected of 'bounds', 'inequalities', 'equalities'"
        )
    if function is None:
        return lambda wrapped: _SmoothFunctionSolver(wrapped, constraints, "")
    return _SmoothFunctionSolver(function, constraints, "")


def register_solver(name: str, solver: Solver | type[Solver]) -> None:
    """Make a solver known by a name in this process; a second call replaces the first.

    Raises
    ------
    DuplicatePluginError
        Where an installed plugin has that name.
    """
    found = solver() if isinstance(solver, type) and issubclass(solver, Solver) else solver
    if not isinstance(found, Solver):
        raise OptionError(
            f"register_solver({name!r}, ...) got a {type(found).__name__}; expected an "
            "ffoadapt.Solver, or a function decorated with ffoadapt.box_solver, split_solver or "
            "conic_solver"
        )
    registry.add(
        SolverSpec(
            name,
            load=found,
            cones=frozenset(found.cones),
            matrices=frozenset(found.matrices),
            form="smooth" if found.form == "smooth" else "cone",
        )
    )
