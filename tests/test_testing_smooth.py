"""The conformance kit for solvers of functions: scipy's pass it, and each broken solver fails its
named check.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Solution, Solver, SolverSpec, Status, testing
from ffoadapt._plugins.registry import registry
from ffoadapt._smooth.solvers import LBFGSB, SLSQP
from ffoadapt.testing import CheckFailure, SolverSuite
from ffoadapt.testing._smooth_point import SmoothPoint


class TestSLSQP(SolverSuite):
    solver = "slsqp"


class TestTrustConstr(SolverSuite):
    solver = "trust-constr"


class TestLBFGSB(SolverSuite):
    solver = "l-bfgs-b"


def failing(solver, *checks):
    """The messages of the failing checks, by name; of these checks only."""
    found = {}
    for case in testing.cases(form="smooth"):
        if case.check.name in checks and case.check.name not in found:
            try:
                case.run(solver)
            except testing.CheckSkipped:
                pass
            except CheckFailure as failure:
                found[case.check.name] = str(failure)
    return found


def multipliers(program, y):
    """Nonnegative least-squares multipliers, so that a solver has some to spoil."""
    point = SmoothPoint(program, y, None)
    return tuple(point.duals[name] for name in ("z_ineq", "z_eq", "z_lower", "z_upper"))


class Good(SLSQP):
    """SLSQP with multipliers, which `spoil` spoils."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        if not found.status.solved:
            return found
        solution = Solution(found.x, multipliers(program, found.x), None, found.status, found.info)
        return self.spoil(solution, program)

    def spoil(self, solution, program):
        return solution


@ffoadapt.smooth_solver
def decorated(problem, start, options):
    return SLSQP().solve(problem, SLSQP.defaults, ffoadapt.Session()).x


@pytest.mark.parametrize("solver", [Good, decorated])
def test_good_solvers_pass(solver):
    report = ffoadapt.check_solver(solver, waive={"status": "a function gives no status"})
    assert report.ok, str(report)
    assert sum(result.outcome == "passed" for result in report.results) > 90


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("solver", [Good, "l-bfgs-b"])
def test_other_numbers(solver, seed):
    report = ffoadapt.check_solver(solver, seed=seed)
    assert report.ok, str(report)


# --------------------------------------------------------------------------- broken solvers


class FlippedDual(Good):
    def spoil(self, solution, program):
        return Solution(solution.x, tuple(-z for z in solution.dual), None, solution.status)


class FlippedLower(Good):
    """z_lower comes as the vendor has it, negative."""

    def spoil(self, solution, program):
        ineq, eq, lower, upper = solution.dual
        return Solution(solution.x, (ineq, eq, -lower, upper), None, solution.status)


class FlippedEqualities(Good):
    def spoil(self, solution, program):
        ineq, eq, lower, upper = solution.dual
        return Solution(solution.x, (ineq, -eq, lower, upper), None, solution.status)


class TwiceTheDual(Good):
    def spoil(self, solution, program):
        return Solution(solution.x, tuple(2.0 * z for z in solution.dual), None, solution.status)


class SwappedRows(Good):
    def spoil(self, solution, program):
        ineq, eq, lower, upper = solution.dual
        return Solution(solution.x, (np.roll(ineq, 1), eq, lower, upper), None, solution.status)


class NoMultipliersOfBounds(Good):
    def spoil(self, solution, program):
        ineq, eq, lower, upper = solution.dual
        return Solution(solution.x, (ineq, eq, 0 * lower, 0 * upper), None, solution.status)


class ThreeParts(Good):
    def spoil(self, solution, program):
        return Solution(solution.x, solution.dual[:3], None, solution.status)


class WrongShape(Good):
    def spoil(self, solution, program):
        return Solution(solution.x[:, None], solution.dual, None, solution.status)


class TooShort(Good):
    def spoil(self, solution, program):
        return Solution(solution.x[:-1], solution.dual, None, solution.status)


