"""What a forward call keeps for its derivatives, and for what is asked of it later."""

from __future__ import annotations

from dataclasses import dataclass

from .._oracle.factors import Evidence
from .._oracle.gradient import Oracle
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._solve.closest import Closest
from .axes import Axes

__all__ = ["State"]


@dataclass(eq=False, slots=True, weakref_slot=True)
class State:
    """The programs of a call, their points, an oracle there, and the solver's name."""

    axes: Axes
    batch: ProgramBatch
    points: Points
    oracle: Oracle
    name: str
    closest: Closest | None = None
    evidence: Evidence | None = None
    """What the latest derivative rests on."""
