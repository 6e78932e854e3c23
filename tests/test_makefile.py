"""`make demo` sets up less than `make test`, and neither takes the other's set-up for its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile and what its targets depend on, with an environment in which nothing is."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    manifests = [p.relative_to(ROOT) for p in (ROOT / "plugins").glob("ffoadapt-*/pyproject.toml")]
    names = ["Makefile", "pyproject.toml", "constraints.txt", "requirements-dev.txt"]
    for name in [*names, "hatch_build.py", *manifests]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    return tmp_path


def would_run(clone: Path, target: str) -> str:
    command = ["make", "--dry-run", "PYTHON=python3", target]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_demo_sets_up_what_it_needs(clone: Path) -> None:
    text = would_run(clone, "demo")
    assert "-e ./plugins/ffoadapt-torch" in text and "requirements-dev.txt" not in text
    assert "ffoadapt-gurobi" not in text and "venv .venv" not in text
    (clone / ".venv" / "bin" / "python").unlink()
    assert "python3 -m venv .venv" in would_run(clone, "demo")


def test_the_tests_set_up_everything_after_the_demo_did(clone: Path) -> None:
    (clone / ".venv" / ".demo").touch()
    assert "pip install" not in would_run(clone, "demo")
    text = would_run(clone, "test")
    assert "requirements-dev.txt" in text and "-e ./plugins/ffoadapt-gurobi" in text


def test_the_demo_uses_everything_where_it_is_there(clone: Path) -> None:
    (clone / ".venv" / ".stamp").touch()
    assert "pip install" not in would_run(clone, "demo")
    assert "pip install" not in would_run(clone, "test")
