"""Runs the tests with the oldest versions that pyproject.toml allows, in environments of their own.

    python tools/oldest.py                       # both environments
    python tools/oldest.py numpy                 # the one with the oldest NumPy
    python tools/oldest.py numpy -- -x tests/test_cones.py

uv (``pip install uv``) chooses the lowest version of each direct requirement of the core and of the
plugins. Some plugins ask for a newer NumPy or JAX than the core does, so they are tried apart. Test
modules that import what an environment lacks are left out, and named.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = {
    "numpy": "clarabel daqp highs nlopt osqp piqp proxqp qpalm scs",
    "cvxpy": "cvxpy clarabel daqp gurobi highs jax moreau mpax osqp ray",
}
"""By environment; torch is left out, for its size."""

TOOLS = (
    "pytest>=8.1",
    "hypothesis>=6.100",
    "matplotlib>=3.9",
    "rich>=13",
    "threadpoolctl>=3.5",
    "hatchling>=1.27",
    "pyparsing>=3.1,<3.3",  # what later ones deprecate, the oldest matplotlib still uses
    "pip>=23.3",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("environments", nargs="*", metavar="|".join(PLUGINS), help="all of them")
    parser.add_argument("--keep", type=Path, help="the folder of the environments (temporary)")
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    options, for_pytest = parser.parse_args(given[:split]), given[split + 1 :]
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for name in options.environments or PLUGINS:
            print(f"==> {name}", flush=True)
            python = environment(folder, name)
            if test(python, name, for_pytest):
                failed.append(name)
    if failed:
        sys.exit(f"the oldest versions fail: {', '.join(failed)}")


def environment(folder: Path, name: str) -> Path:
    """The interpreter of a new environment with the oldest versions."""
    scripts = "Scripts" if os.name == "nt" else "bin"
    uv = folder / "uv"
    if not uv.exists():
        venv.create(uv, with_pip=True)
        subprocess.run([uv / scripts / "python", "-m", "pip", "install", "-q", "uv"], check=True)
    python = folder / name / scripts / "python"
    if not python.exists():
        subprocess.run([uv / scripts / "uv", "venv", "-q", "-p", sys.executable, folder / name])
    projects = [f"{ROOT}", *(f"{ROOT}/plugins/ffoadapt-{p}" for p in PLUGINS[name].split())]
    command = [uv / scripts / "uv", "pip", "install", "--python", python]
    command += ["--resolution", "lowest-direct", "--only-binary", ":all:"]
    for project in projects:
        command += ["-e", project]
    subprocess.run([*command, *TOOLS], check=True)
    return python


def test(python: Path, name: str, arguments: list[str]) -> int:
    """The exit code of pytest on the core's tests and those of the plugins."""
    folders = [ROOT / "tests"]
    folders += [
        ROOT / "plugins" / f"ffoadapt-{plugin}" / "tests" for plugin in PLUGINS[name].split()
    ]
    needs = {path: imported(path) for folder in folders for path in sorted(folder.glob("*.py"))}
    wanted = set().union(*needs.values()) - {path.stem for path in needs}
    look = (
        "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if not u.find_spec(n)))"
    )
    asked = subprocess.run(
        [python, "-c", look, *wanted], capture_output=True, text=True, check=True
    )
    lacking = set(asked.stdout.split())
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for path, names in needs.items():
        if names & lacking:
            print(f"without {path.relative_to(ROOT)}: {', '.join(sorted(names & lacking))}")
            command.append(f"--ignore={path}")
    if not any((ROOT / argument.partition("::")[0]).exists() for argument in arguments):
        command += folders
    return subprocess.run([*command, *arguments], cwd=ROOT).returncode


def imported(path: Path) -> set[str]:
    """The packages that a module imports at its top."""
    modules = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            modules |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


if __name__ == "__main__":
    main()
