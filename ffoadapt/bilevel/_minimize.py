"""`minimize`: an algorithm's steps, one after the other, with all that a long run needs."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from .._exceptions import OptionError, ParameterError
from .._plugins.algorithm import Algorithm, BilevelState
from .._plugins.registry import registry
from .._runtime.text import told
from ._arrays import finite
from ._checkpoint import load, save, signature
from ._moves import check_count
from ._problem import BilevelProblem
from ._result import BilevelError, BilevelResult

__all__ = ["minimize"]

SAVE_EVERY = 10.0
"""Seconds between two writings of a checkpoint."""

SHOW_AFTER = 2.0
"""Seconds after which a run has a progress bar, where stderr is a terminal."""


def minimize(
    upper: Callable[..., Any],
    lower: Any,
    x: Any,
    y: Any = None,
    algorithm: str | Algorithm = "bome",
    steps: int = 1000,
    *,
    batches: Any = None,
    callback: Callable[[BilevelState, Mapping[str, float]], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    project: Mapping[str, Callable[[Any], Any]] | None = None,
    state: BilevelState | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> BilevelResult:
    """minimize f(x, y) over x, where y minimizes g(x, .), perhaps under constraints.

    Parameters
    ----------
    upper
        f: ``upper(x, y, *batch)`` -> scalar.
    lower
        With ``y``: g, ``lower(x, y, *batch)`` -> scalar. Without: ``lower(x, *batch)`` -> y,
        through any layer of this project (`ffoadapt.qp`, a `Layer`), or an
        `ffoadapt.bilevel.LowerProgram`.
    x, y
        Where to start: trees (dicts, lists, tuples, and in JAX any pytree) of torch or JAX arrays
        of floating-point numbers, such as ``dict(module.named_parameters())``. Not changed.
    algorithm
        A name (`ffoadapt.algorithms`), or an instance, such as ``ffoadapt.bilevel.Goldstein()``.
    steps
        How many to take.
    batches
        Where the functions take more arguments: a function from the number of a step to a tuple of
        arrays, or an iterable of these, which is begun anew when it ends (one that cannot be ends
        the run). ``{"upper": tuple, "lower": tuple}`` in place of a tuple where they differ.
    callback
        ``callback(state, record)`` after each step; a true result ends the run.
    checkpoint
        A file that is written every ten seconds and at the end. Where it exists, the run goes on
        from it, to the bit, up to ``steps`` in all, the first batches skipped; the other arguments
        must be those that it was begun with.
    project
        ``{"x": function, "y": function}``, one or both; see `BilevelProblem`.
    state
        Of an earlier result with the same algorithm: ``steps`` more from there.
    time_limit
        Seconds; the step during which it passes is the last.
    **options
        Of the algorithm: see its class.

    Returns
    -------
    BilevelResult
        At Ctrl-C too, of the steps up to there.

    Raises
    ------
    ParameterError, ShapeError
        Where upper ignores y, lower ignores x, or a structure or a shape is not the one expected.
    OptionError, UnknownPluginError
        For an unknown option or algorithm; they name the known ones.
    BilevelError
        Where a number is not finite, or a function fails after the first step; ``.result`` has all
        up to there.
    """
    chosen, used = _algorithm(algorithm, options)
    check_count("steps", steps, 0)
    _check_time(time_limit)
    problem = BilevelProblem(upper, lower, x, y, project)
    _check_kind(problem, chosen)
    source = _Batches(batches)
    run = _Run(problem, chosen, callback)
    if state is not None:
        run.resume(state)
        source.start = state.step
    first = run.batch = source.first()
    path, about = None, {}
    if checkpoint is not None:
        path = Path(checkpoint)
        about = signature(problem, chosen, used, first)
        if path.exists():
            if state is not None:
                raise ParameterError(f"state= and the checkpoint {path} both say where to start")
            run.load(*load(path, problem, about))
        elif not path.parent.is_dir():
            raise ParameterError(f"the folder of the checkpoint {path} does not exist")
    if run.step == 0:
        problem.check(*problem.start(), first)
    last = run.step + steps if state is not None else steps
    return run.go(source, last, time_limit, _Keeper(path, problem, about))


def _algorithm(algorithm: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The algorithm with these options, and all that it has."""
    name = repr(algorithm) if isinstance(algorithm, str) else type(algorithm).__name__
    chosen = registry.get("algorithm", algorithm) if isinstance(algorithm, str) else algorithm
    if not isinstance(chosen, Algorithm):
        raise OptionError(
            f"algorithm is a {type(chosen).__name__}; expected a name, one of "
            f"{', '.join(sorted(registry.ready('algorithm')))}, or an instance of an "
            "ffoadapt.Algorithm"
        )
    if not dataclasses.is_dataclass(type(chosen)):
        raise OptionError(
            f"the algorithm {name} is no dataclass, whose fields would be its options"
        )
    made: Any = chosen
    known = [f.name for f in dataclasses.fields(made)]
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(
                f"the algorithm {name} has no option {option!r}.{hint} It has: {', '.join(known)}"
            )
    made = dataclasses.replace(made, **options) if options else made
    return made, {name: getattr(made, name) for name in known}


