"""The built-in algorithms keep to what the conformance kit asks of any; a broken one does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt.bilevel import Bome, Hypergradient
from ffoadapt.testing import AlgorithmSuite, CheckFailure

CASES: dict[str, dict[str, Any]] = {
    # A constant step of BOME ends in a ball of its size.
    "bome": {
        "options": {"step_size": 0.3, "lower_step_size": 0.5},
        "steps": 600,
        "tolerance": 0.1,
    },
    "f2sa": {"options": {"step_size": 0.3, "penalty": 100.0}, "steps": 60},
    "penalty": {"options": {"step_size": 0.5, "penalty": 20.0}, "steps": 600, "tolerance": 0.02},
    "hypergradient": {"options": {"step_size": 0.5}, "steps": 60, "tolerance": 1e-6},
    "goldstein": {"options": {"epsilon": 0.01}, "steps": 1200},
}
TESTS = sorted(name for name in vars(AlgorithmSuite) if name.startswith("test_"))


def suite(name: str, make: Any, case: dict[str, Any]) -> Any:
    body = {"algorithm": name, "array": staticmethod(make), **case}
    return type("TestMine", (AlgorithmSuite,), body)()


@pytest.fixture(params=["torch", "jax"])
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    module = pytest.importorskip(request.param)
    if request.param == "torch":
        yield module.tensor
        return
    with module.enable_x64(True):
        yield module.numpy.array


@pytest.mark.parametrize("name", CASES)
def test_built_in_algorithms_conform(name: str, make: Any) -> None:
    for test in TESTS:
        getattr(suite(name, make, CASES[name]), test)()


@dataclass(frozen=True)
class Unseen(Bome):
    """Takes its gradients past the problem's count."""

    def update(self, problem: Any, *rest: Any) -> Any:
        before = problem.gradient_calls
        found = super().update(problem, *rest)
        problem.gradient_calls = before
        return found


@dataclass(frozen=True)
class Uphill(Hypergradient):
    """A wrong sign."""

    def update(self, problem: Any, x: Any, *rest: Any) -> Any:
        moved, *others = super().update(problem, x, *rest)
        return [2 * a - b for a, b in zip(x, moved, strict=True)], *others


@dataclass(frozen=True)
class Forgetful(Bome):
    """What it does depends on what is not in its state."""

    def update(self, problem: Any, *rest: Any) -> Any:
        count = problem.cache["count"] = problem.cache.get("count", 0) + 1
        return Bome.update(replace(self, step_size=self.step_size / count), problem, *rest)


@pytest.mark.parametrize(
    ("broken", "failing"),
    [
        (Unseen, {"test_gradient_calls"}),
        (Uphill, {"test_solution"}),
        (Forgetful, {"test_checkpoint", "test_steps_are_functions"}),
    ],
)
def test_a_broken_algorithm_fails(broken: Any, failing: set[str]) -> None:
    torch = pytest.importorskip("torch")
    from ffoadapt._plugins.registry import registry

    registry.add(ffoadapt.AlgorithmSpec("broken", load=broken))
    try:
        found = set()
        for test in set(TESTS) - {"test_lazy_import"}:
            case = {"options": {"step_size": 0.02}, "steps": 20, "tolerance": 0.9}
            try:
                getattr(suite("broken", torch.tensor, case), test)()
            except (CheckFailure, ffoadapt.FFOAdaptError):
                found.add(test)
        assert failing <= found
    finally:
        del registry._entries["algorithm"]["broken"]


def test_the_suite_knows_the_answer() -> None:
    """Its closed form against a minimization by others."""
    from scipy.optimize import minimize

    from ffoadapt.testing._algorithm_suite import RIDGE, SLOPE, TARGET

    def value(x: Any) -> float:
        return float(((SLOPE @ x - TARGET) ** 2).sum() / 2 + RIDGE / 2 * (x @ x))

    exact = np.linalg.solve(SLOPE.T @ SLOPE + RIDGE * np.eye(2), SLOPE.T @ TARGET)
    assert np.abs(minimize(value, np.zeros(2), tol=1e-12).x - exact).max() < 1e-6
