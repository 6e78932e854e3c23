"""What a bilevel algorithm must provide: an `Algorithm`, which moves a `BilevelState`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = ["Algorithm", "BilevelState"]


@dataclass(frozen=True)
class BilevelState:
    """Where a run of an `Algorithm` is: all that its next step depends on. Never changed in place.

    Attributes
    ----------
    x, y
        The user's trees of the framework's arrays, without gradient. ``y`` is None where the lower
        level is a callable x -> y.
    step
        How many steps were taken.
    gradient_calls
        How many gradients of the upper or of the lower function they took, all blocks of variables
        together being one.
    memory
        The algorithm's own: names to arrays, numbers, strings, None, and dicts, lists and tuples of
        these, so that it can be written to a file. A true ``memory["done"]`` ends the run.
    """

    x: Any
    y: Any
    step: int = 0
    gradient_calls: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the algorithm has nothing left to do."""
        return bool(self.memory.get("done", False))


class Algorithm(ABC):
    """Minimizes f(x, y) over x, where y minimizes g(x, .); one step at a time.

    A subclass is a frozen dataclass; its fields are its options, each with a default. It is written
    once, with operators on lists of arrays (``+ - *``, ``.sum()``), and runs in every framework
    that differentiates functions. `start` and `update` are the two methods to write; users call
    `init` and `step`, which are made of them.

    Laws: a step depends on the options, the state and the batch alone, and changes none of them;
    equal ones give equal states, to the bit. Gradients are taken through ``problem``, which counts
    them.
    """

    lower: ClassVar[Collection[str]] = ("function",)
    """The lower levels that it takes: ``"function"`` g(x, y), ``"map"`` x -> y, ``"program"``."""

    @abstractmethod
    def start(self, problem: Any, x: list[Any], y: list[Any]) -> Mapping[str, Any]:
        """The memory before the first step; ``problem`` is a `ffoadapt.bilevel.BilevelProblem`."""

    @abstractmethod
    def update(
        self, problem: Any, x: list[Any], y: list[Any], memory: Mapping[str, Any], batch: Any
    ) -> tuple[list[Any], list[Any], Mapping[str, Any], Mapping[str, float]]:
        """One step on the leaves of x and y.

        Returns
        -------
        x, y, memory
            After the step.
        record
            Numbers about it, the same names at every step; ``"value"`` is f where it began.
        """

    def init(self, problem: Any, x: Any, y: Any = None) -> BilevelState:
        """The state before the first step, at the trees ``x`` and ``y``."""
        first, second = problem.leaves(x, y)
        memory = self.start(problem, first, second)
        return BilevelState(problem.tree_x(first), problem.tree_y(second), memory=memory)

    def step(
        self, problem: Any, state: BilevelState, batch: Any = ()
    ) -> tuple[BilevelState, dict[str, float]]:
        """One step: the state after it, and the record of it.

        ``batch`` is a tuple of arrays (or trees) that both functions get after x and y, or
        ``{"upper": tuple, "lower": tuple}``. The record has ``"value"`` (of f, where the step
        began), ``"gradient_calls"`` (in all, after it) and the algorithm's own numbers.

        Raises
        ------
        ShapeError
            Where x or y come out with other shapes than they went in.
        """
        calls = problem.gradient_calls
        before_x, before_y = problem.leaves(state.x, state.y)
        x, y, memory, record = self.update(problem, before_x, before_y, state.memory, batch)
        problem.check_shapes((before_x, before_y), (x, y))
        total = state.gradient_calls + problem.gradient_calls - calls
        after = BilevelState(problem.tree_x(x), problem.tree_y(y), state.step + 1, total, memory)
        return after, {**record, "gradient_calls": float(total)}

    def certificate(self, problem: Any, state: BilevelState) -> Any:
        """What the state proves of its x, for `BilevelResult.certificate`; None for most."""
        return None
