"""One BLAS thread around our own linear algebra.

Small and mid-size factorizations are many times slower with several OpenBLAS threads than with one,
and batches already use the cores. Uses threadpoolctl where it is installed (``ffoadapt[threads]``);
without it, set OPENBLAS_NUM_THREADS=1 in the environment.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["finite", "one_thread"]

_lock = threading.Lock()
_state: dict[str, Any] = {"libraries": None, "depth": 0, "before": []}


def _libraries() -> list[Any]:
    if _state["libraries"] is None:
        if importlib.util.find_spec("threadpoolctl") is None:
            _state["libraries"] = []
        else:
            import threadpoolctl

            controllers = threadpoolctl.ThreadpoolController().select(user_api="blas")
            _state["libraries"] = controllers.lib_controllers
    found: list[Any] = _state["libraries"]
    return found


SMALL = 32
"""Below this order BLAS uses one thread by itself."""


SHORT = 8192
"""Up to this length a dot product is computed by one thread."""


def finite(*arrays: NDArray[np.float64]) -> bool:
    """A cheap look: True says that all entries are finite, False that some may not be."""
    # Sums of finite numbers are finite unless they overflow.
    for values in arrays:
        if values.size <= SHORT:
            flat = values.ravel("K")
            total = flat.dot(flat)
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                total = values.sum()
        if not math.isfinite(total):
            return False
    return True


class one_thread:  # noqa: N801 - reads as the statement it is
    """``with one_thread(order):`` bounds BLAS in the process until the last such block ends.

    ``order`` is that of the largest matrix; for small ones nothing needs to be done.
    """

    def __init__(self, order: int) -> None:
        self.needed = order > SMALL

    def __enter__(self) -> None:
        if not self.needed:
            return
        with _lock:
            if _state["depth"] == 0:
                libraries = _libraries()
                _state["before"] = [library.num_threads for library in libraries]
                for library, threads in zip(libraries, _state["before"], strict=True):
                    if threads != 1:
                        _set(library, 1)
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
                for library, threads in zip(_libraries(), _state["before"], strict=True):
                    if threads != 1:
                        _set(library, threads)


def _set(library: Any, threads: int) -> None:
    """Also where another thread was the last to set it: threadpoolctl would then do nothing, but
    here the lock and the depth say whose turn it is."""
    library.set_num_threads(threads)
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)