class HoldsNaN(Good):
    def spoil(self, solution, program):
        return Solution(solution.x * np.nan, solution.dual, None, solution.status)


class LeavesConstraintsOut(LBFGSB):
    """Says that it takes rows, and minimizes without them."""

    cones = ("bounds", "inequalities", "equalities")


class ReversedInequalities(Good):
    """Takes h >= 0 for h <= 0."""

    def solve(self, program, options, session):
        return super().solve(_Reversed(program), options, session)


class _Reversed:
    def __init__(self, program):
        self._program = program

    def __getattr__(self, name):
        return getattr(self._program, name)

    def inequalities(self, y):
        return -self._program.inequalities(y)

    def inequality_jacobian(self, y):
        return -self._program.inequality_jacobian(y)


class StopsEarly(SLSQP):
    """Calls where it is after five iterations a solution."""

    def solve(self, program, options, session):
        found = super().solve(program, {**options, "maxiter": 5}, session)
        return Solution(found.x, None, None, Status.OPTIMAL)


class StoppedIsSolved(SLSQP):
    """The iteration limit is a success."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        limit = found.status is Status.ITERATION_LIMIT
        return Solution(found.x, None, None, Status.OPTIMAL if limit else found.status)


class StuckIsSolved(SLSQP):
    """Whatever ends is a success, also among contradictions."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        return Solution(found.x, None, None, Status.OPTIMAL)


class AlwaysInfeasible(SLSQP):
    """What is not solved is infeasible, it says; unbounded programs are not."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        solved = found.status.solved
        return found if solved else Solution(status=Status.PRIMAL_INFEASIBLE)


class LimitIsAnError(SLSQP):
    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        limit = found.status is Status.ITERATION_LIMIT
        return Solution(found.x, None, None, Status.ERROR) if limit else found


class MovesTheStart(SLSQP):
    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        program.start[:] = found.x
        return found


class MovesBounds(LBFGSB):
    def solve(self, program, options, session):
        program.lower[np.isinf(program.lower)] = -1e20
        return super().solve(program, options, session)


class Stale(SLSQP):
    """Returns the session's first solution again."""

    def solve(self, program, options, session):
        if "last" not in session:
            session["last"] = super().solve(program, options, session)
        return session["last"]


class StartsWhereItWas(SLSQP):
    """Starts from its last solution, which it keeps on the object."""

    last = None

    def solve(self, program, options, session):
        if self.last is not None and self.last.size == program.n:
            program.start = self.last
        found = super().solve(program, options, session)
        self.last = found.x
        return found


class Forgets(SLSQP):
    """Keeps the first answer for good, by the size of the program."""

    kept: dict

    def __init__(self):
        self.kept = {}

    def solve(self, program, options, session):
        key = program.n, program.m_ineq, program.m_eq
        if key not in self.kept:
            self.kept[key] = super().solve(program, options, session)
        return self.kept[key]


class SharesAWorkspace(SLSQP):
    """Writes the program into the object, waits, and solves what is there then."""

    def solve(self, program, options, session):
        self.program = program
        time.sleep(2e-3)
        return super().solve(self.program, options, session)


class Random(SLSQP):
    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        noise = 1e-9 * np.random.default_rng().standard_normal(program.n)
        return Solution(found.x + noise, None, None, found.status)


class Prints(SLSQP):
    def solve(self, program, options, session):
        print("iteration 1")
        return super().solve(program, options, session)


class PrintsInC(SLSQP):
    def solve(self, program, options, session):
        os.write(1, b"iteration 1\n")
        return super().solve(program, options, session)


class NoTolerance(SLSQP):
    """Has the option and makes it looser the smaller it is."""

    def solve(self, program, options, session):
        return super().solve(program, {**options, "ftol": 1e-9 / options["ftol"]}, session)


