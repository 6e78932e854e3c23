"""The ecosystem's promises: a plugin is found without a change here, and a broken one hurts no one.

Plugins of these tests are distributions in a temporary directory on the path of a fresh process;
one of them is built and installed by pip, as a third party's would be.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Status
from ffoadapt.testing import ReferenceSolver

HOOK = "from ffoadapt import SolverSpec, hookimpl\n"
SOLVER = """
from ffoadapt.testing import ReferenceSolver

class Acme(ReferenceSolver):
    pass
"""


def registers(*records, before=""):
    """The source of a module that registers these records."""
    return (
        f"{before}\n{HOOK}"
        "@hookimpl\n"
        "def ffoadapt_register_solvers():\n"
        f"    return [{', '.join(records)}]\n"
    )


def spec(name, load="acme_solver:Acme", more=""):
    return f"SolverSpec({name!r}, load={load!r}, matrices=frozenset({{'dense'}}){more})"


def distribute(target, name, source=None, module=None, version="1.0"):
    """Put a distribution with one entry point, named like it, into a directory."""
    module = module or name.replace("-", "_")
    if source is not None:
        (target / f"{module}.py").write_text(textwrap.dedent(source))
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[ffoadapt]\n{name} = {module}\n")


def run(target, script, **environment):
    """What the script prints, as JSON, in a fresh process with the directory on its path."""
    env = {**os.environ, "PYTHONPATH": str(target), **environment}
    code = "import json, sys, ffoadapt\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LISTING = """
rows = {(r.name, r.distribution): [r.state, r.detail, r.version] for r in ffoadapt.plugins()}

def error(name):
    try:
        ffoadapt.qp([[1.0]], [1.0], solver=name)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["", ""]

