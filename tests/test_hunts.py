"""The hunt on families that people hand in, and the fuzz: what they find, and that they find it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import ExponentialCone, PowerCone, PSDCone, SecondOrderCone, Status

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
FAMILIES = (
    *("contradictory", "dependent", "nearly", "float32", "units", "unbounded"),
    *("transport", "assignment", "control"),
)


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.fixture
def hunt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("hunt", monkeypatch)


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("fuzz", monkeypatch)


# --- the hunt -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, hunt: ModuleType) -> None:
    outcomes = [hunt.judge(number, 20261, family, "auto") for number in range(12)]
    assert not [o.again for o in outcomes if o.offender]
    assert all(o.solved for o in outcomes if o.single)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_known_solution_misses_nothing(family: str, hunt: ModuleType) -> None:
    """Up to the rounding of the data; what has no solution is missed by the gap."""
    for number in range(30):
        case = hunt.drawn(number, 7, family, "auto")
        miss = hunt.missed(case, case.x / case.columns)
        contradicts = case.gap if case.q_shift is None else 0.0
        rounding = 1e-6 if case.dtype == "float32" else 1e-9
        assert miss.violation <= rounding + contradicts and miss.objective <= 1e-12
        if contradicts:
            assert miss.violation >= 0.01 * contradicts


def test_distances_from_cones(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = script("hunt_solution", monkeypatch).outside
    surface = np.array([0.3, 1.2, 1.2 * np.exp(0.25)])
    e = np.exp(0.25)
    normal = np.array([e, e * 0.75, -1.0]) / np.linalg.norm([e, e * 0.75, 1.0])
    assert outside(ExponentialCone(), surface - 1e-3 * normal) == 0.0
    for far in (1e-9, 1e-3, 0.1):
        assert outside(ExponentialCone(), surface + far * normal) == pytest.approx(far, rel=1e-2)
        assert outside(PowerCone(0.5), np.array([0.0, 0.0, far])) == pytest.approx(
            far * np.sqrt(2 / 3), rel=1e-6
        )
        assert outside(SecondOrderCone(3), np.array([-far, 0.0, 0.0])) == pytest.approx(far)
        assert outside(PSDCone(2), np.array([1.0, 0.0, -far])) == pytest.approx(far)
    assert outside(ExponentialCone(), np.array([0.0, 0.0, -2.0])) == pytest.approx(2.0)
    assert outside(ExponentialCone(), np.array([-1.0, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-12)


def claims(hunt: ModuleType, monkeypatch: pytest.MonkeyPatch, status: Status, move: float) -> Any:
    """The faults found where every solve says ``status``, of a point moved by ``move``."""

    def solve(case: Any) -> Any:
        x = (case.x + move) / case.columns
        return SimpleNamespace(status=status, x=x, info={})

    monkeypatch.setattr(hunt, "solve", solve)
    found = []
    for number in range(20):
        case = hunt.drawn(number, 3, "dependent", "auto")
        if case.dtype == "float64":
            found.append(hunt.judge_steps(replace(case, tolerance=None))[1])
    return found


@pytest.mark.parametrize(
    "status, move, words",
    [
        (Status.OPTIMAL, 1e-3, "violated (feasible)"),
        (Status.OPTIMAL, np.nan, "violated (feasible)"),
        (Status.PRIMAL_INFEASIBLE, 0.0, "claimed primal_infeasible"),
        (Status.DUAL_INFEASIBLE, 0.0, "claimed dual_infeasible"),
        (Status.ITERATION_LIMIT, 0.0, "not solved: iteration_limit"),
    ],
)
def test_the_hunt_finds_untrue_claims(
    status: Status, move: float, words: str, hunt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = claims(hunt, monkeypatch, status, move)
    assert all(any(fault.startswith(words) for fault in some) for some in faults)


def test_the_hunt_believes_what_is_true(hunt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (Status.OPTIMAL, Status.OPTIMAL_INACCURATE):
        assert not any(claims(hunt, monkeypatch, status, 0.0))


# --- the fuzz -------------------------------------------------------------------------------------


def test_fuzz(fuzz: ModuleType) -> None:
    for package in ("torch", "jax", "cvxpy"):  # it calls all ways in
        pytest.importorskip(package)
    said = list(fuzz.fuzz(22, 42, seed=3))
    assert [one for one in said if isinstance(one, int)] == list(range(22, 42))
    assert not [str(one) for one in said if not isinstance(one, int)]


def planted(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, way: Any) -> list[str]:
    monkeypatch.setattr(fuzz, "WAYS", {"planted": (way, 1.0)})
    return [finding.kind for finding in fuzz.attempt(0, 0)]


def test_the_fuzz_finds_what_is_planted(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(it: Any) -> None:
        ffoadapt.qp(np.eye(2), np.ones(2), executor="serial")
        raise KeyError("q")

    def refuses(it: Any) -> None:
        ffoadapt.qp(np.eye(3), np.ones(2))

    def misused(it: Any) -> None:
        ffoadapt.qp()  # type: ignore[call-arg]

    def writes(it: Any) -> None:
        q = it.given["q"] = np.ones(2)
        q[0] = np.nan

    def gives_nan(it: Any) -> None:
        it.outputs("x z", [np.ones(2), np.array([1.0, np.nan])])
        it.gradients(["P"], [np.array([np.nan])])

    def fails(it: Any) -> None:
        it.outputs("x z", [np.full(2, np.nan), np.full(2, np.nan)])

    for way, kinds in (
        (raises, ["exception"]),
        (refuses, []),
        (misused, []),
        (writes, ["changed"]),
        (gives_nan, ["NaN", "NaN"]),
        (fails, []),
    ):
        assert planted(fuzz, monkeypatch, way) == kinds


def test_the_fuzz_goes_on_after_a_crash(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child that ends in its second call: that call is named, and the third is made."""
    dies = tmp_path / "dies.py"
    dies.write_text(
        "import os, sys\n"
        "first, count, pipe = map(int, sys.argv[2:5])\n"
        "for k in range(first, first + count):\n"
        "    os.write(pipe, b'%d\\n' % k)\n"
        "    if k == 1: os.abort()\n"
        "os.write(pipe, b'end\\n')\n"
    )
    monkeypatch.setattr(fuzz, "__file__", str(dies))
    said = list(fuzz.fuzz(0, 3, seed=0))
    found = [one for one in said if not isinstance(one, int)]
    assert [one for one in said if isinstance(one, int)] == [0, 1, 2]
    assert [(one.call, one.kind, one.what) for one in found] == [(1, "crash", "SIGABRT")]


def test_the_fuzz_resumes(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[int, int]] = []

    def pretend(first: int, last: int, seed: int) -> Any:
        made.append((first, last))
        yield from range(first, last)

    monkeypatch.setattr(fuzz, "fuzz", pretend)
    log = str(tmp_path / "log")
    for calls in ("250", "400"):
        monkeypatch.setattr(sys, "argv", ["fuzz.py", "--calls", calls, "--log", log])
        fuzz.main()
    assert made == [(0, 250), (250, 400)]
