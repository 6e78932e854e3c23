"""Interleaved timing: A, B, C, A, B, C, ... so that a busy moment of the machine meets all alike.

Whoever takes less than `SHORT` is called once more before each timed call, so that the processor's
caches hold its own code and not that of the contestant before: the times of a training loop.

Medians per contestant, and medians of the ratios within each round. Seconds of CPU are kept as
well: on a busy machine they say what the wall clock cannot (of one thread; a waiting one may spin).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Contestant", "Timing", "median_ratio", "race"]


ROUNDS = 7
"""So many rounds at least: the first find memory and caches cold, and a median must not be one of
those."""

SHORT = 0.02
"""Seconds below which a call is preceded by one that is not timed."""


@dataclass(frozen=True)
class Contestant:
    """``forward()`` gives a state, ``backward(state)`` the gradients by name; either may raise.

    A call runs inside ``around()``, which is not timed.
    """

    name: str
    forward: Callable[[], Any]
    backward: Callable[[Any], Any] | None = None
    gradients: Callable[[Any], dict[str, Any]] | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass
class Timing:
    """Seconds of every round, and what came out of the first call."""

    name: str
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    result: Any = None
    failure: str = ""

    @property
    def total(self) -> list[float]:
        return [f + b for f, b in zip(self.forward, self.backward, strict=True)]

    def median(self, part: str = "total") -> float:
        """Median seconds of forward, backward, total or cpu; NaN where it failed."""
        values = getattr(self, part)
        return statistics.median(values) if values else float("nan")


def race(
    contestants: list[Contestant], budget: float, rounds: int = 40, slowest: float = 20.0
) -> dict[str, Timing]:
    """Time all contestants in turn for about ``budget`` seconds (at least `ROUNDS` rounds).

    The first call of each is not timed: it builds and imports, and gives the result to check. One
    whose second call takes longer than ``slowest`` seconds runs no more than that.
    """
    timings = {c.name: Timing(c.name) for c in contestants}
    running = []
    for contestant in contestants:
        timing = timings[contestant.name]
        try:
            state = contestant.forward()
            gradients = contestant.backward(state) if contestant.backward else None
            if contestant.gradients is not None:
                timing.result = contestant.gradients(gradients)
            del state, gradients  # a training loop keeps no graph of an earlier step either
            _once(contestant, timing)
        except Exception as error:  # a contestant that fails loses; the race goes on
            timing.failure = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            timing.forward.clear()
            timing.backward.clear()
            timing.cpu.clear()
            continue
        if timing.total[0] < slowest:
            running.append(contestant)
    deadline = time.perf_counter() + budget
    for k in range(rounds):
        if k >= ROUNDS and time.perf_counter() > deadline:
            break
        for contestant in running:
            _once(contestant, timings[contestant.name])
    return timings


def _once(contestant: Contestant, timing: Timing) -> None:
    with contestant.around():
        if timing.total and timing.total[0] < SHORT:
            state = contestant.forward()
            if contestant.backward is not None:
                contestant.backward(state)
        busy, start = time.process_time(), time.perf_counter()
        state = contestant.forward()
        middle = time.perf_counter()
        if contestant.backward is not None:
            contestant.backward(state)
        end = time.perf_counter()
        timing.cpu.append(time.process_time() - busy)
    timing.forward.append(middle - start)
    timing.backward.append(end - middle)


def median_ratio(first: Timing, second: Timing, part: str = "total") -> float:
    """Median over the rounds of the ratio of the totals (or of ``cpu``)."""
    pairs = list(zip(getattr(first, part), getattr(second, part), strict=False))
    return statistics.median(a / b for a, b in pairs) if pairs else float("nan")
