"""The demo runs in small: the table has a line for each framework, and the plot is written."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ffoadapt

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("cvxpy", "jax", "matplotlib", "skfolio", "torch")


@pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
)
def test_portfolio(tmp_path: Path) -> None:
    ready = ffoadapt.solvers()
    solver = "daqp" if "daqp" in ready else ready[0]
    plot = tmp_path / "portfolio.png"
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "portfolio.py")]
    command += ["--solvers", solver, "--epochs", "1", "--output", str(plot)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    rows = {words[1]: words for words in lines if words[:1] == [solver] and "skipped:" not in words}
    assert set(rows) == {"torch", "jax"}
    for words in rows.values():
        assert float(words[2]) < 1e-6  # gradient error
        assert [float(word) for word in words[4:6]] == pytest.approx(
            [float(word) for word in rows["torch"][4:6]], abs=0.02
        )
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("jax", "torch")), reason="needs jax and torch"
)
@pytest.mark.parametrize("solver", ["slsqp", "auto"])
def test_hs71(solver: str) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "hs71.py")]
    command += ["--solver", solver]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    rows = [line.split() for line in found.stdout.splitlines()]
    assert [row[0] for row in rows if row[0].endswith(":")] == ["torch:", "JAX:"]
    gradients = [[float(row[k].strip(",")) for k in (3, 5, 7)] for row in rows if row[0] == "dy3"]
    assert gradients[0] == pytest.approx(gradients[1], abs=1e-8)
    assert found.stdout.count("[1.0, 4.743, 3.82115, 1.379408]") == 2
