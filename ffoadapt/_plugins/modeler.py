"""What a modeler must provide: a `Modeler`, which makes a `ParametricProgram` of a problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .._program.batch import ProgramBatch
from .._types import Floats

__all__ = ["Modeler", "ParametricProgram"]


class ParametricProgram(Protocol):
    """A family of programs, and the affine maps between a user's arrays and the canonical data.

    Arrays of user shape are float64 with one leading axis: (B or 1, *shape).
    """

    @property
    def parameters(self) -> Sequence[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the user's parameters."""

    @property
    def outputs(self) -> Sequence[tuple[str, tuple[int, ...]]]:
        """Names and shapes of what the user gets."""

    @property
    def unbounded(self) -> frozenset[str]:
        """Names of the parameters that may hold infinities (bounds)."""

    @property
    def convex(self) -> bool:
        """Whether P is semidefinite whatever the values; where not, each P is checked."""

    @property
    def declares(self) -> bool:
        """Whether `check` holds values to what parameters declare: without, it is not called
        where the user set ``check_attributes=False``."""

    def check(
        self, values: Sequence[Floats], precision: Sequence[float] | None = None
    ) -> Sequence[Floats] | None:
        """Raise `ProblemError` where the values state no program, with the elements at fault.

        ``precision`` is the unit roundoff of each parameter's dtype as it came; None is float64's.
        Returns the values that enter the program, None for these.
        """

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        """The programs for these parameter values; ``size`` is B."""

    def program_vjp(
        self, gradient: Mapping[str, Floats], needed: Sequence[bool]
    ) -> list[Floats | None]:
        """Cotangents on the parameters from those on P, q, A, b (an `Adjoint`).

        Each has leading axis B, or 1 with the sum over the batch; axes before it are kept.
        """

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        """Tangents of P, q, A, b of ``batch`` with duals z (B, m); a missing name is zero."""

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        """The outputs (B, *shape) at points x (B, n), s, z (B, m); linear up to a constant."""

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        """Cotangents on x, s and z."""

    def retrieve_jvp(self, dx: Floats, ds: Floats, dz: Floats, batch: ProgramBatch) -> list[Floats]:
        """Tangents on the outputs."""

    def objective(self, values: Sequence[Floats], canonical: Floats) -> Floats:
        """The user's objective (B,) from the canonical one."""


class Modeler(ABC):
    """Turns a user's problem object into a `ParametricProgram`."""

    @abstractmethod
    def parametrize(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> ParametricProgram:
        """The family of programs; all work that does not depend on numbers is done here."""
