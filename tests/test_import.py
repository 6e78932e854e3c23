"""What importing ffoadapt costs, and which module may know which: the layers of the design."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ffoadapt

ROOT = Path(__file__).parents[1]
CORE = ROOT / "ffoadapt"
PLUGINS = sorted((ROOT / "plugins").glob("ffoadapt-*"))
HEAVY = {
    *("torch", "jax", "jaxlib", "mlx", "tensorflow", "cvxpy", "ray"),
    *("clarabel", "osqp", "scs", "gurobipy", "highspy", "piqp", "proxsuite", "daqp", "qpsolvers"),
}
FRAMEWORKS = {"torch", "jax", "jaxlib", "mlx", "tensorflow", "cvxpy"}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what an import brings in ---------------------------------------------------------------------


def test_import_brings_in_no_framework_and_no_solver() -> None:
    loaded = run("import sys, ffoadapt; print(*{name.partition('.')[0] for name in sys.modules})")
    found = set(loaded.split())
    assert "ffoadapt" in found
    assert not found & HEAVY
    assert not {name for name in found if name.startswith("ffoadapt_")}


def test_listing_plugins_imports_none_of_what_they_wrap() -> None:
    code = (
        "import sys, ffoadapt; ffoadapt.plugins(); names = ffoadapt.solvers();"
        "ffoadapt.frameworks(); ffoadapt.modelers(); ffoadapt.executors();"
        "assert 'clarabel' in names;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    found = set(run(code).split())
    assert "ffoadapt_clarabel" in found
    assert not found & HEAVY


def test_a_numpy_solve_imports_one_solver_alone() -> None:
    code = (
        "import sys, numpy as np, ffoadapt;"
        "ffoadapt.qp(np.eye(2), np.ones(2), solver='clarabel');"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert set(run(code).split()) & HEAVY == {"clarabel"}


def test_import_is_fast() -> None:
    """Less than 0.25 s, measured as processor time so that other work on the machine does not
    count; nothing was imported before, numpy and scipy included."""
    code = "import time; t = time.process_time(); import ffoadapt; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(4)) < 0.25


# --- names ----------------------------------------------------------------------------------------


def modules() -> list[str]:
    """All modules of the core by dotted name, but `__main__`, which runs."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in sorted(CORE.rglob("*.py")))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if not name.endswith("__main__")]


def plugin_modules() -> list[Path]:
    return [path for plugin in PLUGINS for path in sorted((plugin / "src").rglob("*.py"))]


def import_module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError as error:  # an extra that is not installed
        pytest.skip(str(error))


@pytest.mark.parametrize("name", modules())
def test_all_is_sorted_and_complete(name: str) -> None:
    """Sorted as ruff does: constants, classes, the rest. Every name exists, and there is one."""
    module = import_module(name)
    listed = getattr(module, "__all__", None)
    if listed is None and not any(
        getattr(value, "__module__", "") == name for value in vars(module).values()
    ):
        return  # a package of modules
    assert listed is not None, f"{name} has no __all__"
    assert len(set(listed)) == len(listed)
    key = lambda entry: (2 - entry[:1].isupper() - entry.isupper(), entry)  # noqa: E731
    assert list(listed) == sorted(listed, key=key), f"__all__ of {name} is not sorted"
    for entry in listed:
        assert hasattr(module, entry), f"{name}.__all__ lists {entry!r}, which does not exist"


def test_public_names_are_those_of_the_package() -> None:
    """`__all__` is what `ffoadapt.` completes to: nothing public is missing, nothing hides."""
    for name in ffoadapt.__all__:  # each is imported at first use
        getattr(ffoadapt, name)
    visible = {
        name
        for name, value in vars(ffoadapt).items()
        if not name.startswith("_")
        and type(value).__name__ != "module"
        and getattr(value, "__module__", "").startswith("ffoadapt")
    }
    assert len(visible) > 40
    assert visible <= set(ffoadapt.__all__)
    for name in (
        *("Layer", "qp", "box_qp", "cone_program", "solve", "ConeProgram", "gradient_report"),
        *("solvers", "frameworks", "plugins", "register_solver", "SolverSpec", "Status"),
        *("box_solver", "split_solver", "conic_solver", "check_solver", "FFOAdaptError"),
    ):
        assert name in ffoadapt.__all__ and getattr(ffoadapt, name) is not None


@pytest.mark.parametrize("name", ["LeastDistance", "Solutions", "call_each"])
def test_a_name_that_moved_says_where_it_is(name: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"{name!r}; it is ffoadapt\.experimental\.{name} now"
    ):
        getattr(ffoadapt, name)
    assert getattr(ffoadapt.experimental, name).__name__ == name


def test_every_exception_is_public() -> None:
    errors = importlib.import_module("ffoadapt._exceptions")
    assert set(errors.__all__) <= set(ffoadapt.__all__)
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in errors.__all__), "the tree in the docstring is complete"


