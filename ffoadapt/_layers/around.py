"""Functions that are others with something before and behind: what they hand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from .._oracle.report import Reports
from .._program.batch import ProgramBatch
from .._program.points import Points
from .._solve.settings import Settings
from ..experimental import Keyed
from .outcome import Latest

__all__ = ["Around", "AroundState"]


class AroundState:
    """The state of such a call, with that of the function ``inside``."""

    inside: Any

    @property
    def batch(self) -> ProgramBatch:
        """The programs."""
        batch: ProgramBatch = self.inside.batch
        return batch

    @property
    def points(self) -> Points:
        """Their solutions."""
        points: Points = self.inside.points
        return points

    @property
    def name(self) -> str:
        """Of the solver."""
        return str(self.inside.name)


class Around(Keyed):
    """A function made of another one, ``inside``."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    @property
    def settings(self) -> Settings:
        """How it is solved."""
        settings: Settings = self.inside.settings
        return settings

    @property
    def latest(self) -> Latest:
        """How the last call went."""
        latest: Latest = self.inside.latest
        return latest

    @latest.setter
    def latest(self, latest: Latest) -> None:
        self.inside.latest = latest

    @property
    def on_report(self) -> Callable[[Reports], None] | None:
        """Called after every backward pass."""
        hook: Callable[[Reports], None] | None = self.inside.on_report
        return hook

    @on_report.setter
    def on_report(self, hook: Callable[[Reports], None] | None) -> None:
        self.inside.on_report = hook

    def with_settings(self, settings: Settings) -> Self:
        """The same program solved otherwise."""
        return type(self)(self.inside.with_settings(settings))