mine = [r for r in ffoadapt.plugins() if r.distribution.startswith("acme")]
errors = {row.name: error(row.name) for row in mine}
print(json.dumps({
    "rows": [[*key, *value] for key, value in rows.items()],
    "errors": errors,
    "solvers": ffoadapt.solvers(),
    "imported": sorted(m for m in sys.modules if m.startswith("acme")),
}))
"""

BROKEN = {
    "acme-raises": "raise RuntimeError('boom at import')",
    "acme-exits": "import sys; sys.exit('not on this machine')",
    "acme-imports": "import a_module_that_is_not_there",
    "acme-syntax": "def broken(:",
    "acme-twice": registers(spec("double"), spec("double")),
    "acme-clash-a": registers(spec("clash")),
    "acme-clash-b": registers(spec("clash")),
    "acme-misspells": HOOK + "@hookimpl\ndef ffoadapt_register_solver():\n    return []\n",
    "acme-takes-arguments": HOOK
    + "@hookimpl\ndef ffoadapt_register_solvers(registry):\n    return []\n",
    "acme-hook-raises": HOOK
    + "@hookimpl\ndef ffoadapt_register_solvers():\n    raise KeyError('inside the hook')\n",
    "acme-number": registers().replace("return []", "return 42"),
    "acme-string": registers().replace("return []", "return 'acme'"),
    "acme-strings": registers("'acme'"),
    "acme-nameless": registers(spec(3)),
    "acme-hookless": "x = 1\n",
    "acme-nowhere": registers(
        spec("nowhere", "no_such_module:Thing"),
        spec("nothing", "acme_solver:Missing"),
        spec("stranger", "json:dumps"),
        spec("halfway", "acme_solver"),
    ),
    "acme-needs": registers(
        spec("needs", more=", requires=('a_module_that_is_not_there',)"),
        spec("needs_part", more=", requires=('not_there.at_all',)"),
    ),
    "acme-disagrees": registers(spec("disagrees", more=", cones=frozenset({'psd', 'zero'})")),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """One good plugin among all the broken ones, as a fresh process sees them."""
    target = tmp_path_factory.mktemp("zoo")
    (target / "acme_solver.py").write_text(SOLVER)
    for name, source in BROKEN.items():
        distribute(target, name, source)
    distribute(target, "acme-gone")  # its module was deleted
    distribute(target, "acme-good", registers(spec("acme")), version="2.5")
    return run(target, LISTING)


def state(zoo, name, distribution=None):
    rows = [r for r in zoo["rows"] if r[0] == name and r[1] == (distribution or r[1])]
    assert len(rows) == 1, rows
    return rows[0][2:]


def test_the_good_plugin_works_among_the_broken(zoo):
    assert "acme" in zoo["solvers"]
    assert state(zoo, "acme") == ["ready", "", "2.5"]
    assert zoo["errors"]["acme"] == ["", ""]
    assert set(ffoadapt.solvers()) <= set(zoo["solvers"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acme-raises", "boom at import"),
        ("acme-exits", "not on this machine"),
        ("acme-imports", "a_module_that_is_not_there"),
        ("acme-syntax", "SyntaxError"),
        ("acme-twice", "'double' twice"),
        ("acme-misspells", "ffoadapt_register_solver'"),
        ("acme-takes-arguments", "registry"),
        ("acme-hook-raises", "inside the hook"),
        ("acme-number", "42"),
        ("acme-string", "'acme'"),
        ("acme-strings", "'acme'"),
        ("acme-nameless", "name 3"),
        ("acme-hookless", "implements no hook"),
        ("acme-gone", "acme_gone"),
    ],
)
def test_broken_plugins_are_listed_with_the_reason(zoo, name, words):
    found, detail, _ = state(zoo, name)
    assert found == "failed"
    assert words in detail
    kind, message = zoo["errors"][name]
    assert kind == "UnknownPluginError"
    assert words in message


def test_a_name_in_two_distributions(zoo):
    found, detail, _ = state(zoo, "clash")
    assert found == "duplicate"
    assert "acme-clash-b" in detail
    kind, message = zoo["errors"]["clash"]
    assert kind == "DuplicatePluginError"
    assert "acme-clash-a" in message
    assert "acme-clash-b" in message
    assert "FFOADAPT_DISABLE_PLUGINS" in message
    assert "clash" not in zoo["solvers"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "no_such_module:Thing"),
        ("nothing", "acme_solver:Missing"),
        ("stranger", "expected a subclass of ffoadapt.Solver"),
        ("halfway", "acme_solver"),
        ("disagrees", "make them equal"),
    ],
)
def test_records_that_do_not_hold(zoo, name, words):
    kind, message = zoo["errors"][name]
    assert kind == "PluginError"
    assert words in message
    assert "acme-" in message


@pytest.mark.parametrize(
    ("name", "module"),
    [("needs", "a_module_that_is_not_there"), ("needs_part", "not_there.at_all")],
)
def test_a_missing_dependency_names_the_command(zoo, name, module):
    found, detail, _ = state(zoo, name)
    assert found == "missing"
    assert "pip install" in detail
    kind, message = zoo["errors"][name]
    assert kind == "MissingDependencyError"
    assert module in message
    assert "pip install" in message
    assert name not in zoo["solvers"]


def test_listing_imports_no_solver(tmp_path):
    (tmp_path / "acme_solver.py").write_text(SOLVER)
    distribute(tmp_path, "acme-good", registers(spec("acme")))
    script = """
    ffoadapt.plugins()
    before = "acme_solver" in sys.modules
    ffoadapt.qp([[1.0]], [1.0], solver="acme")
    print(json.dumps([before, "acme_good" in sys.modules, "acme_solver" in sys.modules]))
    """
    assert run(tmp_path, script) == [False, True, True]


@pytest.mark.parametrize("disabled", ["acme-good", "other, acme-good"])
def test_disabled_plugins_are_not_imported(tmp_path, disabled):
    (tmp_path / "acme_solver.py").write_text(SOLVER)
    distribute(tmp_path, "acme-good", registers(spec("acme")))
    distribute(tmp_path, "acme-clash", registers(spec("acme")))
    found = run(tmp_path, LISTING, FFOADAPT_DISABLE_PLUGINS=disabled)
    assert "acme_good" not in found["imported"]
    assert state(found, "acme-good")[0] == "disabled"
    assert state(found, "acme", "acme-clash")[0] == "ready"
    assert "FFOADAPT_DISABLE_PLUGINS" in found["errors"]["acme-good"][1]


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "ffoadapt-acme"
version = "0.3"
dependencies = ["ffoadapt"]

[project.entry-points.ffoadapt]
acme = "ffoadapt_acme"
"""


def test_a_plugin_that_pip_installed(tmp_path):
    """Built by its own backend, installed by pip, found by its entry point, conforming."""
    project, target = tmp_path / "project", tmp_path / "site"
    package = project / "src" / "ffoadapt_acme"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text(registers(spec("acme", "ffoadapt_acme._solver:Acme")))
    (package / "_solver.py").write_text(SOLVER)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--target", str(target), str(project)], check=True)
    script = """
    import numpy as np
    row = next(r for r in ffoadapt.plugins() if r.name == "acme")
    sol = ffoadapt.qp(np.eye(2), np.array([1.0, -2.0]), -np.eye(2), np.zeros(2), solver="acme")
    report = ffoadapt.check_solver("acme")
    print(json.dumps([row.distribution, row.version, row.state, sol.x.tolist(), report.ok]))
    """
    found = run(target, script)
    assert found[:3] == ["ffoadapt-acme", "0.3", "ready"]
    assert np.allclose(found[3], [0.0, 2.0], atol=1e-8)
    assert found[4]


# ----------------------------------------------------------------- in this process, without pip

P, Q = np.diag([1.0, 2.0]), np.array([-3.0, -1.0])
BELOW = np.array([1.0, 5.0])
X, Z = np.array([1.0, 0.5]), np.array([2.0, 0.0])


def clip(q, upper, diagonal):
    """min 1/2 x'Dx + q'x, x <= u, and the multiplier of x <= u."""
    x = np.minimum(-q / diagonal, upper)
    return x, np.maximum(-(diagonal * x + q), 0.0)


