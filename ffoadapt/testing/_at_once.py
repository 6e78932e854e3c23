"""Several solves in threads at the same time: what the checks of threads have in common."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ._subject import CheckFailure

__all__ = ["at_once"]

Result = TypeVar("Result")


def at_once(works: Sequence[Callable[[], Result]], cause: str) -> list[Result]:
    """What these return that start together, each in a thread of its own, with threads that take
    turns far more often than usual; one that raises fails the check for that ``cause``."""
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def work(k: int) -> None:
        try:
            gate.wait(60.0)
            results[k] = works[k]()
        except BaseException as error:
            failures.append(error)
            gate.abort()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=work, args=(k,)) for k in range(len(works))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    if failures:
        real = [e for e in failures if not isinstance(e, threading.BrokenBarrierError)] or failures
        raise CheckFailure(
            f"of {len(works)} solves at once, one failed: {real[0]}. Likely cause: {cause}"
        ) from real[0]
    return [results[k] for k in range(len(works))]
