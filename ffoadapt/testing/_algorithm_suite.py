"""`AlgorithmSuite`: what an algorithm of `ffoadapt.bilevel` must keep to, as pytest tests.

class TestMine(ffoadapt.testing.AlgorithmSuite):
    algorithm = "mine"

    def array(self, value): return torch.tensor(value)
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._exceptions import OptionError
from .._plugins.algorithm import Algorithm
from .._plugins.registry import registry
from ..bilevel import BilevelProblem, minimize
from ._assertions import WithWaivers, close, expect
from ._declaration_checks import imports_of_registration
from ._subject import CheckFailure, CheckSkipped

__all__ = ["AlgorithmSuite"]

SLOPE = np.array([[0.9, 0.1], [-0.2, 0.7], [0.3, 0.4]])
TARGET = np.array([1.0, -0.5, 0.25])
RIDGE = 0.2


class AlgorithmSuite(WithWaivers):
    """One test for each promise; subclass it as ``TestMine`` and write `array`.

    The problem is f = |y - t|^2 / 2 + 0.1 |x|^2, where y minimizes |y - Mx|^2 / 2, given as a
    function or as the map x -> Mx, whichever the algorithm takes; its solution is known.

    Attributes
    ----------
    algorithm
        The name it is registered under.
    options, steps, tolerance
        With these it comes that close to the solution in x, relative to its size, from 0.
    waive
        Reasons by the name of a test: not run, shown as skipped.
    """

    algorithm: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    steps: ClassVar[int] = 1000
    tolerance: ClassVar[float] = 1e-2

    def array(self, value: Any) -> Any:
        """A framework's array with these numbers, of the dtype of the NumPy array ``value``."""
        raise NotImplementedError("array(value) is to be written by the suite's subclass")

    # -- the tests

    def test_registered(self) -> None:
        """It is found by its name, and points to a frozen dataclass that is an `Algorithm`."""
        made = registry.get("algorithm", self.algorithm)
        expect(isinstance(made, Algorithm), f"{made!r} is no ffoadapt.Algorithm")
        params = getattr(type(made), "__dataclass_params__", None)
        expect(
            params is not None and params.frozen, f"{type(made).__name__} is no frozen dataclass"
        )

    def test_lazy_import(self) -> None:
        """Registering it imports nothing heavy."""
        spec = registry.specs("algorithm")[self.algorithm]
        if not isinstance(spec.load, str):
            raise CheckSkipped("it was registered at run time, as an object")
        imported = imports_of_registration((*spec.requires, spec.load.partition(":")[0]))
        expect(not imported, f"listing the plugins imported {', '.join(imported)}")

    def test_lower_levels(self) -> None:
        """It says which lower levels it takes, and runs on each that is a function or a map."""
        kinds = registry.get("algorithm", self.algorithm).lower
        expect(set(kinds) <= {"function", "map", "program"} and len(kinds) > 0, f"lower={kinds!r}")
        for kind in kinds:
            if kind != "program":
                self._run(2, kind=kind)

    def test_unknown_option(self) -> None:
        """An option that it has not is refused."""
        try:
            self._run(1, no_such_option=1)
        except OptionError:
            return
        raise CheckFailure("the option 'no_such_option' was accepted")

    def test_solution(self) -> None:
        """It comes as near to the solution as it is said to."""
        exact = np.linalg.solve(SLOPE.T @ SLOPE + RIDGE * np.eye(2), SLOPE.T @ TARGET)
        close("x", self._numbers(self._run(self.steps).x), exact, self.tolerance)

    def test_value(self) -> None:
        """The record's value is f where the step began, to within that step."""
        result = self._run(1)
        value = 0.5 * float(TARGET @ TARGET)
        expect(
            abs(result.history["value"][0] - value) <= 0.5 * value,
            f"the first value is {result.history['value'][0]}, f at the start is {value}",
        )

    def test_steps_are_functions(self) -> None:
        """A step taken twice gives the same bits and changes nothing that went in."""
        problem, algorithm = self._problem(), self._algorithm()
        state = algorithm.init(problem, *problem.start())
        state, _ = algorithm.step(problem, state)
        kept = [self._numbers(a).copy() for a in self._leaves(problem, state)]
        first, record = algorithm.step(problem, state)
        second, again = algorithm.step(problem, state)
        for a, b in zip(self._leaves(problem, first), self._leaves(problem, second), strict=True):
            expect(np.array_equal(self._numbers(a), self._numbers(b)), "two equal steps differ")
        for a, b in zip(self._leaves(problem, state), kept, strict=True):
            expect(np.array_equal(self._numbers(a), b), "a step changed the state it was given")
        expect(record["value"] == again["value"], "two equal steps have different records")

    def test_gradient_calls(self) -> None:
        """Every step counts gradients, all through the problem."""
        problem, algorithm = self._problem(), self._algorithm()
        state, total = algorithm.init(problem, *problem.start()), 0
        for _ in range(3):
            before = problem.gradient_calls
            state, record = algorithm.step(problem, state)
            used = problem.gradient_calls - before
            total += used
            expect(used > 0, "a step took no gradient through the problem")
            expect(record["gradient_calls"] == total, f"{record['gradient_calls']} is not {total}")

    def test_records(self) -> None:
        """The same names at every step, and numbers."""
        history = self._run(4).history
        lengths = {len(column) for column in history.values()}
        expect(lengths == {4}, f"columns of {sorted(lengths)} rows after 4 steps")

    def test_checkpoint(self) -> None:
        """A run that goes on from a file gives the bits of one that was not interrupted."""
        whole = self._run(6)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            self._run(3, checkpoint=path)
            parts = self._run(6, checkpoint=path)
        same = np.array_equal(self._numbers(parts.x), self._numbers(whole.x))
        expect(same, "a run cut in two ends elsewhere")
        expect(parts.history["value"] == whole.history["value"], "its values differ")

    def test_float32(self) -> None:
        """float32 stays float32."""
        start = np.zeros(2, dtype=np.float32)
        made = self.array(start)
        if "float32" not in str(made.dtype):
            raise CheckSkipped("array() makes no float32")
        result = self._run(2, dtype=np.float32)
        expect("float32" in str(result.x.dtype), f"x came back as {result.x.dtype}")

    # -- helpers

    def _algorithm(self) -> Any:
        made: Any = registry.get("algorithm", self.algorithm)
        return dataclasses.replace(made, **self.options)

    def _parts(self, kind: str | None, dtype: Any) -> tuple[Any, ...]:
        M, t = self.array(SLOPE.astype(dtype)), self.array(TARGET.astype(dtype))
        kind = kind or registry.get("algorithm", self.algorithm).lower[0]

        def upper(x: Any, y: Any) -> Any:
            return ((y - t) ** 2).sum() / 2 + (RIDGE / 2) * (x * x).sum()

        def function(x: Any, y: Any) -> Any:
            return ((y - M @ x) ** 2).sum() / 2

        x, y = self.array(np.zeros(2, dtype)), self.array(np.zeros(3, dtype))
        return (upper, function, x, y) if kind == "function" else (upper, lambda x: M @ x, x, None)

    def _problem(self) -> BilevelProblem:
        return BilevelProblem(*self._parts(None, np.float64))

    def _run(
        self, steps: int, kind: str | None = None, dtype: Any = np.float64, **more: Any
    ) -> Any:
        options = {**self.options, **more}
        upper, lower, x, y = self._parts(kind, dtype)
        return minimize(upper, lower, x, y, self.algorithm, steps, **options)

    @staticmethod
    def _leaves(problem: BilevelProblem, state: Any) -> list[Any]:
        x, y = problem.leaves(state.x, state.y)
        return [*x, *y]

    @staticmethod
    def _numbers(array: Any) -> Any:
        return np.asarray(array)
