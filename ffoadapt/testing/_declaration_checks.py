"""Checks of what a solver declares: its view, cones, options, and how it is registered."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError, OptionError
from .._plugins.registry import registry
from .._plugins.solver import OBJECTIVES, Solver
from .._program.points import Status
from .._solve.options import COMMON_OPTIONS, common_names, translate_options
from ._point import Point, point_of
from ._problem import Problem
from ._problems import problems
from ._subject import (
    DEFAULT,
    AnySolver,
    CheckFailure,
    CheckSettings,
    CheckSkipped,
    call,
    load,
    require,
    view_of,
)

__all__ = [
    "check_common_options",
    "check_declarations",
    "check_declared_cones",
    "check_discovery",
    "check_lazy_import",
    "check_quiet",
    "check_tolerance",
    "check_unknown_option",
    "imports_of_registration",
    "judge_options",
    "judge_silence",
    "subset",
]

_KINDS = ("zero", "nonnegative", "second_order", "psd", "exponential", "power")
_SMALLEST = {
    "zero": "equality_only",
    "nonnegative": "simplex",
    "second_order": "soc_projection",
    "psd": "psd_projection",
    "exponential": "entropy",
    "power": "power",
}


def check_declarations(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """form, cones, matrices, objectives, common_options and defaults hold what they may hold."""
    loaded, _ = load(solver)
    known = loaded.known_options()
    subset("form", [loaded.form], ("box", "split", "cone"))
    subset("cones", loaded.cones, _KINDS)
    subset("matrices", loaded.matrices, ("dense", "sparse"))
    subset("common_options", loaded.common_options, COMMON_OPTIONS)
    subset("objectives", loaded.objectives, OBJECTIVES)
    if not loaded.matrices:
        raise CheckFailure("matrices is empty; expected 'dense', 'sparse' or both")
    if not loaded.objectives:
        raise CheckFailure(f"objectives is empty; expected some of {', '.join(OBJECTIVES)}")
    if loaded.form != "cone" and set(loaded.cones) - {"zero", "nonnegative"}:
        raise CheckFailure(
            f"form is {loaded.form!r}, whose view has no cones, but cones declares "
            f"{sorted(loaded.cones)}"
        )
    if known is not None:
        own = [name for names in common_names(loaded).values() for name in names]
        subset("common_options (its values)", own, known)
        subset("defaults", loaded.defaults, known)


def subset(what: str, seen: object, allowed: object) -> None:
    """Raise where a declaration holds what it may not."""
    odd = sorted(set(seen) - set(allowed))  # type: ignore[call-overload]
    if odd:
        raise CheckFailure(
            f"{what} holds {', '.join(map(repr, odd))}; expected some of "
            f"{', '.join(map(repr, allowed))}"  # type: ignore[call-overload]
        )


def check_declared_cones(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """For each declared cone, the smallest problem that has it is solved, not refused."""
    loaded, name = load(solver)
    by_name = {problem.name: problem for problem in problems(settings.seed)}
    for kind in sorted(set(loaded.cones) & set(_KINDS)):
        problem = by_name[_SMALLEST[kind]]
        if not problem.kinds <= frozenset(loaded.cones):
            continue
        if problem.objective_kind not in loaded.objectives:
            continue
        try:
            view = view_of(loaded, problem.program())
            solution = call(loaded, name, view, settings)
        except (CheckFailure, FFOAdaptError) as error:
            raise CheckFailure(
                f"it declares the cone {kind!r} but fails on the smallest problem that has it "
                f"({problem.name}): {error}"
            ) from error
        if solution.status is Status.ERROR:
            raise CheckFailure(
                f"it declares the cone {kind!r} but ends with Status.ERROR on the smallest problem "
                f"that has it ({problem.name}): {dict(solution.info)}. Declare what it supports"
            )


def check_tolerance(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """A tighter ``tolerance`` gives an answer that is as much more accurate, down to 1e-8."""
    loaded, name = require(solver, problem)
    if "tolerance" not in common_names(loaded):
        raise CheckSkipped("it does not declare the common option 'tolerance'")
    errors = {}
    for tolerance in (1e-3, 1e-8):
        view = view_of(loaded, problem.program())
        errors[tolerance] = _error(
            point_of(view, call(loaded, name, view, settings, tolerance=tolerance))
        )
        limit = 100 * tolerance
        if not errors[tolerance] <= limit:
            seen = ", ".join(f"{e:.1e} at {t:g}" for t, e in errors.items())
            raise CheckFailure(
                f"asked for tolerance={tolerance:g}, the point violates the optimality conditions "
                f"by more than {limit:g}: {seen}. Likely cause: the option is not passed on, or "
                "common_options names only some of the vendor's tolerances"
            )


def _error(point: Point) -> float:
    parts = (point.primal_violation(), point.dual_violation(), point.gradient + point.pull)
    return max(float(np.abs(part).max(initial=0.0)) for part in parts) / point.size


def check_common_options(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Each declared common option is accepted by the solver itself."""
    loaded, name = require(solver, problem)

    def solved(**options: Any) -> Point:
        view = view_of(loaded, problem.program())
        return point_of(view, call(loaded, name, view, settings, **options))

    judge_options(loaded, solved)