def _check_kind(problem: BilevelProblem, algorithm: Algorithm) -> None:
    if problem.kind in algorithm.lower:
        return
    able = []
    for name in registry.ready("algorithm"):
        with contextlib.suppress(Exception):  # one that cannot be loaded is none to name
            if problem.kind in registry.get("algorithm", name).lower:
                able.append(name)
    what = {
        "function": "a function g(x, y)",
        "map": "a callable x -> y (no y was given)",
        "program": "a program with constraints",
    }[problem.kind]
    raise ParameterError(
        f"the lower level is {what}, which {type(algorithm).__name__} cannot take; these can: "
        f"{', '.join(sorted(able))}"
    )


def _check_time(limit: Any) -> None:
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) > 0.0:
        raise OptionError(f"time_limit={limit!r}; expected a positive number of seconds")


# --------------------------------------------------------------------------------------- a run


class _Run:
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

    def go(
        self, source: _Batches, last: int, limit: float | None, keeper: _Keeper
    ) -> BilevelResult:
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
        keeper: _Keeper,
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


class _Keeper:
    """Writes the checkpoint, if there is one."""

    def __init__(self, path: Path | None, problem: BilevelProblem, about: Any) -> None:
        self.path, self.problem, self.about = path, problem, about
        self.last = time.monotonic()

    def maybe(self, run: _Run) -> None:
        if self.path is not None and time.monotonic() - self.last >= SAVE_EVERY:
            self.now(run)

    def now(self, run: _Run) -> None:
        if self.path is not None:
            save(self.path, self.problem, self.about, (run.state, run.history, run.seconds))
            self.last = time.monotonic()

    def told(self) -> str:
        return "" if self.path is None else f" and in {self.path}"


class _Batches:
    """The batch of each step, from a function or an iterable."""

    def __init__(self, source: Any) -> None:
        if source is not None and not callable(source) and not isinstance(source, Iterable):
            raise ParameterError(
                f"batches is a {type(source).__name__}; expected an iterable of tuples of arrays, "
                "or a function from the number of a step to one"
            )
        self.source, self.start = source, 0
        self._iterator: Iterator[Any] | None = None
        self._held: list[Any] = []
        self._taken = 0

    def first(self) -> Any:
        """The batch of the first step, which `get` gives again."""
        if self.source is None:
            return ()
        if callable(self.source):
            return self.source(self.start)
        if not self._held:
            try:
                self._held = [self._next()]
            except StopIteration:
                raise ParameterError("batches is empty") from None
        return self._held[0]

    def get(self, step: int) -> Any:
        """The batch of a step; of an iterable those before it are skipped."""
        if self.source is None:
            return ()
        if callable(self.source):
            return self.source(step)
        while self._taken <= step - self.start:
            batch = self._held.pop() if self._held else self._next()
            self._taken += 1
        return batch

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.source)
        try:
            return next(self._iterator)
        except StopIteration:
            if self._iterator is self.source:
                raise
        self._iterator = iter(self.source)
        return next(self._iterator)


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