class RefusesItsOption(SLSQP):
    """Declares ``disp`` and raises where it is given."""

    def solve(self, program, options, session):
        if options["maxiter"] == 1000:
            raise TypeError("maxiter is not known")
        return super().solve(program, options, session)


class TakesEveryOption(SLSQP):
    def known_options(self):
        class Everything(list):
            def __contains__(self, name):
                return True

        return Everything(self.defaults)


class OtherForm(SLSQP):
    matrices = ("dense",)


class UnknownKind(SLSQP):
    cones = ("bounds", "inequalities", "equalities", "second_order")


class UnknownDefault(SLSQP):
    def known_options(self):
        return ["ftol", "maxiter"]


class IgnoresTheTimeLimit(SLSQP):
    """Declares a time limit of its own, so that nobody else holds it."""

    common_options = {**SLSQP.common_options, "time_limit": "seconds"}
    defaults = {**SLSQP.defaults, "seconds": 1e9}

    def solve(self, program, options, session):
        options = {k: v for k, v in options.items() if k != "seconds"}
        return super().solve(program, options, session)


class TimeLimitIsAnError(IgnoresTheTimeLimit):
    """Stops in time and does not say why."""

    def solve(self, program, options, session):
        end = time.monotonic() + options["seconds"]

        class Timed(_Reversed):
            def objective(self, y):
                if time.monotonic() > end:
                    raise TimeoutError
                return self._program.objective(y)

            def inequalities(self, y):
                return self._program.inequalities(y)

            def inequality_jacobian(self, y):
                return self._program.inequality_jacobian(y)

        try:
            return super().solve(Timed(program), options, session)
        except TimeoutError:
            return Solution(status=Status.ERROR)


class SwallowsTheTimeLimit(SLSQP):
    """Takes a function that raises for one that is large, and goes on for long."""

    def solve(self, program, options, session):
        end = time.monotonic() + 30.0
        best = program.start
        while time.monotonic() < end:
            try:
                found = super().solve(program, options, session)
                return found
            except Exception:
                time.sleep(0.01)
                best = best * 0.99
        return Solution(best)


class Ends(SLSQP):
    """Ends the process on an objective whose value is not finite."""

    def solve(self, program, options, session):
        far = program.start + 1.0
        if not np.isfinite(program.objective(np.clip(far, program.lower, program.upper))):
            os._exit(3)
        return super().solve(program, options, session)


