"""Checks of how a solver behaves: repeatable, side-effect free, sessions, threads, batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from .._exceptions import FFOAdaptError
from .._layers.cone_program import ConeProgram
from .._layers.layer import Layer
from .._plugins.solver import Session, Solver
from .._program.points import Solution, Solutions
from .._solve.options import translate_options
from ._at_once import at_once
from ._point import Point, point_of
from ._problem import Problem
from ._subject import (
    DEFAULT,
    AnySolver,
    CheckFailure,
    CheckSettings,
    CheckSkipped,
    call,
    require,
    view_of,
)

__all__ = [
    "check_batch",
    "check_determinism",
    "check_inputs_unmodified",
    "check_session",
    "check_solve_batch",
    "check_threads",
    "check_warm_start",
]


TRIES = 3
"""Some vendors' last digit differs once in thousands of solves, whatever they are given; what the
session holds makes itself felt in every one."""


def check_determinism(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Two solves of equal programs in fresh sessions give equal bits."""
    loaded, name = require(solver, problem)

    def solved() -> Point:
        view = view_of(loaded, problem.program())
        return point_of(view, call(loaded, name, view, settings))

    first = second = solved()
    for _ in range(TRIES):
        second = solved()
        if _same_point(first, second):
            break
    for what in ("x", "dual"):
        a, b = getattr(first, what), getattr(second, what)
        if not np.array_equal(a, b):
            raise CheckFailure(
                f"two solves of one program gave two answers: {what} differs by "
                f"{np.abs(a - b).max():.3g}. Expected equal bits. Likely cause: random numbers "
                "without a fixed seed, a time-based rule, or state kept outside of the session"
            )


