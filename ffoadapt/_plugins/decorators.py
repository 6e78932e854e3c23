"""A function as a solver: three lines, no class, no registration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .._exceptions import OptionError
from .._program.points import Solution, Status
from .._program.views import without_free_rows
from .records import CONSTRAINTS, SolverSpec
from .registry import registry
from .solver import POLYHEDRAL, Session, Solver

__all__ = ["box_solver", "conic_solver", "register_solver", "smooth_solver", "split_solver"]

Function = Callable[..., Any]

FORMS: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    "box": ("PqAlu", {"x": "q", "y": "l"}),
    "split": ("PqGhAb", {"x": "q", "z_ineq": "h", "y_eq": "b"}),
    "cone": ([*"PqAb", "cones"], {"x": "q", "s": "b", "z": "b"}),
}
"""Of each form what a function is given, and what it returns, with the vector of the same size."""


class _FunctionSolver(Solver):
    """A `Solver` around a function; `function` stays callable through it."""

    def __init__(
        self, form: Any, function: Function, cones: Collection[str], matrices: Sequence[str]
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "solver")
        self.__doc__ = function.__doc__
        # On the instance: every decorated function has its own declarations.
        self.form = form  # type: ignore[misc]
        self.cones = frozenset(cones)  # type: ignore[misc]
        self.matrices = matrices  # type: ignore[misc]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the solver function {self.name!r} cannot be pickled; register it in every process "
            "with ffoadapt.register_solver and pass its name"
        )

    def solve(self, program: Any, options: Mapping[str, Any], session: Session) -> Solution:
        if self.form == "smooth":
            returned = self.function(program, program.start, dict(options))
            x, dual, *rest = returned if isinstance(returned, tuple) else (returned, None)
            return Solution(x, dual, None, _status(rest))
        given, results = FORMS[self.form]
        data = {name: getattr(program, name) for name in given}
        if self.form == "split":
            data["G"], data["h"] = without_free_rows(data["G"], data["h"], np.isinf(data["h"]))
        returned = self.function(*data.values(), dict(options))
        sizes = {name: getattr(program, like).size for name, like in results.items()}
        (x, *duals), status = _read(self.name, returned, sizes)
        said = returned[-1] if type(returned[-1]) is str else None
        info = {"status": said} if said else {}
        if status is Status.ERROR and said:
            info["message"] = f"it said {said!r}"
        if self.form == "cone":
            slack, dual = duals
            return Solution(x, dual, slack, status, info)
        return Solution(x, duals[0] if self.form == "box" else tuple(duals), None, status, info)


def _read(name: str, returned: Any, sizes: Mapping[str, int]) -> tuple[list[Any], Status]:
    """The vectors of these names and sizes that a function returned, and the status."""
    wanted = ", ".join(sizes)
    if not isinstance(returned, tuple | list):
        alone = np.shape(returned) == (sizes["x"],)
        what = "x alone" if alone else f"a {type(returned).__name__}"
        raise TypeError(
            f"the function {name!r} returned {what}; expected {wanted}: gradients need the dual, "
            "the multipliers of the constraints"
        )
    if len(returned) not in (len(sizes), len(sizes) + 1):
        raise TypeError(
            f"the function {name!r} returned {len(returned)} values; expected {wanted}, and "
            "perhaps a Status"
        )
    vectors, status = list(returned[: len(sizes)]), _status(returned[len(sizes) :])
    if status.solved:
        _check_vectors(name, dict(zip(sizes, vectors, strict=True)), sizes)
        pairs = zip(vectors, sizes, strict=True)
        vectors = [np.zeros(0) if v is None and not sizes[key] else v for v, key in pairs]
    return vectors, status


def _status(rest: Sequence[Any]) -> Status:
    """The status that a function may return after its vectors, perhaps in its vendor's words."""
    status = rest[0] if rest else Status.OPTIMAL
    if type(status) is str:
        return Status.read(status)
    if not isinstance(status, Status):
        raise TypeError(
            f"the status is {status!r}; expected an ffoadapt.Status, or the vendor's words for one"
        )
    return status


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


def _decorate(
    form: str, function: Function | None, cones: Collection[str], matrices: str | None
) -> Any:
    if matrices not in ("dense", "sparse", None):
        raise OptionError(f"matrices={matrices!r}; expected 'dense' or 'sparse'")
    taken = () if matrices is None else (matrices,)
    if function is None:
        return lambda wrapped: _FunctionSolver(form, wrapped, cones, taken)
    return _FunctionSolver(form, function, cones, taken)


def box_solver(function: Function | None = None, *, matrices: str = "dense") -> Any:
    """Turn ``(P, q, A, l, u, options) -> x, y`` into a solver (y > 0 at u, y < 0 at l).

    Matrices come as ndarrays, or CSC with ``matrices="sparse"``. A `Status`, or the vendor's own
    words for one (`Status.read`), may follow as a third value. The result goes wherever a solver
    does: ``solver=mine``.
    """
    return _decorate("box", function, POLYHEDRAL, matrices)


def split_solver(function: Function | None = None, *, matrices: str = "dense") -> Any:
    """Turn ``(P, q, G, h, A, b, options) -> x, z_ineq, y_eq`` into a solver (Gx <= h, Ax = b).

    Rows with h = inf come as 0'x <= 1: their multiplier is 0. As for all of these decorators, a
    `Status` may follow, or the vendor's own words for one (`Status.read`).
    """
    return _decorate("split", function, POLYHEDRAL, matrices)


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
    return _decorate("cone", function, cones, matrices)


def smooth_solver(
    function: Function | None = None,
    *,
    constraints: Collection[str] = CONSTRAINTS,
) -> Any:
    """Turn ``(problem, start, options) -> y`` into a solver of functions (see `SmoothForm`).

    It may return ``(y, duals)`` with ``duals = (z_ineq, z_eq, z_lower, z_upper)``, or None for
    these: then they are computed from y. A `Status` may follow. ``constraints`` are the kinds that
    it takes.
    """
    if not set(constraints) <= set(CONSTRAINTS):
        raise OptionError(
            f"constraints={constraints!r}; expected of {', '.join(map(repr, CONSTRAINTS))}"
        )
    return _decorate("smooth", function, constraints, None)


def register_solver(name: str, solver: Solver | type[Solver]) -> None:
    """Make a solver known by a name in this process; a second call replaces the first.

    Raises
    ------
    DuplicatePluginError
        Where an installed plugin has that name.
    """
    made = solver() if isinstance(solver, type) and issubclass(solver, Solver) else solver
    if not isinstance(made, Solver):
        raise OptionError(
            f"register_solver({name!r}, ...) got a {type(made).__name__}; expected an "
            "ffoadapt.Solver, or a function decorated with ffoadapt.box_solver, split_solver, "
            "conic_solver or smooth_solver"
        )
    registry.add(SolverSpec(name, load=made))