class Raises(SLSQP):
    """Raises where it finds no solution."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        if not found.status.solved:
            raise RuntimeError("no solution")
        return found


class NoSolution(SLSQP):
    def solve(self, program, options, session):
        return super().solve(program, options, session).x


BROKEN = [
    (FlippedDual, "dual_sign", "opposite sign"),
    (FlippedDual, "dual_feasibility", "expected 0 or more"),
    (FlippedLower, "dual_sign", "z_lower has the opposite sign"),
    (FlippedLower, "dual_feasibility", "z_lower has the entry"),
    (FlippedEqualities, "dual_sign", "z_eq has the opposite sign"),
    (TwiceTheDual, "stationarity", "the gradient of the Lagrangian is"),
    (TwiceTheDual, "solution", "is off by"),
    (SwappedRows, "complementarity", "z_ineq times its slack"),
    (NoMultipliersOfBounds, "stationarity", "the gradient of the Lagrangian is"),
    (ThreeParts, "solved", "expected the tuple"),
    (WrongShape, "solved", "y has shape"),
    (TooShort, "solved", "y has shape"),
    (HoldsNaN, "solved", "holds nan"),
    (NoSolution, "solved", "solve returned a ndarray"),
    (LeavesConstraintsOut, "feasibility", "is violated by"),
    (LeavesConstraintsOut, "declared_kinds", "it declares 'inequalities'"),
    (ReversedInequalities, "feasibility", "inequalities(y) <= 0 is violated"),
    (StopsEarly, "stationarity", "a vendor's status that means no success"),
    (StopsEarly, "iteration_limit", "violates the optimality conditions"),
    (StoppedIsSolved, "iteration_limit", "violates the optimality conditions"),
    (LimitIsAnError, "iteration_limit", "expected 'iteration_limit'"),
    (StuckIsSolved, "status", "a point without meaning would be differentiated"),
    (AlwaysInfeasible, "status", "misleading"),
    (Raises, "status", "solve raised RuntimeError"),
    (MovesTheStart, "inputs_unmodified", "the solve changed start"),
    (MovesBounds, "inputs_unmodified", "the solve changed lower"),
    (Stale, "session", "after another program"),
    (StartsWhereItWas, "session", "has another answer"),
    (Forgets, "session", "after another program"),
    (SharesAWorkspace, "threads", "solves at once"),
    (Random, "determinism", "equal programs have different answers"),
    (Prints, "quiet", "iteration 1"),
    (PrintsInC, "quiet", "iteration 1"),
    (NoTolerance, "tolerance", "the option is not passed on"),
    (RefusesItsOption, "common_options", "max_iterations=1000"),
    (TakesEveryOption, "unknown_option", "was accepted"),
    (OtherForm, "declarations", "matrices is ['dense']"),
    (UnknownKind, "declarations", "'second_order'"),
    (UnknownDefault, "declarations", "'disp'"),
    (IgnoresTheTimeLimit, "time_limit", "time_limit=0.2"),
    (TimeLimitIsAnError, "time_limit", "expected 'time_limit'"),
    (SwallowsTheTimeLimit, "time_limit", "time_limit=0.2"),
    (SwallowsTheTimeLimit, "errors", "more times"),
    (Ends, "survives", "the process ended"),
]


@pytest.mark.parametrize(
    ("solver", "check", "words"), BROKEN, ids=[f"{s.__name__}-{c}" for s, c, _ in BROKEN]
)
def test_a_broken_solver_fails_its_check(solver, check, words):
    found = failing(solver() if solver is Forgets else solver, check)
    assert check in found, f"{solver.__name__} passes {check}"
    assert words in found[check], found[check]


def test_no_broken_solver_is_there_for_nothing():
    """Each check of the table is failed by one; what is left is tested right here, or goes through
    the registry, as for solvers of matrices."""
    elsewhere = {"discovery", "lazy_import", "batch", "gradient", "verdict"}
    names = {check.name for check in testing.SMOOTH_CHECKS}
    assert names == {check for _, check, _ in BROKEN} | elsewhere


def test_a_record_that_differs_from_its_class_is_told():
    spec = SolverSpec(
        "two-faced",
        load=LBFGSB(),
        cones=frozenset({"bounds"}),
        matrices=frozenset(),
        speed={("dense", 10): 1.0},
        form="smooth",
    )
    registry.add(spec)
    assert "speed holds 'dense'" in failing("two-faced", "declarations")["declarations"]


def test_wrong_gradients_are_told(monkeypatch):
    from ffoadapt._smooth.ghost import Ghost

    right = Ghost.solve

    def without_multipliers(self, *given):
        found = right(self, *given)
        found.ineq, found.eq = 0.0 * found.ineq, 0.0 * found.eq
        return found

    assert not failing("slsqp", "gradient")
    monkeypatch.setattr(Ghost, "solve", without_multipliers)
    assert "disagrees" in failing("slsqp", "gradient")["gradient"]


def test_a_batch_that_is_not_its_elements_is_told():
    class Drifts(SLSQP):
        """Each answer a little further away, out of the polish's reach."""

        calls = 0

        def solve(self, program, options, session):
            found = super().solve(program, options, session)
            self.calls += 1
            return Solution(found.x + 10.0 * (self.calls == 2), None, None, found.status)

    found = failing(Drifts(), "batch")
    assert found, "a wrong element of a batch was not told"


