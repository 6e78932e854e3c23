"""The bilevel examples run in small, in torch and in JAX: a table and a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: str) -> str:
    for name in ("sklearn", "matplotlib"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    command = [sys.executable, "-W", "error", str(ROOT / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["torch", "jax"])
def framework(request: pytest.FixtureRequest) -> str:
    if find_spec(request.param) is None or (request.param == "jax" and not find_spec("optax")):
        pytest.skip(f"{request.param} (with optax for JAX) is not installed")
    return request.param


@pytest.mark.parametrize(
    ("script", "share", "lines"),
    [
        ("bilevel_toys", "0.01", ["coreset", "non-singleton", "minimax", "200 starts", "|x|"]),
        ("hyper_cleaning", "0.02", ["all labels", "BOME", "V-PBGD", "F2SA"]),
        ("ridge_penalties", "0.05", ["least squares", "a penalty a feature"]),
    ],
)
def test_an_example(
    script: str, share: str, lines: list[str], framework: str, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    more = ["--seeds", "1"] if script == "hyper_cleaning" else []
    text = run(
        f"examples/{script}.py",
        *("--framework", framework, "--share", share, "--output", str(picture)),
        *more,
    )
    for line in lines:
        assert line in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    if script == "ridge_penalties":
        error = text.partition("closed form: ")[2].partition(",")[0]
        assert float(error) < 1e-9


def test_the_benchmark_runs() -> None:
    if find_spec("torch") is None:
        pytest.skip("needs torch")
    text = run("benchmarks/bilevel.py", "--share", "0.002")
    assert "hypergradient, Adam(0.1)" in text and "gradients alone" in text
