"""Bilevel optimization with gradients alone: minimize f(x, y), where y minimizes g(x, .).

`minimize` runs an algorithm by its name; an `Algorithm` and a `BilevelProblem` make one's own loop.
"""

from __future__ import annotations

from .._plugins.algorithm import Algorithm, BilevelState
from .._plugins.records import AlgorithmSpec
from ._bome import Bome
from ._duals import LowerProgram
from ._goldstein import Certificate, Goldstein
from ._hypergradient import Hypergradient
from ._minimize import minimize
from ._penalties import F2sa, Penalty
from ._problem import BilevelProblem
from ._result import BilevelError, BilevelResult

__all__ = [
    "Algorithm",
    "AlgorithmSpec",
    "BilevelError",
    "BilevelProblem",
    "BilevelResult",
    "BilevelState",
    "Bome",
    "Certificate",
    "F2sa",
    "Goldstein",
    "Hypergradient",
    "LowerProgram",
    "Penalty",
    "minimize",
]
