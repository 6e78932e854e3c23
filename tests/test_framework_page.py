"""The plugin of docs/framework-in-25-lines.md: installed as a reader would, found, and right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("autograd", reason="autograd is not installed: pip install autograd")
pytest.importorskip("ffoadapt_cvxpy", reason="ffoadapt-cvxpy is not installed")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "framework-in-25-lines.md"
FENCE = re.compile(
    r'^```(?:python|toml)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL
)
MODULE = "ffoadapt_autograd.py"

blocks = FENCE.findall(PAGE.read_text())
files = {title: text for title, text in blocks if title}
usage = "\n".join(text for title, text in blocks if not title)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds the plugin."""
    project = tmp_path_factory.mktemp("project")
    for name, text in files.items():
        (project / name).write_text(text)
    site = project / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site), "."]
    # Not with make's constraints, whose path is that of the repository's root.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    subprocess.run(command, check=True, cwd=project, env=environment, capture_output=True)
    path = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "PROJECT": str(project)}


def run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=environment["PROJECT"],
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_as_many_lines_as_the_title_says() -> None:
    assert len([line for line in files[MODULE].splitlines() if line.strip()]) <= 25


def test_the_examples_of_the_page(installed: dict[str, str]) -> None:
    assert "autograd" in run(installed, "-m", "ffoadapt", "plugins")
    run(installed, "-W", "error", "-c", usage)


def test_the_conformance_kit(installed: dict[str, str]) -> None:
    told = run(
        installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "--rootdir", ".", "test_conformance.py",
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", told)
    assert passed and int(passed[1]) >= 45, told