# --- layers ---------------------------------------------------------------------------------------


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute dotted names of all that a file imports, inside functions too."""
    package = path.relative_to(ROOT).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            # `from . import _blas` imports a module; `from .x import y` may.
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def core_files(*exclude: str) -> Iterator[Path]:
    for path in sorted(CORE.rglob("*.py")):
        if not any(path.is_relative_to(CORE / part) for part in exclude):
            yield path


def test_the_reader_of_imports_reads() -> None:
    """A guard for the tests below: that relative imports come out as what they are."""
    assert "ffoadapt._cones" in imports(CORE / "_oracle" / "active_set.py")
    assert "ffoadapt._plugins.registry" in imports(CORE / "_layers" / "layer.py")
    assert "ffoadapt._runtime.blas" in imports(CORE / "_layers" / "function.py")
    assert "pluggy" in imports(CORE / "hookspecs.py")


def test_core_imports_no_framework_and_no_solver() -> None:
    for path in core_files():
        assert not roots(path) & HEAVY, path
        assert not {root for root in roots(path) if root.startswith("ffoadapt_")}, path


def test_core_needs_only_its_dependencies() -> None:
    """numpy, scipy, pluggy, qdldl; what an extra brings is imported in its corner alone."""
    allowed = {"numpy", "scipy", "pluggy", "qdldl", "ffoadapt", *sys.stdlib_module_names}
    optional = {
        "threadpoolctl": ("_runtime",),
        "rich": ("_cli", "_runtime"),
        "matplotlib": ("_cli",),
        "pytest": ("testing",),
    }
    for path in core_files():
        for root in roots(path) - allowed:
            homes = optional.get(root, ())
            assert any(path.is_relative_to(CORE / h) for h in homes), f"{path} imports {root}"


def inside(path: Path) -> set[str]:
    """The parts of ffoadapt that a file imports, by the first name below it."""
    parts = (name.split(".") for name in imports(path))
    return {p[1] for p in parts if p[0] == "ffoadapt" and len(p) > 1}


ROOMS = (
    {"_exceptions", "_types"},
    {"_kernel"},
    {"_runtime"},
    {"_cones"},
    {"_program"},
    {"_oracle", "_plugins", "hookspecs", "experimental"},
    {"_models"},
    {"_solve"},
    {"_layers"},
    {"_smooth"},
    {"bilevel"},
    {"testing"},
    {"_cli"},
)
"""The way of the data: a file imports from its own room, or from rooms above it in this table."""

BESIDE = {"_plugins": {"hookspecs"}, "hookspecs": {"_plugins"}, "experimental": {"_plugins"}}
"""Of rooms of one rank, which may know each other."""


def test_dependencies_point_one_way() -> None:
    """Imports inside of functions and for type checkers count too."""
    rooms = set().union(*ROOMS)
    places = {path.name.removesuffix(".py") for path in CORE.iterdir()}
    assert rooms == places & rooms, "the table names rooms that are not there"
    assert {p for p in places if not p.startswith("__") and p != "py.typed"} == rooms
    checked = 0
    for rank, room in enumerate(ROOMS):
        for name in room:
            allowed = {name, "__version__", *BESIDE.get(name, ())}.union(*ROOMS[:rank])
            path = CORE / name if (CORE / name).is_dir() else CORE / f"{name}.py"
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                assert inside(file) <= allowed, f"{file} imports {inside(file) - allowed}"
                checked += 1
    assert checked > 100


def test_oracle_knows_no_registry_no_plugin_no_framework() -> None:
    files = sorted((CORE / "_oracle").glob("*.py"))
    assert len(files) > 4
    for path in files:
        assert not inside(path) & {"_plugins", "hookspecs", "_models", "_solve", "_layers"}, path


def test_only_hookspecs_and_plugins_know_pluggy() -> None:
    know = {path.name for path in core_files() if "pluggy" in roots(path)}
    assert know == {"hookspecs.py", "discovery.py"}
    for path in plugin_modules():
        assert "pluggy" not in roots(path), path


@pytest.mark.parametrize("path", plugin_modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_import_only_public_names(path: Path) -> None:
    """And never each other."""
    own = path.relative_to(ROOT / "plugins").parts[0].replace("-", "_")
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            if module.partition(".")[0] == "ffoadapt":
                assert not any(part.startswith("_") for part in module.split(".")), module
                names = importlib.import_module(module).__all__
                for alias in node.names:
                    assert alias.name in names, f"{alias.name} is not public in {module}"
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ffoadapt":
            assert node.attr in ffoadapt.__all__, node.attr
    for root in roots(path):
        if root.startswith("ffoadapt_"):
            assert root == own, f"{path} imports another plugin: {root}"
    for name in imports(path):
        assert not name.startswith("ffoadapt._"), name


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_the_discoverable_module_of_a_plugin_is_light(plugin: Path) -> None:
    """Hooks run in every process: the package's `__init__` imports ffoadapt and no more, at
    least not before it is asked to."""
    (init,) = (plugin / "src").glob("*/__init__.py")
    for node in ast.parse(init.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in names:
                root = (name or "").partition(".")[0]
                assert root in {"ffoadapt", *sys.stdlib_module_names}, f"{init} imports {name}"


def test_no_core_file_names_a_vendor() -> None:
    """In code; comments and docstrings may give examples, error texts an install command."""
    vendors = (HEAVY - {"ray"}) | {"gurobi", "highs", "proxqp"}
    for path in core_files("testing", "_cli"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                assert name.lower() not in vendors, f"{path}: {name}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value.lower() not in vendors, f"{path}: {node.value!r}"


def test_works_with_a_scipy_that_the_compiled_code_does_not_know() -> None:
    lines = [
        "import scipy.linalg.cython_blas as module",
        "module.__pyx_capi__.pop('dsyrk')",
        "import numpy as np, ffoadapt",
        "from ffoadapt._kernel import compiled as kernel",
        "assert kernel is None",
        "program = ffoadapt.ConeProgram.from_split(np.eye(2), -np.ones(2), np.eye(2), [0.5, 2.0])",
        "result = ffoadapt.solve(program)",
        "assert abs(result.vjp(x=[1.0, 1.0]).h - [1.0, 0.0]).max() < 1e-12",
    ]
    run("\n".join(lines))
