"""What `qp`, `box_qp` and `cone_program` return: arrays, and next to them how the call went."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

from .._exceptions import DifferentiationError
from .._oracle.report import GradientReport, Reports
from .._program.points import Status
from .outcome import Outcome, described, unknown

__all__ = ["BoxSolution", "ConeSolution", "QPSolution", "Solved", "plain_tuple"]

Named = TypeVar("Named", bound=tuple[Any, ...])


class Solved:
    """What solutions have in common: how the call went, next to its arrays.

    That is no entry of the tuple, so what a framework makes of a solution (``jit``, ``vmap``, a map
    over its arrays) and copies of it, pickled ones too, have the arrays alone.
    """

    @property
    def _outcome(self) -> Outcome | None:
        return self.__dict__.get("outcome")

    @property
    def status(self) -> Status | list[Status] | None:
        """A `Status`; with batch axes a list of them in the order of the flat batch.

        None where it is not known: in ``jit``, ``vmap`` and ``torch.compile``, and of copies.
        """
        outcome = self._outcome
        return None if outcome is None else outcome.status

    @property
    def info(self) -> Any:
        """A dict of what the solver said, and its name; lists and None as for `status`."""
        outcome = self._outcome
        return None if outcome is None else outcome.info

    @property
    def objective(self) -> Any:
        """(*batch,) 1/2 x'Px + q'x, differentiable, of a call with ``objective=True``.

        Raises `DifferentiationError` of other calls, and of what a framework made of a solution.
        """
        try:
            return self.__dict__["objective"]
        except KeyError:
            raise DifferentiationError(
                "this solution has no objective: ask for it with objective=True, and, inside of "
                "jit, vmap or torch.compile, take it where the call is made: what comes out of "
                "these has the arrays of the tuple alone"
            ) from None

    def report(self) -> GradientReport | Reports:
        """Why to trust the gradient, or not; one report, or a sequence of one a batch element.

        Raises `DifferentiationError` where `status` is None.
        """
        outcome = self._outcome
        if outcome is None:
            raise unknown()
        return outcome.report()

    def __repr__(self) -> str:
        made = cast("_QPArrays", self)
        fields = zip(made._fields, made, strict=True)
        arrays = ", ".join(f"{name}={value!r}" for name, value in fields)
        return f"{type(self).__name__}({arrays}; {described(self.status)})"

    def __reduce__(self) -> Any:
        return type(self), tuple(cast("tuple[Any, ...]", self))


def plain_tuple(cls: type[Named]) -> type[Named]:
    """The named tuple as a child of `tuple` alone, which is how frameworks tell named tuples."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base not in (tuple, object):
            members |= {name: v for name, v in vars(base).items() if name not in _OWN}
    members["__repr__"] = Solved.__repr__
    made: type[Named] = type(cls.__name__, (tuple,), members)
    return made


_OWN = ("__slots__", "__dict__", "__weakref__")
"""Each class makes its own: slots keep instances of named tuples from having attributes."""


class _QPArrays(NamedTuple):
    x: Any
    z_ineq: Any
    y_eq: Any


class _BoxArrays(NamedTuple):
    x: Any
    y: Any


class _ConeArrays(NamedTuple):
    x: Any
    s: Any
    z: Any


@plain_tuple
class QPSolution(_QPArrays, Solved):
    """x (*batch, n); z_ineq (*batch, rows of G) >= 0; y_eq (*batch, rows of A).

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


@plain_tuple
class BoxSolution(_BoxArrays, Solved):
    """x (*batch, n); y (*batch, m), positive where u holds and negative where l holds.

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


@plain_tuple
class ConeSolution(_ConeArrays, Solved):
    """x (*batch, n); slack s and dual z (*batch, m).

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """
