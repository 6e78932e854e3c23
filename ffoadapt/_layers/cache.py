"""The functions of the latest structures and settings, so that calls find earlier sessions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from .._models.matrix_model import MatrixModel
from .._models.patterns import Orders
from .._program.pattern import Pattern
from .._solve.settings import Settings
from .function import SolveFunction
from .valued import ValuedFunction

__all__ = ["function_of"]

Function = SolveFunction | ValuedFunction

CACHED = 64
"""The functions of so many of the latest structures and settings are kept, with their sessions."""

_cache: OrderedDict[Any, Function] = OrderedDict()
_cache_lock = threading.Lock()


def function_of(
    model: type[MatrixModel],
    sizes: tuple[int, tuple[Any, ...]],
    patterns: Mapping[str, Pattern],
    orders: Orders,
    settings: Settings,
) -> Function:
    """The function of a structure and settings; the latest are kept."""
    n, rest = sizes
    if settings.key is None:
        return _made(model(n, patterns, *rest), settings, orders)
    key: Any = model, sizes, settings.key
    if patterns:
        key = key, *((name, p.key, id(orders.get(name))) for name, p in patterns.items())
    with _cache_lock:
        function = _cache.get(key)
        if function is not None:
            _cache.move_to_end(key)
            return function
        # The entry holds the solver and the orders, so that their ids are not given away.
        function = _cache[key] = _made(model(n, patterns, *rest), settings, orders)
        if len(_cache) > CACHED:
            _cache.popitem(last=False)
    return function


def _made(model: MatrixModel, settings: Settings, orders: Orders) -> Function:
    function = SolveFunction(model, settings, orders)
    return ValuedFunction(function) if settings.objective else function
