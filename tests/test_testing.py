"""The conformance kit catches what it is there to catch: each broken solver fails its named check.

A broken solver is the kit's own reference solver with one thing wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import ffoadapt
from ffoadapt import POLYHEDRAL, Solution, Solver, Status, testing
from ffoadapt._oracle.gradient import Adjoint
from ffoadapt.testing import CheckFailure, ReferenceSolver, SolverSuite


def failing(solver, *checks, **options):
    """The names of the failing checks, and their messages; of these checks only, if any."""
    if not checks:
        report = ffoadapt.check_solver(solver, **options)
        return {result.check: result.detail for result in report.failures}
    found = {}
    for case in testing.cases():
        if case.check.name in checks:
            try:
                case.run(solver)
            except testing.CheckSkipped:
                pass
            except CheckFailure as failure:
                found[case.check.name] = str(failure)
    return found


class Broken(ReferenceSolver):
    """Solves as the reference does, then `spoil`s the solution."""

    def solve(self, program, options, session):
        return self.spoil(super().solve(program, options, session), program)

    def spoil(self, solution, program):
        return solution


# ----------------------------------------------------------------------------- good solvers


@ffoadapt.split_solver
def decorated(P, q, G, h, A, b, options):
    found = ReferenceSolver().solve(
        ffoadapt.SplitForm(P, q, G, h, A, b), ReferenceSolver.defaults, ffoadapt.Session()
    )
    return found.x, *found.dual, found.status


class Boxes(ReferenceSolver):
    """The reference solver behind l <= Ax <= u."""

    form = "box"

    def solve(self, program, options, session):
        A, l, u = program.A, program.l, program.u
        equal = l == u
        up, down = np.isfinite(u) & ~equal, np.isfinite(l) & ~equal
        G, h = np.vstack([A[up], -A[down]]), np.concatenate([u[up], -l[down]])
        split = ffoadapt.SplitForm(program.P, program.q, G, h, A[equal], u[equal])
        found = super().solve(split, options, session)
        y = np.zeros(l.size)
        z, y[equal] = found.dual
        y[up] += z[: up.sum()]
        y[down] -= z[up.sum() :]
        return Solution(found.x, y, None, found.status)


class Conic(ReferenceSolver):
    """The reference solver behind Ax + s = b, s in K, for zero and nonnegative cones."""

    form = "cone"

    def solve(self, program, options, session):
        kinds = [np.full(cone.dim, cone.kind == "zero") for cone in program.cones]
        equal = np.concatenate([*kinds, np.zeros(0)]).astype(bool)
        A, b = program.A, program.b
        split = ffoadapt.SplitForm(program.P, program.q, A[~equal], b[~equal], A[equal], b[equal])
        found = super().solve(split, options, session)
        z = np.empty(b.size)
        z[~equal], z[equal] = found.dual
        return Solution(found.x, z, np.where(equal, 0.0, b - A @ found.x), found.status)


@pytest.mark.parametrize("solver", [decorated, Boxes, Conic])
def test_good_solvers_pass(solver):
    report = ffoadapt.check_solver(solver)
    assert report.ok, str(report)
    assert sum(result.outcome == "passed" for result in report.results) > 150


@pytest.mark.parametrize("seed", [1, 2])
def test_other_numbers(seed):
    report = ffoadapt.check_solver(ReferenceSolver, seed=seed)
    assert report.ok, str(report)


@pytest.mark.parametrize("seed", [1, 2])
def test_other_numbers_of_cones(seed):
    """The exact solutions of the conic problems, by a solver that has all cones."""
    power = next(problem for problem in testing.problems() if problem.name == "power")
    try:
        able = ffoadapt.choose_solver(power.program()).name
    except ffoadapt.UnsupportedProblemError:
        pytest.skip("no installed solver has all cones")
    report = ffoadapt.check_solver(able, seed=seed)
    assert report.ok, str(report)


# --------------------------------------------------------------------------- broken solvers


class FlippedDual(Broken):
    def spoil(self, solution, program):
        z, y = solution.dual
        return Solution(solution.x, (-z, -y), None, solution.status)


class FlippedBoxDual(Boxes):
    """The equalities have the right sign, the bounds the other one."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        y = np.where(program.l == program.u, found.dual, -found.dual)
        return Solution(found.x, y, None, found.status)


class TwiceTheDual(Broken):
    def spoil(self, solution, program):
        z, y = solution.dual
        return Solution(solution.x, (2 * z, 2 * y), None, solution.status)


class NoHalf(Broken):
    """Minimizes x'Px + q'x."""

    def solve(self, program, options, session):
        twice = ffoadapt.SplitForm(2 * program.P, program.q, *_constraints(program))
        return super().solve(twice, options, session)


