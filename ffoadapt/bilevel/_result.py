"""What `minimize` returns, and the error that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._exceptions import SolveError
from .._plugins.algorithm import BilevelState

__all__ = ["BilevelError", "BilevelResult"]


@dataclass(frozen=True)
class BilevelResult:
    """Where a run ended.

    Attributes
    ----------
    x, y
        The trees of arrays, without gradient. Where the lower level is a callable x -> y, y is what
        it gives at x.
    value
        The upper function there, on the last batch; NaN where it has none.
    history
        Columns of equal length, one row a step, which pandas takes as they are: ``"step"`` (from
        0), ``"value"`` (of the upper function, where the step began), ``"gradient_calls"`` and
        ``"seconds"`` (in all, after it), and the algorithm's own. NaN where a row has none.
    gradient_calls
        Gradients of the upper and of the lower function, all blocks of variables together being
        one; a resumed run counts on.
    status
        ``"steps"`` (all were taken), ``"converged"``, ``"stopped"`` (by the callback),
        ``"time_limit"``, ``"batches"`` (there are no more), ``"interrupted"`` or ``"failed"``.
    seconds
        Of this run, with those of the checkpoint that it went on from.
    state
        To go on from: ``minimize(..., state=result.state)``.
    certificate
        Of an algorithm that gives one ("goldstein"), else None.
    """

    x: Any
    y: Any
    value: float
    history: Mapping[str, list[float]]
    gradient_calls: int
    status: str
    seconds: float
    state: BilevelState = field(repr=False)
    certificate: Any = field(default=None, repr=False)


class BilevelError(SolveError):
    """A run could not go on; nothing up to there is lost.

    Attributes
    ----------
    result
        The `BilevelResult` of the last step at which everything was finite.
    """

    def __init__(self, message: str, result: BilevelResult) -> None:
        super().__init__(message)
        self.result = result
