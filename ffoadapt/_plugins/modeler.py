"""What a modeler must provide: a `Modeler`, which makes a `ParametricProgram` of a problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from .._exceptions import UnsupportedProblemError
from .._program.batch import ProgramBatch
from .._program.structure import Structure
from .._types import Floats

__all__ = ["Modeler", "ParametricProgram"]


@runtime_checkable
class ParametricProgram(Protocol):
    """A family of programs, and the affine maps between a user's arrays and the canonical data.

    Arrays of user shape are float64 with one leading axis: (B or 1, *shape). A subclass inherits
    what has a default here; a class of its own has all of these members.

    Attributes
    ----------
    parameters, outputs
        Names and shapes of the user's parameters, and of what the user gets.
    structure
        The structure of all programs; with ``box``, that of their rows as they are stated.
    box
        Whether programs are stated as l <= Ax <= u (`ProgramBatch.box`): the canonical rows of each
        follow from its bounds, and the outputs are x and y. False by default.
    unbounded
        Names of the parameters that may hold infinities (bounds); none by default.
    convex
        Whether P is semidefinite whatever the values, as by default; if not, each P is checked.
    declares
        Whether `check` holds values to what parameters declare: if so, it is not called where the
        user set ``check_attributes=False``. False by default.
    traceable
        Whether there are `traced_program` and `traced_outputs`; False by default.
    logged, exponentiated
        Of a geometric program, see `Modeler.geometric`; empty by default.
    """

    parameters: Sequence[tuple[str, tuple[int, ...]]]
    outputs: Sequence[tuple[str, tuple[int, ...]]]
    structure: Structure
    box: bool = False
    unbounded: frozenset[str] = frozenset()
    convex: bool = True
    declares: bool = False
    traceable: bool = False
    logged: Sequence[int] = ()
    exponentiated: Sequence[bool] = ()

    def check(
        self, values: Sequence[Floats], precision: Sequence[float] | None = None
    ) -> Sequence[Floats] | None:
        """Raise `ProblemError` where the values state no program, with the elements at fault.

        ``precision`` is the unit roundoff of each parameter's dtype as it came; None is float64's.
        Returns the values that enter the program, None for these, as by default.
        """
        return None

    @abstractmethod
    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        """The programs for these parameter values; ``size`` is B."""

    @abstractmethod
    def program_vjp(
        self, gradient: Mapping[str, Floats], needed: Sequence[bool]
    ) -> list[Floats | None]:
        """Cotangents on the parameters from those on P, q, A, b (an `Adjoint`).

        Each has leading axis B, or 1 with the sum over the batch; axes before it are kept.
        """

    @abstractmethod
    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        """Tangents of P, q, A, b of ``batch`` with duals z (B, m); a missing name is zero."""

    @abstractmethod
    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        """The outputs (B, *shape) at points x (B, n), s, z (B, m); linear up to a constant."""

    @abstractmethod
    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        """Cotangents on x, s and z."""

    @abstractmethod
    def retrieve_jvp(self, dx: Floats, ds: Floats, dz: Floats, batch: ProgramBatch) -> list[Floats]:
        """Tangents on the outputs."""

    def objective(self, values: Sequence[Floats], canonical: Floats) -> Floats:
        """The user's objective (B,) from the canonical one, which it is by default."""
        return canonical

    def objective_vjp(
        self, values: Sequence[Floats], cotangent: Floats, needed: Sequence[bool]
    ) -> tuple[Floats, list[Floats | None]]:
        """Of `objective`: the cotangent on the canonical one, and those on the parameters.

        ``cotangent`` is (..., B). Those on the parameters are as in `program_vjp`, None for zero.
        """
        return cotangent, [None] * len(needed)

    def objective_jvp(
        self, values: Sequence[Floats], tangents: Sequence[Floats | None], canonical: Floats
    ) -> Floats:
        """The tangent (B,) of `objective` from that of the canonical one and the parameters'."""
        return canonical

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        """P, q, A, l, u of one element, dense, in the arrays of the namespace ``xp``; see
        `TracedSolve`."""
        raise NotImplementedError(f"{type(self).__name__} is traceable but has no traced_program()")

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        """The outputs of one element at x (n,), s = u - Ax and y (m,), in the arrays of ``xp``."""
        raise NotImplementedError(f"{type(self).__name__} is traceable but has no traced_outputs()")


class Modeler(ABC):
    """Turns a user's problem object into a `ParametricProgram`."""

    @abstractmethod
    def parametrize(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> ParametricProgram:
        """The family of programs; all work that does not depend on numbers is done here."""

    def geometric(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> ParametricProgram:
        """A geometric program as a convex one in logarithms; what ``Layer(..., gp=True)`` asks for.

        Its parameters are those of the user and after them the logarithms of some. It has two more
        attributes: ``logged``, of which parameters these are (their numbers, in order), and
        ``exponentiated``, for each output whether it is a logarithm of what the user gets. The
        layer takes the logarithms and the exponentials, also of the objective.
        """
        raise UnsupportedProblemError(
            f"gp=True, but {type(self).__name__} knows no geometric programs"
        )
