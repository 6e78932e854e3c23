"""Finding a solver: by its name, its class, or as it is; and that it has what a program needs."""

from __future__ import annotations

from typing import Any

from .._exceptions import OptionError, UnsupportedProblemError
from .._plugins.registry import registry
from .._plugins.solver import Solver
from .._program.structure import Structure

__all__ = ["able_solvers", "find_solver", "instance"]


def find_solver(solver: str | Solver | type[Solver], structure: Structure) -> tuple[Solver, str]:
    """The solver object and its name; checks that it has the cones of the program."""
    if isinstance(solver, str):
        solver = registry.spelled("solver", solver)
        spec = registry.spec("solver", solver)
        if spec is not None and spec.form == "smooth":
            raise UnsupportedProblemError(_of_functions(solver, structure))
        if spec is not None and spec.cones is not None and not structure.kinds <= spec.cones:
            raise UnsupportedProblemError(_lacks(solver, spec.cones, structure))
        chosen, name = registry.get("solver", solver), solver
    else:
        chosen = instance(solver) if isinstance(solver, type) else solver
        if not isinstance(chosen, Solver):
            raise OptionError(
                f"solver={solver!r} is a {type(chosen).__name__}; expected a name, an "
                "ffoadapt.Solver, or a function decorated with ffoadapt.box_solver, split_solver "
                "or conic_solver"
            )
        name = chosen.name or type(chosen).__name__
    if chosen.form == "smooth":
        raise UnsupportedProblemError(_of_functions(name, structure))
    if not structure.kinds <= frozenset(chosen.cones):
        raise UnsupportedProblemError(_lacks(name, chosen.cones, structure))
    return chosen, name


def instance(solver: type[Any]) -> Any:
    """An object of a solver's class."""
    try:
        return solver()
    except Exception as error:
        raise OptionError(
            f"solver={solver.__qualname__} could not be made without arguments: "
            f"{type(error).__name__}: {error}. Give an instance of it"
        ) from error


def _of_functions(name: str, structure: Structure) -> str:
    return (
        f"the solver {name!r} takes functions, not matrices: it serves ffoadapt.smooth. Installed "
        f"solvers that would do: {able_solvers(structure)}"
    )


def _lacks(name: str, cones: Any, structure: Structure) -> str:
    lacking = sorted(structure.kinds - frozenset(cones))
    return (
        f"the solver {name!r} does not support the cones {lacking} of this program; it has "
        f"{sorted(cones)}. Installed solvers that would do: {able_solvers(structure)}"
    )


def able_solvers(structure: Structure) -> str:
    """The installed solvers of such programs, in words."""
    able = registry.having(structure.kinds)
    return ", ".join(sorted(able)) or "none (try pip install ffoadapt-clarabel)"