class Stale(ReferenceSolver):
    """Returns the session's first solution again."""

    def solve(self, program, options, session):
        if "last" not in session:
            session["last"] = super().solve(program, options, session)
        return session["last"]


class StaleMatrix(ReferenceSolver):
    """Updates vectors and keeps the matrices of the first call."""

    def solve(self, program, options, session):
        P, G, A = session.setdefault("matrices", (program.P, program.G, program.A))
        kept = ffoadapt.SplitForm(P, program.q, G, program.h, A, program.b)
        return super().solve(kept, options, session)


class SpoiledByFailure(ReferenceSolver):
    """A session that saw an infeasible program never recovers."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        if session.get("failed"):
            return Solution(status=Status.ERROR)
        session["failed"] = not found.status.solved
        return found


class StartIsTheEnd(ReferenceSolver):
    def solve(self, program, options, session):
        return session.warm_start or super().solve(program, options, session)


class WarmStale(ReferenceSolver):
    """Sets up anew without a warm start; with one, it updates a workspace in part."""

    stale: tuple[str, ...]

    def solve(self, program, options, session):
        data = {k: getattr(program, k) for k in ("P", "q", "G", "h", "A", "b")}
        if session.warm_start is not None:
            kept = session.setdefault("kept", data)
            data |= {k: kept[k] for k in self.stale}
        return super().solve(ffoadapt.SplitForm(**data), options, session)


class WarmStaleMatrix(WarmStale):
    stale = ("P", "G", "A")


class WarmStaleVector(WarmStale):
    stale = ("q",)


class WarmStaleRows(Boxes):
    """With warm starts, it decides once which bounds are infinite."""

    def solve(self, program, options, session):
        infinite = np.isinf(program.l), np.isinf(program.u)
        if session.warm_start is not None:
            infinite = session.setdefault("infinite", infinite)
        l, u = np.where(infinite[0], -np.inf, program.l), np.where(infinite[1], np.inf, program.u)
        data = (program.P, program.q, program.A, l, u)
        found = super().solve(ffoadapt.BoxForm(*data), options, session)
        # Its own multipliers for rows without bounds, left over from other programs.
        found.dual[infinite[0] & infinite[1] & np.isfinite(program.u)] = 1.0
        return found


class LastDigits(Broken):
    """Leaves traces of the last program in the last digits without a warm start."""

    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        found.x[:] = found.x * (1.0 + session.get("trace", 0.0))
        session["trace"] = 1e-14
        return found


class NeverSolves(Broken):
    """Returns a point that it has not solved for, as optimal."""

    def spoil(self, solution, program):
        z, y = solution.dual
        return Solution(0.9 * solution.x, (z, y), None, Status.OPTIMAL)


class NoLimitStatus(Broken):
    """Says optimal where it ran out of iterations."""

    def spoil(self, solution, program):
        if solution.status is Status.ITERATION_LIMIT:
            return Solution(solution.x, solution.dual, None, Status.OPTIMAL)
        return solution


class Mutates(Broken):
    def spoil(self, solution, program):
        program.q += 1.0
        return solution


class Random(Broken):
    generator = np.random.default_rng(0)

    def spoil(self, solution, program):
        noise = 1e-12 * self.generator.standard_normal(solution.x.shape)
        return Solution(solution.x + noise, solution.dual, None, solution.status)


class ClaimsCones(Conic):
    cones = POLYHEDRAL | {"second_order"}

    def solve(self, program, options, session):
        if any(cone.kind == "second_order" for cone in program.cones):
            raise NotImplementedError("no second-order cones")
        return super().solve(program, options, session)


class Misspells(Conic):
    cones = POLYHEDRAL | {"soc"}


class CallsInfeasibleUnbounded(Broken):
    def spoil(self, solution, program):
        if solution.status is Status.PRIMAL_INFEASIBLE:
            return Solution(status=Status.DUAL_INFEASIBLE)
        return solution


class CallsInfeasibleOptimal(Broken):
    def spoil(self, solution, program):
        return Solution(solution.x, solution.dual, None, Status.OPTIMAL)


class RaisesOnInfeasible(Broken):
    def spoil(self, solution, program):
        if not solution.status.solved:
            raise RuntimeError("infeasible")
        return solution


class IgnoresTolerance(ReferenceSolver):
    def solve(self, program, options, session):
        return super().solve(program, {**options, "tolerance": 1e-3}, session)


class RefusesOptions(ReferenceSolver):
    def known_options(self):
        return (*super().known_options(), "time_limit")


class TakesAnyOption(ReferenceSolver):
    def known_options(self):
        class Everything:
            def __contains__(self, name):
                return True

            def __iter__(self):
                return iter(())

        return Everything()


class SharesState(ReferenceSolver):
    """Keeps the program on the solver object between two lines that another thread may enter."""

    def solve(self, program, options, session):
        self.program = program
        time.sleep(0.001)
        return super().solve(self.program, options, session)


class Crashes(ReferenceSolver):
    """Takes the process with it where the numbers are large, as compiled code may."""

    def solve(self, program, options, session):
        if np.abs(program.P).max(initial=0.0) > 1e15:
            os.abort()
        return super().solve(program, options, session)


class Leaves(ReferenceSolver):
    """Ends the process where there is nothing to do."""

    def solve(self, program, options, session):
        if not program.q.size:
            os._exit(0)
        return super().solve(program, options, session)


class Prints(Broken):
    def spoil(self, solution, program):
        print("iteration 1: ...")
        return solution


class WrongShape(Broken):
    def spoil(self, solution, program):
        return Solution(solution.x[:, None], solution.dual, None, solution.status)


class ReturnsNaN(Broken):
    def spoil(self, solution, program):
        return Solution(solution.x * np.nan, solution.dual, None, solution.status)


def _constraints(program):
    return program.G, program.h, program.A, program.b


CAUGHT = {
    FlippedDual: ("dual_sign", "opposite sign"),
    FlippedBoxDual: ("box_dual_sign", "y > 0 at u and y < 0 at l"),
    TwiceTheDual: ("stationarity", "the dual times 0.5"),
    NoHalf: ("objective", "1/2"),
    Stale: ("session", "earlier"),
    StaleMatrix: ("session", "P changed"),
    SpoiledByFailure: ("recovery", "error"),
    LastDigits: ("session", "earlier"),
    StartIsTheEnd: ("warm_start", "cold"),
    WarmStaleMatrix: ("warm_start", "was not updated"),
    WarmStaleVector: ("warm_start", "was not updated"),
    WarmStaleRows: ("warm_start", "infinite bounds became finite"),
    NeverSolves: ("stationarity", "not solved"),
    NoLimitStatus: ("iteration_limit", "status is not translated"),
    Mutates: ("inputs_unmodified", "q"),
    Random: ("determinism", "random numbers"),
    ClaimsCones: ("declared_cones", "second_order"),
    Misspells: ("declarations", "'soc'"),
    CallsInfeasibleUnbounded: ("status", "dual_infeasible"),
    CallsInfeasibleOptimal: ("status", "'optimal'"),
    RaisesOnInfeasible: ("status", "raised RuntimeError"),
    IgnoresTolerance: ("tolerance", "not passed on"),
    RefusesOptions: ("common_options", "time_limit"),
    TakesAnyOption: ("unknown_option", "accepted"),
    SharesState: ("threads", "session"),
    Crashes: ("survives", "SIGABRT"),
    Leaves: ("survives", "no variables"),
    Prints: ("quiet", "iteration 1"),
    WrongShape: ("solved", "shape"),
    ReturnsNaN: ("solved", "nan"),
}


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda broken: broken.__name__)
def test_broken_solvers_fail_the_named_check(broken):
    check, words = CAUGHT[broken]
    found = failing(broken, check)
    assert check in found, f"{broken.__name__} passes {check}"
    assert words in found[check]


ONE_FAULT = [
    Random,
    SharesState,
    StartIsTheEnd,
    WarmStaleMatrix,
    LastDigits,
    Prints,
    Crashes,
    Leaves,
]


@pytest.mark.parametrize("broken", [*ONE_FAULT, SpoiledByFailure])
def test_one_fault_one_check(broken):
    """What is wrong in one way only fails no other check, so that the name says what to fix."""
    assert set(failing(broken)) == {CAUGHT[broken][0]}


@pytest.mark.parametrize(
    ("upper", "scale", "words"),
    [
        (False, np.sqrt(2.0), None),
        (True, np.sqrt(2.0), "upper triangle"),
        (False, 1.0, "sqrt 2"),
        (True, 1.0, "does not scale"),
    ],
)
def test_wrong_triangle_of_semidefinite_matrices(upper, scale, words):
    """A solver of one problem, min |x + q| with x a semidefinite matrix, stacked in some way."""
    from ffoadapt.testing._point_checks import _projected

    @ffoadapt.conic_solver(cones={"psd"})
    def projection(P, q, A, b, cones, options):
        x = _projected(-q, upper, scale)
        return x, x, x + q

    found = failing(projection, "psd_order")
    if words is None:
        assert not found
    else:
        assert words in found["psd_order"]


def test_a_missing_dual_is_told_although_polishing_mends_it():
    class NoDual(Broken):
        def spoil(self, solution, program):
            z, y = solution.dual
            return Solution(solution.x, (0 * z, 0 * y), None, solution.status)

    assert failing(NoDual, "stationarity")
    assert not failing(NoDual, "gradient_q", "gradient_closed_form")


def test_wrong_gradients_are_told(monkeypatch):
    """Right points and a wrong derivative: differences of solves and closed forms contradict it."""
    assert not failing(ReferenceSolver, "gradient_q", "gradient_h", "gradient_closed_form")
    right = Adjoint.__getitem__
    monkeypatch.setattr(Adjoint, "__getitem__", lambda self, name: 2.0 * right(self, name))
    assert set(failing(ReferenceSolver, "gradient_q", "gradient_closed_form")) == {
        "gradient_q",
        "gradient_closed_form",
    }


def test_every_check_says_what_it_asks():
    for check in testing.CHECKS:
        assert check.about.endswith("."), check.name
    names = [check.name for check in testing.CHECKS]
    assert len(set(names)) == len(names)


# ----------------------------------------------------------------------------- the report


def test_report_reads():
    report = ffoadapt.check_solver(FlippedDual)
    text = str(report)
    assert not report.ok
    assert "FAILED dual_sign: The dual enters stationarity with a plus" in text
    assert "the dual has the opposite sign" in text
    assert "it does not declare the cones second_order" in text
    assert all(len(line) > 0 or line == "" for line in text.splitlines())
    outcomes = {result.outcome for result in report.results}
    assert outcomes == {"passed", "failed", "skipped"}


def test_waive():
    waive = {"determinism": "it is random", "box": "no boxes", "stationarity-qp": "why not"}
    report = ffoadapt.check_solver(Random, waive=waive)
    assert report.ok, str(report)
    assert "waived: it is random" in str(report)
    skipped = {(r.check, r.problem) for r in report.results if r.detail.startswith("waived")}
    assert ("solution", "box") in skipped
    assert ("stationarity", "qp") in skipped
    assert ("stationarity", "lp") not in skipped
    with pytest.raises(ffoadapt.OptionError, match="determinsm"):
        ffoadapt.check_solver(Random, waive={"determinsm": "a typo"})


def test_loose_solvers_pass_with_a_loose_tolerance():
    class Loose(ReferenceSolver):
        common_options = {"tolerance": ()}
        defaults = {"tolerance": 1e-5, "max_iterations": 60}

    assert not ffoadapt.check_solver(Loose, waive=dict.fromkeys(GRADIENTS, "loose")).ok
    loose = ffoadapt.check_solver(Loose, tolerance=1e-3, waive=dict.fromkeys(GRADIENTS, "loose"))
    assert loose.ok, str(loose)


GRADIENTS = [check.name for check in testing.CHECKS if check.name.startswith("gradient")]


def test_unknown_solver():
    with pytest.raises(ffoadapt.UnknownPluginError, match="nosuchsolver"):
        ffoadapt.check_solver("nosuchsolver")


# ------------------------------------------------------------------------------ under pytest

THREE_LINES = """
import ffoadapt

