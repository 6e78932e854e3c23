"""A run: steps until something ends them, with a bar, a history and a checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._exceptions import ParameterError
from .._plugins.algorithm import Algorithm, BilevelState
from .._runtime.text import told
from ._arrays import finite
from ._checkpoint import save
from ._problem import BilevelProblem
from ._result import BilevelError, BilevelResult
from ._source import Source

__all__ = ["Keeper", "Run"]

SAVE_EVERY = 10.0
"""Seconds between two writings of a checkpoint."""

SHOW_AFTER = 2.0
"""Seconds after which a run has a progress bar, where stderr is a terminal."""


class Run:
    """Where a run is, and what it has been through."""

    def __init__(self, problem: BilevelProblem, algorithm: Algorithm, callback: Any) -> None:
        self.problem, self.algorithm, self.callback = problem, algorithm, callback
        self.state = algorithm.init(problem, *problem.start())
        self.history: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.batch: Any = ()

    @property
    def step(self) -> int:
        return self.state.step

    def resume(self, state: Any) -> None:
        """Go on from a state that the user gives."""
        if not isinstance(state, BilevelState):
            raise ParameterError(
                f"state is a {type(state).__name__}; expected the .state of a BilevelResult"
            )
        self.problem.leaves(state.x, state.y)
        if set(state.memory) != set(self.state.memory):
            raise ParameterError(
                f"state has the memory {sorted(state.memory)}, which is not that of "
                f"{type(self.algorithm).__name__}: {sorted(self.state.memory)}"
            )
        self.state = state

    def load(self, state: BilevelState, history: dict[str, list[float]], seconds: float) -> None:
        """Go on from a checkpoint."""
        self.state, self.history, self.seconds = state, history, seconds

    def go(self, source: Source, last: int, limit: float | None, keeper: Keeper) -> BilevelResult:
        """Steps until something ends them."""
        began, before, first = time.monotonic(), self.seconds, self.step
        previous, status = self.state, "steps"
        try:
            with _Bar(last - first) as bar:
                while self.step < last and not self.state.done:
                    try:
                        self.batch = source.get(self.step)
                    except StopIteration:
                        status = "batches"
                        break
                    state, record = self.algorithm.step(self.problem, self.state, self.batch)
                    self.seconds = before + time.monotonic() - began
                    self._check(state, record, previous, keeper)
                    previous = self.state
                    self._add(state, record)
                    keeper.maybe(self)
                    bar.show(self.step - first, self.seconds - before, record["value"])
                    if self.callback is not None and self.callback(self.state, record):
                        status = "stopped"
                        break
                    if limit is not None and self.seconds - before >= limit and self.step < last:
                        status = "time_limit"
                        break
        except KeyboardInterrupt:
            status = "interrupted"
        except BilevelError:
            raise
        except Exception as error:
            if not self.history:  # at the first step there is nothing to lose
                raise
            keeper.now(self)
            raise BilevelError(
                f"step {self.step} failed: {told(error)}. Everything up to it is in .result"
                f"{keeper.told()}",
                self.result("failed"),
            ) from error
        if self.state.done and status == "steps":
            status = "converged"
        keeper.now(self)
        return self.result(status)

    def _add(self, state: BilevelState, record: Mapping[str, float]) -> None:
        row = {"step": float(self.step), **record, "seconds": self.seconds}
        if self.history and set(row) != set(self.history):
            raise ParameterError(
                f"the record of a step has {sorted(row)}; those before it had "
                f"{sorted(self.history)}"
            )
        for name, value in row.items():
            self.history.setdefault(name, []).append(float(value))
        self.state = state

    def _check(
        self,
        state: BilevelState,
        record: Mapping[str, float],
        previous: BilevelState,
        keeper: Keeper,
    ) -> None:
        """Raise where something is not finite; ``previous`` is the state before `state`'s."""
        x, y = self.problem.leaves(state.x, state.y)
        if not math.isfinite(record["value"]):
            number, what = self.step, f"the upper function is {record['value']}"
            if self.history and previous is not self.state:
                self._back(previous)
        elif not finite(x) or not finite(y):
            name = "y" if finite(x) else "x"
            number, what = self.step, f"{name} is not finite after it"
        else:
            return
        keeper.now(self)
        start = "the start" if self.step == 0 else f"the state after {self.step} steps"
        raise BilevelError(
            f"at step {number} {what}. The last finite one is {start}, which is in .result"
            f"{keeper.told()}. Smaller steps may help: step_size, lower_step_size",
            self.result("failed"),
        )

    def _back(self, previous: BilevelState) -> None:
        self.state = previous
        self.history = {name: column[:-1] for name, column in self.history.items()}

    def result(self, status: str) -> BilevelResult:
        """What there is."""
        problem, state = self.problem, self.state
        x, _ = problem.leaves(state.x, state.y)
        y, value = state.y, math.nan
        with contextlib.suppress(*(() if status != "failed" else (Exception,))):
            if problem.kind == "function":
                value = problem.value(*problem.leaves(state.x, state.y), self.batch)
            else:
                y = problem.framework.flatten(problem.answer(x, self.batch))
                y = y[1]([a.detach() if hasattr(a, "detach") else a for a in y[0]])
                value = problem.value_at(x, y, self.batch)
        return BilevelResult(
            state.x,
            y,
            value,
            self.history,
            state.gradient_calls,
            status,
            self.seconds,
            state,
            self.algorithm.certificate(problem, state),
        )


class Keeper:
    """Writes the checkpoint, if there is one."""

    def __init__(self, path: Path | None, problem: BilevelProblem, about: Any) -> None:
        self.path, self.problem, self.about = path, problem, about
        self.last = time.monotonic()

    def maybe(self, run: Run) -> None:
        if self.path is not None and time.monotonic() - self.last >= SAVE_EVERY:
            self.now(run)

    def now(self, run: Run) -> None:
        if self.path is not None:
            save(self.path, self.problem, self.about, (run.state, run.history, run.seconds))
            self.last = time.monotonic()

    def told(self) -> str:
        return "" if self.path is None else f" and in {self.path}"


class _Bar:
    """A progress bar in hundredths, once a run is long."""

    def __init__(self, total: int) -> None:
        self.total, self.shown = total, -1
        self._stack = contextlib.ExitStack()
        self._show: Callable[[str], None] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def show(self, done: int, seconds: float, value: float) -> None:
        if seconds < SHOW_AFTER:
            return
        if self._show is None:
            from .._runtime.progress import progress

            self._show = self._stack.enter_context(progress(100))
        share = 100 * done // self.total
        while self.shown < share:
            self.shown += 1
            self._show(f"step {done} of {self.total}, upper value {value:.6g}")
