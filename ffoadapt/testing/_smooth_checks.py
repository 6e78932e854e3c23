"""The checks of solvers of functions (``form = "smooth"``), by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._exceptions import FFOAdaptError
from .._plugins.registry import registry
from .._plugins.solver import Session, Solver
from .._program.points import Status
from .._runtime.text import told
from .._smooth.solving import Run
from .._solve.options import COMMON_OPTIONS, common_names, translate_options
from ._at_once import at_once
from ._declaration_checks import printed, subset
from ._smooth_point import PARTS, SmoothPoint, limit_of, smooth_call, smooth_point, smooth_require
from ._smooth_problem import SmoothProblem
from ._smooth_problems import smooth_problems
from ._status_checks import judge_status
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped, load

__all__: list[str] = []

Floats = NDArray[np.float64]

KINDS = ("bounds", "inequalities", "equalities")
_SMALLEST = {"bounds": "box", "inequalities": "ball", "equalities": "plane"}

LIMIT, PAUSE, GRACE = 0.2, 0.05, 1.5
"""Seconds: the time limit, how long an evaluation takes, how much later a solve may end. No solver
is done after four evaluations."""


def solved_point(
    solver: AnySolver,
    problem: SmoothProblem,
    settings: CheckSettings,
    session: Session | None = None,
    **options: Any,
) -> SmoothPoint:
    """The point that the solver returns for a problem."""
    found, name = smooth_require(solver, problem)
    form = problem.form()
    return smooth_point(form, smooth_call(found, name, form, settings, session, **options))


# ------------------------------------------------------------------------- what is declared


def check_declarations(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """form, cones (the kinds of constraints), options and the record hold what they may hold."""
    found, _ = load(solver)
    subset("form", [found.form], ("smooth",))
    subset("cones", found.cones, KINDS)
    subset("common_options", found.common_options, COMMON_OPTIONS)
    if found.matrices and any(found.matrices):
        raise CheckFailure(
            f"matrices is {sorted(found.matrices)}; expected (), for it is given functions"
        )
    known = found.known_options()
    if known is not None:
        own = [word for words in common_names(found).values() for word in words]
        subset("common_options (its values)", own, known)
        subset("defaults", found.defaults, known)
    spec = registry.specs("solver").get(solver) if isinstance(solver, str) else None
    if spec is not None:
        subset("speed", {column for column, _ in spec.speed}, ("smooth", "bounds"))


def check_declared_kinds(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """For each declared kind of constraint, the smallest problem that has it is solved."""
    found, _ = load(solver)
    by_name = {problem.name: problem for problem in smooth_problems(settings.seed)}
    for kind in KINDS:
        if kind in found.cones:
            problem = by_name[_SMALLEST[kind]]
            try:
                point = solved_point(solver, problem, settings)
                violation, what = point.feasibility()
            except CheckFailure as failure:
                raise CheckFailure(
                    f"it declares {kind!r} but fails on the smallest problem that has them "
                    f"({problem.name}): {failure}"
                ) from failure
            if not violation <= limit_of(settings):
                raise CheckFailure(
                    f"it declares {kind!r}, but on {problem.name} {what} is violated by "
                    f"{violation:.3g}. Declare what it supports"
                )


def check_common_options(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Each declared common option is accepted by the solver itself."""
    found, _ = smooth_require(solver, problem)
    common = common_names(found)
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
            solved_point(solver, problem, settings, **{option: values[option]})
        except CheckFailure as error:
            raise CheckFailure(
                f"with {option}={values[option]!r}, which it declares to have, the solve failed: "
                f"{error}"
            ) from error