def test_multipliers_of_dependent_rows(monkeypatch):
    from ffoadapt._smooth.ghost import Ghost

    assert not failing("slsqp", "verdict")
    monkeypatch.setattr(Ghost, "dependent", 0)
    assert "verdict is" in failing("slsqp", "verdict")["verdict"]


def test_every_check_says_what_it_asks():
    for check in testing.SMOOTH_CHECKS:
        assert check.about.endswith("."), check.name
    names = [check.name for check in testing.SMOOTH_CHECKS]
    assert len(set(names)) == len(names)


def test_the_families_gradients_are_right():
    """Those that the kit's functions return, against differences."""
    for problem in testing.smooth_problems(3):
        sizes = np.ones(problem.n) if problem.typical is None else problem.typical
        y = problem.start + 0.013 * sizes
        for function in (problem.objective, problem.inequalities, problem.equalities):
            if function is None:
                continue
            rows = np.atleast_2d(function(y)[1])
            for j in range(problem.n):
                step = np.zeros(problem.n)
                step[j] = 1e-6 * sizes[j]
                ends = [np.asarray(function(y + s * step)[0]) for s in (1.0, -1.0)]
                slope = (ends[0] - ends[1]) / (2.0 * step[j])
                size = np.abs(rows * sizes).max() / sizes[j]
                np.testing.assert_allclose(slope, rows[:, j], rtol=1e-5, atol=1e-6 * size)


def test_known_solutions_hold_the_optimality_conditions():
    for problem in testing.smooth_problems(4):
        if problem.y is not None:
            point = SmoothPoint(problem.form(), problem.y, dict(problem.duals))
            assert point.stationarity() < 1e-14
            assert point.feasibility()[0] < 1e-14
            assert point.complementarity()[0] < 1e-14
            assert point.negative()[0] <= 0.0


def test_multipliers_that_all_have_the_opposite_sign_are_told():
    class AllFlipped(Good):
        def spoil(self, solution, program):
            z = solution.dual
            return Solution(solution.x, tuple(-part for part in z), None, solution.status)

    case = next(c for c in testing.cases(form="smooth") if c.id == "dual_sign-hs071")
    with pytest.raises(CheckFailure, match="all multipliers have the opposite sign"):
        case.run(AllFlipped)


def test_report_of_a_solver_of_functions_reads():
    report = ffoadapt.check_solver(
        FlippedDual, waive={check.name: "" for check in testing.SMOOTH_CHECKS[:9]}
    )
    text = str(report)
    assert "FAILED dual_sign: The multipliers enter with grad g" in text
    assert "solver 'FlippedDual'" in text
    with pytest.raises(ffoadapt.OptionError, match="declared_kinds"):
        ffoadapt.check_solver("slsqp", waive={"declared_kind": "a typo"})


def test_a_solver_is_an_object_or_a_class():
    assert isinstance(Good(), Solver)
    assert not failing(Good(), "solved", "solution")


@pytest.mark.parametrize("solver", ["slsqp", "trust-constr", "l-bfgs-b", "ipopt", "nlopt"])
@pytest.mark.parametrize("upper", [[1.0, 2.0], [1.0, np.inf]])
def test_bounds_that_leave_nothing_free(solver, upper):
    if solver not in ffoadapt.solvers("smooth"):
        pytest.skip(f"{solver} is not installed")
    layer = ffoadapt.SmoothLayer(
        lambda t, y: (((y - t) ** 2).sum(), (2.0 * (t - y), 2.0 * (y - t))),
        bounds=([1.0, 2.0], upper),
        start=np.zeros(2),
        solver=solver,
    )
    result = layer.solve(np.array([3.0, 4.0]))
    fixed = upper[1] == 2.0
    np.testing.assert_allclose(result.y, [1.0, 2.0 if fixed else 4.0], atol=1e-9)
    gradient = result.vjp(y=np.ones(2))
    np.testing.assert_allclose(gradient, [0.0, 0.0 if fixed else 1.0], atol=1e-9)
