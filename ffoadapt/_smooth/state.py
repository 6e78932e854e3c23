"""What a call of a smooth program keeps, for its derivatives and for who asks how it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._layers.axes import Axes
from .._program.points import Status
from .bounds import Bounds
from .oracle import SmoothOracle
from .place import Place
from .solving import Answer

if TYPE_CHECKING:
    from .function import SmoothFunction

__all__ = ["SmoothState"]


@dataclass(eq=False)
class SmoothState:
    """What one call keeps for its derivatives; a list has one entry a flat batch element."""

    function: SmoothFunction
    axes: Axes
    answers: list[Answer]
    bounds: list[Bounds | None]
    oracles: dict[int, SmoothOracle] = field(default_factory=dict)

    @property
    def status(self) -> list[Status]:
        return [answer.status for answer in self.answers]

    @property
    def info(self) -> list[dict[str, Any]]:
        return [answer.info for answer in self.answers]

    def solved(self, i: int) -> tuple[Place, Bounds]:
        """Of an element that has a solution."""
        place, bounds = self.answers[i].place, self.bounds[i]
        assert place is not None and bounds is not None
        return place, bounds
