"""What an author of a plugin meets: declared capabilities, waivers, messages, silent records."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import SolveError, Solver, SolverSpec, Status, Structure
from ffoadapt._cli.parser import main
from ffoadapt._plugins.registry import Registry, registry
from ffoadapt._smooth.solvers import LBFGSB
from ffoadapt._solve.choice import choose
from ffoadapt.testing import ReferenceSolver, check_solver, problems
from ffoadapt.testing._subject import form_of

P, q, G, h = np.diag([2.0, 1.0, 3.0]), np.array([-1.0, -2.0, 0.5]), np.ones((1, 3)), np.ones(1)


# --- kinds of objectives


class StrictlyConvex(ReferenceSolver):
    """As a dual active-set method that starts from a Cholesky factor."""

    objectives = ("strictly_convex",)

    def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
        np.linalg.cholesky(program.P)
        return super().solve(program, options, session)


class Linear(ReferenceSolver):
    objectives = ("linear",)

    def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
        if np.any(program.P):
            raise ValueError("P is not zero")
        return super().solve(program, options, session)


def test_kinds_of_the_objectives_of_the_problems() -> None:
    kinds = {problem.name: problem.objective_kind for problem in problems()}
    assert kinds["lp"] == kinds["unbounded"] == kinds["entropy"] == "linear"
    assert kinds["qp"] == kinds["box"] == kinds["qp_sparse"] == "strictly_convex"
    for problem in problems():
        P = problem.program().P
        least = np.linalg.eigvalsh(P if isinstance(P, np.ndarray) else P.toarray()).min(initial=1.0)
        assert (kinds[problem.name] == "strictly_convex") == (least > 1e-9)


@pytest.mark.parametrize(("solver", "kind"), [(StrictlyConvex, "linear"), (Linear, "strictly")])
def test_what_is_not_declared_is_skipped_without_a_waiver(solver: Any, kind: str) -> None:
    report = check_solver(solver)
    assert report.ok, str(report)
    skipped = {r.problem for r in report.results if f"declare to take {kind}" in r.detail}
    assert ("lp" in skipped) == (kind == "linear") and ("qp" in skipped) == (kind != "linear")
    passed = {r.problem for r in report.results if r.outcome == "passed"}
    assert ("qp" if kind == "linear" else "lp") in passed


def test_what_is_declared_must_hold() -> None:
    class Proud(StrictlyConvex):
        objectives = ("convex", "linear", "strictly_convex")

    assert {r.problem for r in check_solver(Proud).failures} >= {"lp"}

    class Odd(ReferenceSolver):
        objectives = ("cubic",)

    found = [r.detail for r in check_solver(Odd).failures if r.check == "declarations"]
    assert len(found) == 1 and "objectives holds 'cubic'" in found[0]


# --- waivers


def test_waivers_are_patterns_and_may_be_the_solvers_own(monkeypatch: Any, capsys: Any) -> None:
    class Known(Linear):
        objectives = Solver.objectives
        waive = {"*-lp": "only for this test", "gradient_?-*": "the same", "[!lu]*": "all the rest"}

    report = check_solver(Known)
    assert report.ok and all(r.outcome != "failed" for r in report.results)
    assert any(r.detail == "waived: only for this test" for r in report.results)
    monkeypatch.setitem(registry._entries, "solver", dict(registry._entries["solver"]))
    ffoadapt.register_solver("known", Known)
    assert main(["check", "known"]) == 0
    assert "only for this test" in capsys.readouterr().out

    class Typo(ReferenceSolver):
        waive = {"*-nothing": "no problem has this name"}

    with pytest.raises(ffoadapt.OptionError, match=r"\*-nothing"):
        check_solver(Typo)


# --- one cause is told once


def test_one_cause_is_reported_once_with_the_checks_it_breaks() -> None:
    class Flipped(ReferenceSolver):
        def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
            found = super().solve(program, options, session)
            z, y = found.dual
            return ffoadapt.Solution(found.x, (-z, -y), None, found.status)

    class Raises(ReferenceSolver):
        def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
            raise RuntimeError("the licence is over")

    report = check_solver(Flipped)
    told = str(report)
    assert told.count("FAILED ") == len(report.causes) < len(report.failures) / 8
    assert sum(map(len, report.causes)) == len(report.failures)
    assert told.count("FAILED dual_sign") == 1
    assert "later checks fail" in told and "stationarity (" in told
    report = check_solver(Raises)
    assert len(report.causes) == 1 and str(report).count("the licence is over") == 1


# --- answers of functions


def outcome(answer: Any) -> str:
    @ffoadapt.split_solver
    def mine(P: Any, q: Any, G: Any, h: Any, A: Any, b: Any, options: Any) -> Any:
        return answer

    with pytest.raises(SolveError) as caught:
        ffoadapt.qp(P, q, G, h, np.ones((2, 3)), np.ones(2), solver=mine)
    return str(caught.value)


X, Z, Y = np.zeros(3), np.zeros(1), np.zeros(2)

ANSWERS = {
    "x alone": (X, "'mine' returned x alone; expected x, z_ineq, y_eq"),
    "a dict": ({"x": X}, "returned a dict; expected x, z_ineq, y_eq"),
    "two": ((X, Z), "returned 2 values; expected x, z_ineq, y_eq, and perhaps a Status"),
    "no dual": ((X, None, Y), "returned None for z_ineq; expected an array of 1 numbers"),
    "another order": ((Z, Y, X), "right sizes in another order; return x, z_ineq, y_eq"),
    "other sizes": ((X, Z, Z), r"wrong shape or type: (3,), (1,), (1,); expected (3,), (1,), (2,)"),
    "a number": (
        (X, Z, Y, 0),
        "the status is 0; expected an ffoadapt.Status, or the vendor's words",
    ),
    "unknown words": ((X, Z, Y, "gave up"), "gave up"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_wrong_answers_are_explained(name: str) -> None:
    answer, words = ANSWERS[name]
    assert words in outcome(answer)


@pytest.mark.parametrize("words", ["optimal", "SOLVED", "Optimal", "max_iter"])
def test_a_vendors_words_are_a_status(words: str) -> None:
    """x = (1, 0) of 1/2 |x - (1, -1)|^2, x >= 0; a fourth row constrains nothing."""
    seen = []

    @ffoadapt.split_solver
    def mine(P, q, G, h, A, b, options):
        seen.append((np.array(G), np.array(h)))
        return np.array([1.0, 0.0]), np.array([0.0, 1.0, 0.0]), np.zeros(0), words

    G, h = np.array([[-1.0, 0], [0, -1], [1, 1]]), np.array([0.0, 0.0, np.inf])
    if words == "max_iter":
        with pytest.raises(ffoadapt.SolveError, match="iteration_limit"):
            ffoadapt.qp(np.eye(2), np.array([-1.0, 1.0]), G, h, solver=mine, polish=False)
        return
    solution = ffoadapt.qp(np.eye(2), np.array([-1.0, 1.0]), G, h, solver=mine)
    assert np.allclose(solution.x, [1.0, 0.0]) and np.isfinite(seen[0][1]).all()
    assert np.array_equal(seen[0][0][2], [0.0, 0.0]) and np.array_equal(seen[0][0][:2], G[:2])
    seen.clear()

    @ffoadapt.split_solver(matrices="sparse")
    def other(P, q, G, h, A, b, options):
        return mine.function(P, q, G.toarray(), h, A, b, options)

    P, G = sparse.identity(2, format="csc"), sparse.csc_matrix(G)
    solution = ffoadapt.qp(P, np.array([-1.0, 1.0]), G, h, solver=other)
    assert np.allclose(solution.z_ineq, [0.0, 1.0, 0.0])
    assert np.array_equal(seen[0][0][2], [0.0, 0.0])


def test_a_failure_needs_no_arrays() -> None:
    text = outcome((None, None, None, Status.TIME_LIMIT))
    assert "time_limit" in text


def test_a_function_of_the_box_form_and_of_the_cone_form() -> None:
    @ffoadapt.box_solver
    def box(P: Any, q: Any, A: Any, l: Any, u: Any, options: Any) -> Any:
        return q

    with pytest.raises(SolveError, match=r"x alone; expected x, y: gradients need the dual"):
        ffoadapt.box_qp(P, q, np.eye(3), -np.ones(3), np.ones(3), solver=box)

    @ffoadapt.conic_solver
    def cone(P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        return -np.linalg.solve(P, q), None, None  # a slack may be None, a dual may not

    with pytest.raises(SolveError, match="returned None for z"):
        ffoadapt.qp(P, q, G, 10.0 * h, solver=cone)
    assert ffoadapt.qp(P, q, solver=cone).status is Status.OPTIMAL  # no rows, no dual


def test_a_class_without_a_dual_is_told() -> None:
    class NoDual(Solver):
        form, matrices = "box", ("dense",)

        def solve(self, program: Any, options: Any, session: Any) -> ffoadapt.Solution:
            return ffoadapt.Solution(np.zeros(program.q.size))

    with pytest.raises(SolveError, match=r"None came in the place of an array of shape \(3,\)"):
        ffoadapt.box_qp(P, q, np.eye(3), -np.ones(3), np.ones(3), solver=NoDual)
    assert "the dual y is None" in str(check_solver(NoDual))


# --- silent records

ROOT = Path(__file__).parents[1]
SHARED = ("cones", "matrices")


def silent(monkeypatch: pytest.MonkeyPatch, name: str, load: Any, **more: Any) -> Registry:
    """A registry that has one solver, whose record says nothing but where it is."""

    class Plugin:
        @staticmethod
        @ffoadapt.hookimpl
        def ffoadapt_register_solvers() -> list[SolverSpec]:
            return [SolverSpec(name, load=load, **more)]

    monkeypatch.setenv("FFOADAPT_DISABLE_PLUGINS", ",".join(installed()))
    return Registry(Plugin)


def installed() -> set[str]:
    return {row.distribution for row in ffoadapt.plugins()} - {"ffoadapt", "(this process)"}


def test_a_silent_record_means_as_the_class_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dense(ReferenceSolver):
        matrices = ("dense",)

    found = silent(monkeypatch, "stranger", Dense)
    assert found.specs("solver")["stranger"].cones is None
    assert isinstance(found.get("solver", "stranger"), Dense)
    assert list(found.having(frozenset({"zero"}))) == ["stranger"]
    assert not found.having(frozenset({"psd"}))
    for module in ("_solve.choice", "_solve.lookup"):
        monkeypatch.setattr(f"ffoadapt.{module}.registry", found)
    assert choose(Structure(3, 1, (ffoadapt.NonnegativeCone(1),))).name == "stranger"
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="psd"):
        choose(Structure(3, 1, (ffoadapt.PSDCone(1),)))
    expected = ffoadapt.qp(P, q, G, h, solver=ReferenceSolver).x
    np.testing.assert_allclose(ffoadapt.qp(P, q, G, h, solver="stranger").x, expected)


def test_a_silent_solver_that_cannot_be_loaded_is_never_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = silent(monkeypatch, "broken", "no_such_module:Nothing")
    assert not found.having(frozenset({"zero"}))


@pytest.mark.parametrize("speed", [{}, {("dense", 3): 1e-9, ("psd", 3): 1e-9}])
def test_a_silent_record_with_a_speed_is_chosen_for_what_its_class_has(
    monkeypatch: pytest.MonkeyPatch, speed: Any
) -> None:
    """Without a speed it is a last resort, and is not imported while others would do."""
    monkeypatch.setitem(sys.modules, "stranger_module", types.ModuleType("stranger_module"))
    sys.modules["stranger_module"].Mine = ReferenceSolver  # type: ignore[attr-defined]
    entries = registry._entries["solver"]
    monkeypatch.setitem(registry._entries, "solver", dict(entries))
    registry.add(SolverSpec("stranger", load="stranger_module:Mine", speed=speed))
    chosen = choose(Structure(3, 1, (ffoadapt.NonnegativeCone(1),))).name
    assert (chosen == "stranger") == bool(speed)
    assert (registry._entries["solver"]["stranger"].object is not None) == bool(speed)
    assert choose(Structure(6, 6, (ffoadapt.PSDCone(3),))).name != "stranger"
    assert "stranger" in ffoadapt.solvers()


def test_a_silent_record_of_a_solver_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bounded(LBFGSB):
        pass

    found = silent(monkeypatch, "stranger", Bounded)
    assert found.form_of(found.specs("solver")["stranger"]) == "smooth"
    assert found.solvers("smooth") == {"stranger": frozenset({"bounds"})}
    assert not found.solvers("cone")
    assert list(found.having(frozenset({"bounds"}), "smooth")) == ["stranger"]
    assert not found.having(frozenset())
    monkeypatch.setattr("ffoadapt.testing._subject.registry", found)
    assert form_of("stranger") == "smooth"


def test_a_record_that_contradicts_its_class_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = silent(monkeypatch, "liar", ReferenceSolver, matrices=frozenset({"sparse", "none"}))
    with pytest.raises(ffoadapt.PluginError, match=r"make them equal, or leave matrices out"):
        found.get("solver", "liar")


def test_speaking_records_keep_silent_ones_from_being_imported(monkeypatch: Any) -> None:
    module = types.ModuleType("stranger_module")
    monkeypatch.setitem(sys.modules, "stranger_module", module)  # without the attribute
    entries = registry._entries["solver"]
    monkeypatch.setitem(registry._entries, "solver", dict(entries))
    registry.add(SolverSpec("stranger", load="stranger_module:Missing"))
    assert "stranger" not in registry.having(frozenset({"zero"}))
    assert ffoadapt.qp(P, q, G, h).info["solver"] != "stranger"


def test_the_records_that_ship_speak() -> None:
    for name, spec in registry.specs("solver").items():
        assert spec.cones and spec.matrices is not None, f"choosing a solver would import {name}"


OF_MATRICES = [
    path
    for path in sorted(ROOT.glob("plugins/ffoadapt-*/src/*/_solver.py"))
    if 'form = "smooth"' not in path.read_text()
]


@pytest.mark.parametrize("path", OF_MATRICES, ids=lambda path: path.parent.name)
def test_a_plugin_writes_down_what_it_takes_once(path: Path) -> None:
    """Its class has `cones` and `matrices` from where its record has them, or as by default."""
    tree = ast.parse(path.read_text())
    shared = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module is None]
    names = {alias.name for node in shared for alias in node.names}
    (solver,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    for node in solver.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in SHARED:
            assert getattr(node.value, "id", None) in names, ast.unparse(node)


def test_the_listing_says_that_a_record_is_silent(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(registry._entries, "solver", {})
    registry.add(SolverSpec("stranger", load="no_such_module:Nothing"))
    assert main(["plugins", "--kind", "solver"]) == 0
    assert "as its class says" in " ".join(capsys.readouterr().out.split())


# --- new-plugin


def test_new_plugin_refuses_reserved_names(tmp_path: Path, capsys: Any) -> None:
    assert main(["new-plugin", "auto", "--directory", str(tmp_path)]) == 2
    assert "leaves the choice to ffoadapt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["a file", "a folder of the kernel's"])
def test_new_plugin_where_nothing_can_be_written_is_one_line(
    where: str, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "file"
    file.touch()
    directory = file if where == "a file" else Path("/proc/1")
    assert main(["new-plugin", "mine", "--directory", str(directory)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and str(directory) in said


@pytest.mark.parametrize("kind", ["framework", "modeler", "executor"])
def test_new_plugins_of_other_kinds_install_and_pass_their_tests(kind: str, tmp_path: Path) -> None:
    assert main(["new-plugin", "my-own", "--kind", kind, "--directory", str(tmp_path)]) == 0
    made = tmp_path / "ffoadapt-my-own"
    for path in made.rglob("*"):
        if path.is_file():
            assert "template" not in path.read_text().lower() + path.name, path
    assert (
        f"class MyOwn{kind.capitalize()}("
        in (made / "src" / "ffoadapt_my_own" / f"_{kind}.py").read_text()
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    where = ["--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), str(made)]
    subprocess.run([*pip, *where], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}
    tests = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=made,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    blocks = (made / "README.md").read_text().split("```python\n")[1:]
    code = "".join(block.split("```")[0] for block in blocks)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_kind_has_names_of_its_own(tmp_path: Path, capsys: Any) -> None:
    arguments = ["new-plugin", "threads", "--kind", "executor", "--directory", str(tmp_path)]
    assert main(arguments) == 2
    assert "the executor name 'threads' is taken by ffoadapt" in capsys.readouterr().err