@ffoadapt.box_solver
def boxes(P, q, A, l, u, options):
    """Bounds from above on each variable."""
    assert np.array_equal(A, np.eye(2)) and np.isneginf(l).all()
    return clip(q, u, P.diagonal())


@ffoadapt.split_solver
def split(P, q, G, h, A, b, options):
    x, z = clip(q, h, P.diagonal())
    return x, z, np.zeros(0)


@ffoadapt.conic_solver(cones={"nonnegative"}, matrices="sparse")
def conic(P, q, A, b, cones, options):
    assert [cone.kind for cone in cones if cone.dim] == ["nonnegative"]
    x, z = clip(q, b, P.diagonal())
    return x, b - x, z


@pytest.mark.parametrize("solver", [boxes, split, conic], ids=["box", "split", "conic"])
def test_a_function_is_a_solver(solver):
    sol = ffoadapt.qp(P, Q, np.eye(2), BELOW, solver=solver)
    assert np.allclose(sol.x, X)
    assert np.allclose(sol.z_ineq, Z)
    program = ffoadapt.ConeProgram.from_split(P, Q, np.eye(2), BELOW)
    grad = ffoadapt.solve(program, solver).vjp(x=np.ones(2))
    assert np.allclose(grad.q, [0.0, -0.5])
    assert np.allclose(grad.h, [1.0, 0.0])


def test_a_decorated_function_stays_a_function():
    assert boxes.__doc__ == "Bounds from above on each variable."
    x, _ = boxes(P, Q, np.eye(2), np.full(2, -np.inf), BELOW, {})
    assert np.allclose(x, X)
    with pytest.raises(TypeError, match="register_solver"):
        pickle.dumps(boxes)
    with pytest.raises(ffoadapt.OptionError, match="'dense' or 'sparse'"):
        ffoadapt.box_solver(matrices="csc")


def test_a_function_gets_options_and_gives_a_status():
    seen = {}

    @ffoadapt.split_solver
    def lazy(P, q, G, h, A, b, options):
        seen.update(options)
        return None, None, None, Status.TIME_LIMIT

    program = ffoadapt.ConeProgram.from_split(P, Q, np.eye(2), BELOW)
    with pytest.raises(ffoadapt.SolveError, match="time_limit") as caught:
        ffoadapt.solve(program, lazy, solver_options={"speed": 3})
    assert caught.value.statuses == {0: Status.TIME_LIMIT}
    assert seen == {"speed": 3}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: (X, Z, np.zeros(0), 1), "expected an ffoadapt.Status"),
        (lambda: (X, Z), "returned 2 values; expected x, z_ineq, y_eq"),
        (lambda: (np.ones(3), Z, np.zeros(0)), "wrong shape"),
        (lambda: (X * np.nan, Z, np.zeros(0)), "not finite"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["status", "count", "shape", "nan", "raises"],
)
def test_a_function_that_answers_wrongly_is_told(answer, words):
    solver = ffoadapt.split_solver(lambda P, q, G, h, A, b, options: answer())
    program = ffoadapt.ConeProgram.from_split(P, Q, np.eye(2), BELOW)
    with pytest.raises(ffoadapt.SolveError, match=words):
        ffoadapt.solve(program, solver)


def test_register_at_run_time():
    name = "run_time_test_solver"
    for solver in (split, ReferenceSolver, ReferenceSolver()):  # a second call replaces the first
        ffoadapt.register_solver(name, solver)
        assert name in ffoadapt.solvers()
        sol = ffoadapt.qp(P, Q, np.eye(2), BELOW, solver=name)
        assert np.allclose(sol.x, X, atol=1e-6)
    row = next(r for r in ffoadapt.plugins() if r.name == name)
    assert row.distribution == "(this process)"
    assert ffoadapt.check_solver(name).ok


def test_register_refuses():
    with pytest.raises(ffoadapt.OptionError, match="decorated"):
        ffoadapt.register_solver("function", lambda P, q: None)
    installed = [
        r.name for r in ffoadapt.plugins() if r.kind == "solver" and "this" not in r.distribution
    ]
    for name in installed[:1]:
        with pytest.raises(ffoadapt.DuplicatePluginError, match=name):
            ffoadapt.register_solver(name, ReferenceSolver)


def test_a_class_that_is_no_solver():
    class Almost:
        def solve(self, program, options, session):
            return None

    with pytest.raises(ffoadapt.OptionError, match="Almost"):
        ffoadapt.qp(P, Q, np.eye(2), BELOW, solver=Almost)


def test_a_misspelled_name():
    name = "run_time_spelled_solver"
    ffoadapt.register_solver(name, ReferenceSolver)
    with pytest.raises(ffoadapt.UnknownPluginError, match=f"Did you mean '{name}'"):
        ffoadapt.qp(P, Q, np.eye(2), BELOW, solver="run_time_speled_solver")