class Twice(ffoadapt.testing.ReferenceSolver):
    def solve(self, program, options, session):
        found = super().solve(program, options, session)
        z, y = found.dual
        return ffoadapt.Solution(found.x, (2 * z, 2 * y), None, found.status)

class TestGood(ffoadapt.testing.SolverSuite):
    solver = ffoadapt.testing.ReferenceSolver
    waive = {"determinism": "for the sake of it"}

class TestBad(ffoadapt.testing.SolverSuite):
    solver = Twice
"""


def test_three_lines_under_pytest(tmp_path):
    path = tmp_path / "test_mine.py"
    path.write_text(THREE_LINES)

    checks = "determinism or solved or stationarity"
    command = [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", "-k", checks]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "waived: for the sake of it" in done.stdout
    assert "it does not declare the cones second_order" in done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed
    assert all("TestBad::test_solver[stationarity-" in line for line in failed)
    assert "the dual times 0.5 would satisfy it" in done.stdout


def test_suite_is_declared_by_its_subclass():
    class TestMine(SolverSuite):
        solver = ReferenceSolver
        waive = {"no_such_check": "typo"}

    class Metafunc:
        fixturenames = ("case",)

    with pytest.raises(ffoadapt.OptionError, match="no_such_check"):
        TestMine().pytest_generate_tests(Metafunc())


def test_imports():
    """The kit needs no pytest and no plugin, and costs nothing where it is not used."""
    script = (
        "import sys, ffoadapt\n"
        "assert not any(m.startswith('ffoadapt.testing') for m in sys.modules)\n"
        "ffoadapt.testing.SolverSuite, ffoadapt.check_solver\n"
        "heavy = {'pytest', 'hypothesis', 'torch', 'jax', 'cvxpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_abstract_solver_is_refused():
    with pytest.raises(ffoadapt.OptionError, match="expected a name"):
        ffoadapt.check_solver(object())
    assert issubclass(ReferenceSolver, Solver)