def judge_options(solver: Solver, solved: Callable[..., object]) -> None:
    """Whether a solve with each declared common option gives a point."""
    common = common_names(solver)
    if not common:
        raise CheckSkipped("it declares no common options")
    values: dict[str, Any] = {
        "tolerance": 1e-6,
        "max_iterations": 1000,
        "time_limit": 60.0,
        "verbose": False,
    }
    for option in common:
        try:
            solved(**{option: values[option]})
        except CheckFailure as error:
            raise CheckFailure(
                f"with {option}={values[option]!r}, which it declares to have, the solve failed: "
                f"{error}"
            ) from error


def check_quiet(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """Nothing is printed unless the user asks for it (``verbose``)."""
    loaded, name = require(solver, problem)
    view = view_of(loaded, problem.program())
    judge_silence(lambda: call(loaded, name, view, settings))


def judge_silence(solve: Callable[[], object]) -> None:
    """Whether a solve prints nothing."""
    with printed() as seen:
        solve()
    text = seen[0].decode(errors="replace").strip()
    if text:
        raise CheckFailure(
            f"the solve printed {text[:200]!r}; expected silence. Set the vendor's verbosity in "
            "`defaults`"
        )


@contextlib.contextmanager
def printed() -> Iterator[list[bytes]]:
    """What is written to stdout and stderr: through sys, and to their file descriptors (C)."""
    try:
        flush = ctypes.CDLL(None).fflush
    except (TypeError, OSError) as error:  # Windows
        raise CheckSkipped("what C code prints cannot be captured on this platform") from error
    seen = [b""]
    sys.stdout.flush()
    sys.stderr.flush()
    flush(None)
    kept = {fd: os.dup(fd) for fd in (1, 2)}
    with tempfile.TemporaryFile() as file:
        words = io.StringIO()
        try:
            for fd in kept:
                os.dup2(file.fileno(), fd)
            with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
                yield seen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            flush(None)
            for fd, original in kept.items():
                os.dup2(original, fd)
                os.close(original)
        file.seek(0)
        seen[0] = words.getvalue().encode() + file.read()


def check_unknown_option(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """A misspelled option is an error that lists the known ones."""
    loaded, name = load(solver)
    if loaded.known_options() is None:
        raise CheckSkipped("known_options() is None: it lets every option pass")
    try:
        translate_options(loaded, name, {"no_such_option_anywhere": 1})
    except OptionError:
        return
    raise CheckFailure(
        "the option 'no_such_option_anywhere' was accepted; expected an OptionError. Likely cause: "
        "known_options() returns a container that holds everything"
    )


def check_discovery(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """A named solver comes from an installed distribution, is ready, and loads at first use."""
    if not isinstance(solver, str):
        raise CheckSkipped("it is an object, not the name of an installed solver")
    rows = [r for r in registry.listing() if r.kind == "solver" and r.name == solver]
    if rows and rows[0].distribution == "(this process)":
        raise CheckSkipped("it was registered at run time")
    if not rows or rows[0].state != "ready" or rows[0].spec is None:
        detail = f"{rows[0].state}: {rows[0].detail}" if rows else "not found"
        raise CheckFailure(
            f"ffoadapt.plugins() lists the solver {solver!r} as {detail}; expected 'ready'. Likely "
            "cause: no entry point of the group 'ffoadapt', or the package is not installed"
        )
    if not isinstance(rows[0].spec.load, str):
        raise CheckFailure(
            f"the record of {solver!r} holds {rows[0].spec.load!r}; expected "
            "'package.module:attribute', so that listing plugins imports no solver"
        )


def check_lazy_import(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """Registering and listing a named solver imports neither the vendor nor the adapter."""
    check_discovery(solver, settings)
    spec = registry.specs("solver")[str(solver)]
    heavy = imports_of_registration((*spec.requires, spec.load.partition(":")[0]))
    if heavy:
        raise CheckFailure(
            f"listing the installed solvers imported {', '.join(heavy)}; expected that only the "
            "first use does. Import the vendor in the module that SolverSpec.load names, and keep "
            "the entry point's module free of it"
        )


def imports_of_registration(modules: tuple[str, ...]) -> list[str]:
    """Which of these modules a fresh process imports when it lists the plugins.

    Not counted is what ffoadapt imports itself once a name of it is used (numpy, scipy).
    """
    script = (
        "import sys, ffoadapt; ffoadapt.qp; before = set(sys.modules); ffoadapt.plugins(); "
        f"print(*(m for m in {tuple(modules)!r} if m in sys.modules and m not in before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        raise CheckFailure(f"a fresh process could not list the plugins: {done.stderr[-2000:]}")
    return done.stdout.split()