def check_inputs_unmodified(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """The arrays of the program are the same bits after the solve."""
    loaded, name = require(solver, problem)
    view = view_of(loaded, problem.program())
    known = ("P", "q", "A", "b", "G", "h", "l", "u", "_cholesky")
    names = [k for k in known if getattr(view, k, None) is not None]
    before = {k: copy.deepcopy(getattr(view, k)) for k in names}
    for k in names:  # not the read-only arrays: compiled code can write to those too
        setattr(view, k, copy.deepcopy(before[k]))
    point_of(view, call(loaded, name, view, settings))
    for k in names:
        if getattr(view, k) is None or not _same_bits(before[k], getattr(view, k)):
            raise CheckFailure(
                f"the solve changed {k} of the program that it was given; all elements of a batch "
                f"may share that array. Work on a copy ({k}.copy())"
            )


def _same_bits(before: Any, after: Any) -> bool:
    if sparse.issparse(before):
        parts = ("data", "indices", "indptr")
        return all(np.array_equal(getattr(before, k), getattr(after, k)) for k in parts)
    return np.array_equal(before, after)


def _same_point(one: Point, other: Point) -> bool:
    return np.array_equal(one.x, other.x) and np.array_equal(one.dual, other.dual)


def check_session(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """A filled session, given other numbers of its structure, gives the bits of a fresh one."""
    loaded, name = require(solver, problem)
    session = Session()
    first, again = (
        _solve_in(loaded, name, problem.program(), settings, at) for at in (session, Session())
    )
    # Random numbers are what `check_determinism` is there to tell.
    limit = 0.0 if np.array_equal(first.x, again.x) else _limit(settings)
    for what, program in _changes(problem, settings):
        for _ in range(TRIES):
            reused = _solve_in(loaded, name, program, settings, session)
            fresh = _solve_in(loaded, name, program, settings, Session())
            if _same_point(reused, fresh):
                break
        _agree(
            reused,
            fresh,
            limit,
            f"after {what}, a solve with the filled session gave another answer than one with a "
            "fresh session",
            "the session keeps numbers of an earlier call (a workspace that was not updated with "
            "all of P, q, A and the bounds, or whose scaling stems from earlier ones), or returns "
            "the earlier solution; only where session.warm_start is not None may a result depend "
            "on earlier calls",
        )


def check_warm_start(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Where each solve may start from the last one, a sequence of programs has the same answers."""
    loaded, name = require(solver, problem)
    session = Session()
    view = view_of(loaded, problem.program())
    session.warm_start = call(loaded, name, view, settings, session)
    everything = _variant(problem, settings, 99)
    # The first warm solve may fill the session and only the next ones use what it holds.
    for what, program in [everything, *_changes(problem, settings), everything]:
        view = view_of(loaded, program)
        solution = call(loaded, name, view, settings, session)
        _agree(
            point_of(view, solution),
            _solve_in(loaded, name, program, settings, Session()),
            _limit(settings),
            f"after {what}, a solve that may start from an earlier solution gave another answer "
            "than a cold one",
            "the start is returned as it is, its dual is given to the vendor with another sign, or "
            "a workspace in the session was not updated with all of P, q, A and the bounds",
        )
        session.warm_start = solution


def _changes(problem: Problem, settings: CheckSettings) -> list[tuple[str, ConeProgram]]:
    """Programs of the structure of a problem, and in words what has changed."""
    data = [k for k, v in problem.data.items() if v is not None]
    bounds = [k for k in data if k in ("l", "u")]
    names = [("q",), tuple(bounds or ("b",)), ("P",), ("A",), ("G",), ("h",)]
    names = [some for some in names if set(some) <= set(data)] + [tuple(data)]
    variants = [_variant(problem, settings, k, *some) for k, some in enumerate(names)]
    if "h" in data and np.isinf(h := problem.data["h"]).any():
        far = problem.program(h=np.minimum(h, 1e3))
        variants.append(("infinite bounds became finite", far))
    return [*variants, ("the first numbers came back", problem.program())]


def _variant(
    problem: Problem, settings: CheckSettings, salt: int, *names: str
) -> tuple[str, ConeProgram]:
    moved = problem.variant(settings.rng(1, salt), *names)
    return f"{', '.join(moved)} changed", problem.program(**moved)


def check_threads(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """Several solves at once, each in a session of its own, give what one after the other gives."""
    loaded, name = require(solver, problem)
    threads, rounds = 4, 12
    programs = [problem.program(**problem.variant(settings.rng(3, k))) for k in range(threads)]
    views = [view_of(loaded, program) for program in programs]
    alone = [_solve_in(loaded, name, program, settings, Session()) for program in programs]
    cause = (
        "state on the solver object or in a module; keep it in the session or in local variables"
    )

    def work(view: Any) -> list[Point]:
        session = Session()
        solutions = [call(loaded, name, view, settings, session) for _ in range(rounds)]
        return [point_of(view, solution) for solution in solutions]

    together = at_once([partial(work, view) for view in views], cause)
    for k, points in enumerate(together):
        for point in points:
            what = f"{threads} solves at once gave another answer than one after the other"
            _agree(point, alone[k], _limit(settings), what, cause)


def check_batch(solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT) -> None:
    """A batch gives what its elements give one by one, values and gradients."""
    loaded, _ = require(solver, problem)
    program = problem.program()
    layer = Layer(program.model, solver=solver, solver_options=settings.options(loaded))
    elements = [problem.program(**problem.variant(settings.rng(4, k))).values for k in range(4)]
    try:
        together = layer.solve(*(np.stack(parts) for parts in zip(*elements, strict=True)))
        gradients = together.vjp(*(np.ones_like(v) for v in together.variables))
        for i, values in enumerate(elements):
            alone = layer.solve(*values)
            parts = [v[i] for v in together.variables]
            _close_arrays("output", parts, alone.variables, i, settings)
            single = alone.vjp(*(np.ones_like(v) for v in alone.variables))
            _close_arrays("gradient", [g[i] for g in gradients], single, i, settings)
    except FFOAdaptError as error:
        raise CheckFailure(f"a batch of four solvable programs failed: {error}") from error


def check_solve_batch(
    solver: AnySolver, problem: Problem, settings: CheckSettings = DEFAULT
) -> None:
    """Where a solver takes a batch at once, an element has the bits that ``solve`` gives alone."""
    loaded, name = require(solver, problem)
    if type(loaded).solve_batch is Solver.solve_batch:
        raise CheckSkipped("it has no solve_batch")
    programs = [problem.program(**problem.variant(settings.rng(5, k))) for k in range(4)]
    views = [view_of(loaded, program) for program in programs]
    if not isinstance(views[0].P, np.ndarray):
        raise CheckSkipped("it is given sparse matrices here, and these one by one")
    arrays = {f.name: [getattr(view, f.name) for view in views] for f in fields(views[0])}
    whole = copy.copy(views[0])
    for k, v in arrays.items():
        if isinstance(v[0], np.ndarray):
            setattr(whole, k, np.stack(v))
    options = translate_options(loaded, name, settings.options(loaded))
    for _ in range(TRIES):
        together = loaded.solve_batch(whole, options, Session())
        if together is None:
            raise CheckSkipped("solve_batch leaves these programs to solve")
        alone = [point_of(view, call(loaded, name, view, settings)) for view in views]
        elements = [_element(views[0].name, together, i) for i in range(len(views))]
        points = [point_of(view, one) for view, one in zip(views, elements, strict=True)]
        if all(map(_same_point, points, alone)):
            break
    for i, (point, single) in enumerate(zip(points, alone, strict=True)):
        what = f"element {i} of four has another answer in solve_batch than in solve"
        _agree(point, single, 0.0, what, "another algorithm or order of sums, or a wrong stride")


def _element(form: str, solutions: Solutions, i: int) -> Solution:
    dual = solutions.dual
    own = tuple(part[i] for part in dual) if form == "split" else dual[i]
    return Solution(solutions.x[i], own, None, solutions.status[i], solutions.info[i])


def _close_arrays(
    what: str, batch: Sequence[Any], single: Sequence[Any], i: int, settings: CheckSettings
) -> None:
    for k, (a, b) in enumerate(zip(batch, single, strict=True)):
        limit = 1000 * settings.tolerance * max(1.0, float(np.abs(b).max(initial=0.0)))
        error = float(np.abs(a - b).max(initial=0.0))
        if not error <= limit:
            raise CheckFailure(
                f"{what} {k} of batch element {i} differs by {error:.3g} from the same program "
                f"solved alone; expected at most {limit:.1g}. Likely cause: the vendor takes the "
                "strided arrays of a batch for contiguous ones (np.ascontiguousarray), the session "
                "carries numbers from one element to the next, or threads disturb each other"
            )


def _solve_in(
    solver: Any, name: str, program: Any, settings: CheckSettings, session: Session
) -> Point:
    view = view_of(solver, program)
    return point_of(view, call(solver, name, view, settings, session))


def _limit(settings: CheckSettings) -> float:
    return 100 * settings.tolerance


def _agree(seen: Point, wanted: Point, limit: float, what: str, cause: str) -> None:
    """``limit`` is relative to the size of the point; 0 asks for equal bits."""
    limit *= wanted.size
    for name in ("x", "dual"):
        error = float(np.abs(getattr(seen, name) - getattr(wanted, name)).max(initial=0.0))
        if not error <= limit:
            raise CheckFailure(
                f"{what}: {name} differs by {error:.3g}, expected at most {limit:.1g}. "
                f"Likely cause: {cause}"
            )
