"""One BLAS thread around our own linear algebra.

Small and mid-size factorizations are many times slower with several OpenBLAS threads than with one,
and batches already use the cores. Uses threadpoolctl where it is installed (``ffoadapt[threads]``);
without it, set OPENBLAS_NUM_THREADS=1 in the environment.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from .costs import ONE_THREAD_ORDER

__all__ = ["one_thread"]

_lock = threading.Lock()
_state: dict[str, Any] = {"switches": None, "depth": 0, "changed": []}

Switch = tuple[Callable[[], int], Callable[[int], None]]


def _switches() -> list[Switch]:
    """How many threads each BLAS of the process uses, and how to change that."""
    if _state["switches"] is None:
        if importlib.util.find_spec("threadpoolctl") is None:
            _state["switches"] = []
        else:
            import threadpoolctl

            controllers = threadpoolctl.ThreadpoolController().select(user_api="blas")
            _state["switches"] = list(map(_switch, controllers.lib_controllers))
    switches: list[Switch] = _state["switches"]
    return switches


def _switch(library: Any) -> Switch:
    """Straight to the functions of OpenBLAS: threadpoolctl looks them up at every call, and lets no
    thread set what another has set; but here the lock and the depth say whose turn it is."""
    find = getattr(library, "_get_symbol", None)
    if find is not None and getattr(library, "threading_layer", "") == "pthreads":
        count, change = find("openblas_get_num_threads"), find("openblas_set_num_threads")
        if count is not None and change is not None:
            return count, change
    return library.get_num_threads, partial(_set, library)


def _set(library: Any, threads: int) -> None:
    library.set_num_threads(threads)
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


class one_thread:  # noqa: N801 - reads as the statement it is
    """``with one_thread(order):`` bounds BLAS in the process until the last such block ends.

    ``order`` is that of the largest matrix; for small ones nothing needs to be done.
    """

    def __init__(self, order: int) -> None:
        self.needed = order > ONE_THREAD_ORDER

    def __enter__(self) -> None:
        if not self.needed:
            return
        with _lock:
            if _state["depth"] == 0:
                changed = []
                for count, change in _switches():
                    threads = count()
                    if threads != 1:
                        change(1)
                        changed.append((change, threads))
                _state["changed"] = changed
            _state["depth"] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.needed:
            return
        with _lock:
            _state["depth"] -= 1
            if _state["depth"] == 0:
                for change, threads in _state["changed"]:
                    change(threads)