def check_quiet(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Nothing is printed unless the user asks for it (``verbose``)."""
    found, name = smooth_require(solver, problem)
    form = problem.form()
    with printed() as seen:
        smooth_call(found, name, form, settings)
    text = seen[0].decode(errors="replace").strip()
    if text:
        raise CheckFailure(
            f"the solve printed {text[:200]!r}; expected silence. Set the vendor's verbosity in "
            "`defaults`"
        )


def check_tolerance(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A tighter ``tolerance`` gives an answer that is no less accurate."""
    found, _ = smooth_require(solver, problem)
    if "tolerance" not in common_names(found):
        raise CheckSkipped("it does not declare the common option 'tolerance'")
    errors = {
        tolerance: solved_point(solver, problem, settings, tolerance=tolerance).stationarity()
        for tolerance in (1e-3, 1e-9)
    }
    limit = limit_of(settings)
    if not errors[1e-9] <= min(limit, max(1e-7, errors[1e-3])):
        seen = ", ".join(f"{e:.1e} at {t:g}" for t, e in errors.items())
        raise CheckFailure(
            f"the point violates stationarity by {seen}; expected less with the smaller tolerance, "
            f"and at most {limit:g}. Likely cause: the option is not passed on, or means something "
            "else to the vendor"
        )


# ----------------------------------------------------------------------------- the point


def check_solved(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A problem with a solution gets an optimal status, arrays of the right shape, numbers."""
    solved_point(solver, problem, settings)


def check_feasibility(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The inequalities, equalities and bounds hold at y."""
    violation, what = solved_point(solver, problem, settings).feasibility()
    if not violation <= settings.tolerance:
        raise CheckFailure(
            f"under an optimal status {what} is violated by {violation:.3g}, relative to the size "
            f"of y; expected at most {settings.tolerance:g}. Likely cause: the sign of the "
            "inequalities, or a vendor's status that means no success"
        )


def check_dual_sign(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The multipliers enter with grad g + J_h'z_ineq + J_e'z_eq - z_lower + z_upper = 0."""
    point = _with_duals(solver, problem, settings)
    right = point.stationarity()
    if right <= limit_of(settings):
        return
    for name in PARTS:
        if point.stationarity(flipped=name) <= max(limit_of(settings), 1e-3 * right):
            raise CheckFailure(
                f"{name} has the opposite sign: the gradient of the Lagrangian is {right:.3g}, and "
                f"{point.stationarity(flipped=name):.1e} with the sign changed"
            )
    signs = {k: -v for k, v in point.duals.items()}
    flipped = SmoothPoint(point.form, point.y, signs)
    if flipped.stationarity() <= max(limit_of(settings), 1e-3 * right):
        raise CheckFailure("all multipliers have the opposite sign")


def check_dual_feasibility(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Multipliers of inequalities and of bounds are not negative."""
    negative, name = _with_duals(solver, problem, settings).negative()
    if not negative <= limit_of(settings):
        raise CheckFailure(f"{name} has the entry -{negative:.3g} (relative); expected 0 or more")


def check_complementarity(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Slack times multiplier is zero in every row and bound."""
    product, name = _with_duals(solver, problem, settings).complementarity()
    if not product <= limit_of(settings):
        raise CheckFailure(
            f"an entry of {name} times its slack is {product:.3g}, relatively; expected at most "
            f"{limit_of(settings):g}. Likely cause: multipliers in another order than the rows"
        )


def _with_duals(solver: AnySolver, problem: SmoothProblem, settings: CheckSettings) -> SmoothPoint:
    point = solved_point(solver, problem, settings)
    if point.given is None:
        raise CheckSkipped("it returns no multipliers: they are found by least squares")
    return point


def check_stationarity(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The gradient of the Lagrangian is zero, with the multipliers or those of least squares."""
    error = solved_point(solver, problem, settings).stationarity()
    if not error <= limit_of(settings):
        raise CheckFailure(
            f"under an optimal status the gradient of the Lagrangian is {error:.3g}, relative to "
            f"its terms; expected at most {limit_of(settings):g}. Likely cause: a loose default "
            "tolerance, a vendor's status that means no success, or multipliers of another order"
        )


def check_solution(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """y and the multipliers are the known ones (of problems that have one of each)."""
    point = solved_point(solver, problem, settings)
    exact = {"y": problem.y, **problem.duals}
    seen = {"y": point.y, **(point.given or {})}
    for name, value in seen.items():
        want = exact[name]
        assert want is not None
        error = float(np.abs(value - want).max(initial=0.0))
        limit = limit_of(settings) * max(1.0, float(np.abs(want).max(initial=0.0)))
        if not error <= limit:
            raise CheckFailure(f"{name} is off by {error:.3g}, expected at most {limit:.1g}")


# -------------------------------------------------------------------------- how it behaves


def check_inputs_unmodified(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """The start and the bounds are the same bits after the solve."""
    found, name = smooth_require(solver, problem)
    form = problem.form()
    before = {k: getattr(form, k).copy() for k in ("start", "lower", "upper")}
    for k in before:  # read-only for a solver that asks; compiled code does not
        getattr(form, k).flags.writeable = True
    smooth_call(found, name, form, settings)
    for k, array in before.items():
        if not np.array_equal(getattr(form, k), array):
            raise CheckFailure(
                f"the solve changed {k}, which others may share; work on a copy ({k}.copy())"
            )


def check_determinism(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Two solves of equal programs in fresh sessions give equal bits."""
    first, second = (solved_point(solver, problem, settings, Session()) for _ in range(2))
    _agree(second, first, 0.0, "equal programs have different answers", "random numbers, or state")


def check_session(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """What a solver saw before, in the same session or not, changes no answer."""
    found, name = smooth_require(solver, problem)
    other = _variant(problem, settings, 1)
    session = Session()

    def solved(some: SmoothProblem, at: Session) -> SmoothPoint:
        form = some.form()
        return smooth_point(form, smooth_call(found, name, form, settings, at))

    first, again = solved(problem, session), solved(problem, Session())
    limit = 0.0 if np.array_equal(first.y, again.y) else limit_of(settings)
    cause = (
        "numbers of an earlier call are kept, in the session, on the solver object or in a module; "
        "only the start that it is given may say where to begin"
    )
    reused, fresh = solved(other, session), solved(other, Session())
    error = reused.stationarity()
    if other.regular and not error <= limit_of(settings):
        raise CheckFailure(
            f"after another program, the answer violates stationarity by {error:.3g}. Likely "
            f"cause: {cause}"
        )
    what = "a solve with a filled session has another answer than one with a fresh session"
    _agree(reused, fresh, limit, what, cause)
    what = "after another program, the first one has another answer"
    _agree(solved(problem, Session()), first, limit, what, cause)


def check_threads(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Several solves at once, each in a session of its own, give what one after the other gives."""
    found, name = smooth_require(solver, problem)
    threads, rounds = 4, 3
    programs = [_variant(problem, settings, k) for k in range(threads)]

    def solved(some: SmoothProblem) -> SmoothPoint:
        form = some.form()
        return smooth_point(form, smooth_call(found, name, form, settings))

    alone = [solved(program) for program in programs]
    cause = "state on the solver object or in a module; keep it in local variables"

    def work(program: SmoothProblem) -> list[SmoothPoint]:
        return [solved(program) for _ in range(rounds)]

    together = at_once([partial(work, program) for program in programs], cause)
    for single, points in zip(alone, together, strict=True):
        for point in points:
            what = f"{threads} solves at once gave another answer than one after the other"
            _agree(point, single, limit_of(settings), what, cause)


def _variant(problem: SmoothProblem, settings: CheckSettings, k: int) -> SmoothProblem:
    """The problem with the numbers of another seed."""
    others = smooth_problems(settings.seed + 1000 * k)
    return next(other for other in others if other.name == problem.name)


def _agree(seen: SmoothPoint, wanted: SmoothPoint, limit: float, what: str, cause: str) -> None:
    """``limit`` is relative to the size of each array; 0 asks for equal bits."""
    pairs = {"y": (seen.y, wanted.y)}
    for name in PARTS if seen.given and wanted.given else ():
        pairs[name] = (seen.duals[name], wanted.duals[name])
    for name, (a, b) in pairs.items():
        error = float(np.abs(a - b).max(initial=0.0))
        allowed = limit * max(1.0, float(np.abs(b).max(initial=0.0)))
        if not error <= allowed:
            raise CheckFailure(
                f"{what}: {name} differs by {error:.3g}, expected at most {allowed:.1g}. Likely "
                f"cause: {cause}"
            )


# ------------------------------------------------------------------------------- statuses


def check_status(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """An infeasible or unbounded problem is called so; never solved, never the other of the two.

    A solver that only says that it found nothing (a limit, an error) does not fail: it is skipped.
    """
    found, name = smooth_require(solver, problem)
    more: dict[str, Any] = (
        {"max_iterations": 200} if "max_iterations" in common_names(found) else {}
    )
    seen = smooth_call(found, name, problem.form(), settings, **more).status
    advice = (
        "`SmoothForm.violation` says whether a point that a solver stopped at holds the constraints"
    )
    judge_status(seen, problem.about, problem.status, advice)


def check_iteration_limit(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """With max_iterations=1 the status is ITERATION_LIMIT, or the point really is a solution."""
    found, name = smooth_require(solver, problem)
    if "max_iterations" not in common_names(found):
        raise CheckSkipped("it does not declare the common option 'max_iterations'")
    form = problem.form()
    solution = smooth_call(found, name, form, settings, max_iterations=1)
    if not solution.status.solved:
        if solution.status is not Status.ITERATION_LIMIT:
            raise CheckFailure(
                f"with max_iterations=1 the status is {solution.status.value!r}; expected "
                "'iteration_limit', by which users know to raise the limit"
            )
        return
    point = smooth_point(form, solution)
    worst = max(point.stationarity(), point.feasibility()[0])
    if not worst <= limit_of(settings):
        raise CheckFailure(
            f"with max_iterations=1 the status is {solution.status.value!r} but the point violates "
            f"the optimality conditions by {worst:.3g}; expected 'iteration_limit'. Likely cause: "
            "the option is not passed on, or the vendor's status is not translated"
        )


def check_time_limit(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """With slow functions and a time_limit the solve ends then, with the status TIME_LIMIT.

    A solver without that option is ended by the functions, which raise; it lets that through.
    """
    found, name = smooth_require(solver, problem)
    calls: list[float] = []
    start = time.monotonic()

    def slow() -> None:
        calls.append(time.monotonic() - start)
        time.sleep(PAUSE if len(calls) > 8 else 0.0)  # the first ones are the form's own
        if calls[-1] > 10.0 * (LIMIT + GRACE):
            raise RuntimeError("the time limit is long over")

    form = problem.form(slow)
    given = {**settings.solver_options, "time_limit": LIMIT}
    start = time.monotonic()
    run = Run(found, name, translate_options(found, name, given), LIMIT)
    try:
        answer = run(form)
    except RuntimeError as error:
        raise CheckFailure(_late(time.monotonic() - start)) from error
    took = time.monotonic() - start
    if took > LIMIT + GRACE:
        raise CheckFailure(_late(took))
    if answer.status is not Status.TIME_LIMIT and took > LIMIT:
        raise CheckFailure(
            f"with time_limit={LIMIT:g} the solve took {took:.2g} s and its status is "
            f"{answer.status.value!r}; expected 'time_limit'. Likely cause: the vendor's status is "
            "not translated"
        )


def _late(took: float) -> str:
    return (
        f"with time_limit={LIMIT:g} the solve took {took:.2g} s. Likely cause: the option is not "
        "passed on, or what the functions raise after the limit (TimeLimitError) is caught; let "
        "exceptions of functions end the solve"
    )


def check_errors(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """What a function raises ends the solve and comes out."""
    found, name = smooth_require(solver, problem)
    calls = [0]
    form = problem.form()

    def raising() -> None:
        calls[0] += 1
        if calls[0] > after:
            raise ZeroDivisionError("of the user's function")

    after = 10**9
    form = problem.form(raising)
    after = calls[0] + 4
    run = Run(found, name, translate_options(found, name, settings.solver_options), None)
    try:
        answer = run(form)
    except ZeroDivisionError:
        if calls[0] > after + 50:
            raise CheckFailure(
                f"after a function had raised, it was called {calls[0] - after} more times; "
                "expected that the solve ends"
            ) from None
        return
    except Exception as error:
        raise CheckFailure(
            f"a function raised ZeroDivisionError, and {told(error)} came out"
        ) from error
    raise CheckFailure(
        f"a function raised ZeroDivisionError; expected that it comes out, the status is "
        f"{answer.status.value!r}"
    )


# ------------------------------------------------------------------------ as a user sees it


def check_batch(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """A batch gives what its elements give one by one, values and gradients."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    rng = settings.rng(4)
    tilts = 0.02 * rng.standard_normal((3, problem.n))
    cotangent = rng.standard_normal(problem.n)
    limit = 1e2 * settings.tolerance
    try:
        together = layer.solve({**params, "tilt": tilts})
        gradients = together.vjp(y=np.tile(cotangent, (3, 1)))
        for i, tilt in enumerate(tilts):
            alone = layer.solve({**params, "tilt": tilt})
            _close("y", together.y[i], alone.y, i, limit)
            gradient = alone.vjp(y=cotangent)["tilt"]
            _close("the gradient", gradients["tilt"][i], gradient, i, limit)
    except FFOAdaptError as error:
        raise CheckFailure(f"a batch of three solvable programs failed: {error}") from error


def _close(what: str, seen: Floats, wanted: Floats, i: int, limit: float) -> None:
    error = float(np.abs(seen - wanted).max(initial=0.0))
    if not error <= limit * max(1.0, float(np.abs(wanted).max(initial=0.0))):
        raise CheckFailure(
            f"{what} of batch element {i} differs by {error:.3g} from the same program solved "
            "alone. Likely cause: the solver keeps something from one call to the next"
        )


def check_gradient(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Gradients of a tilt of the objective and of shifts of the rows are differences of solves."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    try:
        found = layer.check_gradients(params, directions=1, seed=settings.seed)
    except FFOAdaptError as error:
        raise CheckFailure(f"a program near a solvable one failed: {error}") from error
    if not found.ok:
        raise CheckFailure(f"the gradient differs from differences of solves: {found}")


def check_verdict(
    solver: AnySolver, problem: SmoothProblem, settings: CheckSettings = DEFAULT
) -> None:
    """Where equalities depend on each other the report says so, whatever the solver returns."""
    smooth_require(solver, problem)
    layer, params = problem.layer(solver, solver_options=settings.solver_options)
    try:
        verdict = layer.solve(params).report().verdict  # type: ignore[union-attr]
    except FFOAdaptError as error:
        raise CheckFailure(f"it is solvable, and failed: {error}") from error
    if verdict != "dependent_constraints":
        raise CheckFailure(f"the verdict is {verdict!r}, expected 'dependent_constraints'")


# --------------------------------------------------------------------- programs at the limit


def smooth_extremes(solver: Solver, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Forms that take a solver to its limits, each with a name: see `check_survives`."""
    rng = np.random.default_rng(seed)
    t = rng.standard_normal(3)
    row = (np.array([t.sum()]), t[None])
    rows: dict[str, dict[str, Any]] = {"none": {}}
    if "bounds" in solver.cones:
        rows["bounds"] = {"lower": np.zeros(3), "upper": np.array([0.0, 1.0, np.inf])}
        rows["fixed"] = {"lower": np.zeros(3), "upper": np.zeros(3)}
    if "inequalities" in solver.cones:
        rows["a row"] = {"inequalities": lambda y: (row[0] + t @ y, row[1])}
        rows["a row of zeros"] = {"inequalities": lambda y: (np.ones(1), np.zeros((1, 3)))}
    if "equalities" in solver.cones:
        eye = np.eye(3)
        more = np.concatenate((eye, eye))
        rows["more equalities than variables"] = {"equalities": lambda y: (more @ y - 1.0, more)}

    def square(scale: float) -> Any:
        return lambda y: (scale * (y - t) @ (y - t), 2.0 * scale * (y - t))

    def holed(value: float) -> Any:
        return lambda y: (
            (value if np.abs(y).max() > 0.1 else (y - t) @ (y - t)),
            (np.full(3, value) if np.abs(y).max() > 0.1 else 2.0 * (y - t)),
        )

    objectives = {f"an objective of {s:g}": square(s) for s in (1e-300, 1e-30, 1e30, 1e150)}
    objectives["a constant"] = lambda y: (0.0, np.zeros(3))
    objectives["NaN beside the start"] = holed(np.nan)
    objectives["infinity beside the start"] = holed(np.inf)
    objectives["no end below"] = lambda y: (-float(y @ y), -2.0 * y)
    for what, objective in objectives.items():
        for with_, constraints in rows.items():
            problem = SmoothProblem("extreme", what, objective, np.zeros(3), **constraints)
            with np.errstate(all="ignore"):
                yield f"{what}, {with_}", problem.form()
