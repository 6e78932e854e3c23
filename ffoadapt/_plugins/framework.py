"""What a framework must provide: a `Framework`, which wraps a `Differentiable`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol

import numpy as np

from .._exceptions import UnsupportedProblemError
from .._kernel.algebra import Algebra
from .._program.forms import BoxForm
from .._runtime.trees import flatten
from .._types import Floats

__all__ = ["Differentiable", "Framework", "TracedSolve"]


class Differentiable(Protocol):
    """A batched function with derivatives, in NumPy: what a framework wraps.

    ``values`` are arrays of shape (*batch, *core), broadcast over the batch axes; argument k has
    ``ndims[k]`` core axes. `forward` takes them in the floating dtype in which the user gave them,
    for what its rounding explains is no contradiction; everything else is float64. A *state* is
    what `forward` keeps for the derivatives.
    """

    @property
    def key(self) -> str:
        """Its key in this process, for graphs that carry no objects: it is an
        `ffoadapt.experimental.Keyed`."""

    @property
    def ndims(self) -> Sequence[int]:
        """Core axes of each argument."""

    def forward(self, values: Sequence[Floats]) -> tuple[list[Floats], Any]:
        """Outputs (*batch, *core) and the state."""

    def vjp(
        self, state: Any, cotangents: Sequence[Floats | None], needed: Sequence[bool]
    ) -> list[Floats | None]:
        """Cotangents on the arguments, each shaped like its argument; None where not needed.

        The cotangents may carry further axes before the batch axes; the result carries them too.
        """

    def jvp(self, state: Any, tangents: Sequence[Floats | None]) -> list[Floats]:
        """Tangents on the outputs from tangents shaped like the arguments."""

    def output_shapes(self, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs for argument shapes, for frameworks that trace."""

    def state_shapes(self, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the arrays that `pack` gives."""

    def pack(self, state: Any) -> list[Floats]:
        """The state as float64 arrays (*batch, ...), for frameworks that trace."""

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> Any:
        """The state again, from the arguments and `pack`'s arrays."""

    def traced(self, framework: str, xp: Any, auto: bool = False) -> TracedSolve | None:
        """The solve in the arrays of that framework, whose array namespace is ``xp``.

        None where the solver offers none for this program: call `forward` from the host then. With
        ``auto``, ``solver="auto"`` takes a solver that does, if there is one.
        """

    def maps(self, xp: Any) -> TracedSolve | None:
        """A traced solve that has no `solve`, for derivatives of derivatives: what comes before and
        after a point that is known. None where those of this program are not available."""

    def observe(self, shapes: Sequence[tuple[int, ...]], fetch: Callable[[], Any]) -> None:
        """A call with arguments of these shapes went by `traced`. ``fetch`` gives what `unpack`
        takes and the solver's name, should anybody ask how it went."""


class TracedSolve(Protocol):
    """The solve of one program in a framework's own arrays, without batch axes; `solve` also takes
    programs that have such axes in front.

    A program travels as l <= Ax <= u with dense matrices, whatever its form: P (n, n), q (n,),
    A (m, n), l and u (m,), which may hold infinities; its dual as y (m,), with Px + q + A'y = 0,
    y > 0 where u holds and y < 0 where l holds.
    """

    @property
    def name(self) -> str:
        """The solver's."""

    @property
    def polish(self) -> bool:
        """Whether the point may be made more accurate."""

    @property
    def limit(self) -> float:
        """A point with a larger relative KKT residual counts as failed."""

    @property
    def failed(self) -> float:
        """What a derivative through a failed program is: 0.0, or NaN where it should raise."""

    def program(self, values: Sequence[Any]) -> BoxForm:
        """The program for these parameter values; affine in them."""

    def solve(self, program: BoxForm) -> tuple[Any, Any, Any]:
        """x, y and whether they are a solution, which no contradictory or NaN data have.

        An element that is not solved may hold anything.
        """

    def outputs(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        """What the user gets of a point; linear in x and y up to a constant."""

    def pack(self, program: BoxForm, x: Any, y: Any) -> list[Any]:
        """The state at a point, as `Differentiable.pack` gives it: x first and y last."""


class Framework(ABC):
    """The arrays of one framework, to and from NumPy."""

    gradients_by_hand: ClassVar[bool] = False
    """Whether functions of a user's return their gradients, because nothing else takes them."""

    @abstractmethod
    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        """``function`` of the framework's arrays, as a differentiable function of the framework.

        Outputs have the dtype (the result type of the inputs) and device of the inputs.
        """

    @abstractmethod
    def to_numpy(self, array: Any) -> Any:
        """The array's numbers as a NumPy array of any dtype, without gradient."""

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        """(rows, columns, values) of the framework's sparse matrix type; None for other arrays.

        rows and columns are NumPy integer arrays, values a 1-d array of the framework through
        which gradients flow. Of a batch of matrices they may be any, for there is none: the caller
        refuses its shape.
        """
        return None

    def algebra(self, like: Any) -> Algebra:
        """What numerical code that is written once for all libraries asks of this one, for arrays
        of ``like``'s device; needed where solvers are to stay in the framework's arrays
        (`Solver.traces`)."""
        raise UnsupportedProblemError(
            f"{type(self).__name__} has no algebra(): solvers cannot be run in its arrays"
        )

    # -- functions of a user's, see `smooth` and `bilevel`

    def flatten(self, tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
        """The leaves of a tree (dicts by sorted key, lists, tuples, None), and what makes the same
        tree of other leaves, which is equal (``==``, and its hash) for trees of equal structure."""
        return flatten(tree)

    def from_numpy(self, array: Floats) -> Any:
        """A float64 array of the framework with these numbers, not shared with ``array``."""
        raise UnsupportedProblemError(_no_functions(self))

    def precise(self) -> AbstractContextManager[Any]:
        """A block in which float64 arrays stay float64."""
        return nullcontext()

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A pure function of lists of arrays, and of numbers, made faster where that is possible.

        It may call `gradients`. Kept by who calls as long as it is used.
        """
        return function

    def gradients(
        self, function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
    ) -> tuple[Any, list[Any]]:
        """Value and gradients of a function of arrays, all of the framework and of its dtype.

        Parameters
        ----------
        function
            Takes ``arrays`` one by one and returns a scalar. Kept alive by who calls, so that what
            was compiled for it may be kept as long.
        needed
            For which of the arrays; the others are constants.

        Returns
        -------
        value, gradients
            Without gradient themselves. A gradient is shaped like its array; None where it is not
            needed, and where the function does not depend on the array and the framework knows it.
        """
        raise UnsupportedProblemError(_no_functions(self))

    def gradients_each(
        self,
        function: Callable[..., Any],
        arrays: Sequence[Any],
        mapped: Sequence[bool],
        needed: Sequence[bool],
    ) -> tuple[Any, list[Any]]:
        """`gradients` for each row of the arrays that are ``mapped``, with an axis in front.

        One by one unless the framework knows better.
        """
        size = next(len(a) for a, on in zip(arrays, mapped, strict=True) if on)
        values, columns = [], []
        for k in range(size):
            row = [a[k] if on else a for a, on in zip(arrays, mapped, strict=True)]
            value, gradients = self.gradients(function, row, needed)
            values.append(self.to_numpy(value))
            columns.append([None if g is None else self.to_numpy(g) for g in gradients])
        each = [None if c[0] is None else np.stack(c) for c in zip(*columns, strict=True)]
        return np.stack(values), each

    def unused(self, function: Callable[..., Any], arrays: Sequence[Any]) -> list[bool]:
        """Which of the arrays the function of them does not depend on, as far as the framework can
        tell; where `gradients` says so with None, it need not be told here."""
        return [False] * len(arrays)

    def recorded(
        self,
        function: Callable[..., Any],
        arrays: Sequence[Any],
        needed: Sequence[bool],
        mapped: Sequence[bool] | None = None,
    ) -> tuple[Floats, Callable[[Floats, bool], list[Any]]] | None:
        """Values of a function that is evaluated once, and any number of gradients there.

        Parameters
        ----------
        function
            Takes ``arrays`` one by one and returns a list of arrays.
        needed
            For which of the arrays there will be gradients.
        mapped
            Which of the arrays have an axis in front, for each row of which the function is
            evaluated, and which then values, weights and gradients have too. Where gradients are
            needed, the array is mapped.

        Returns
        -------
        values, pull
            (k,) all numbers that the function returned, in NumPy; and ``pull(weights, again)``, the
            gradients of their sum with these weights (k,), in NumPy: one for each array that needs
            one, None where there is none. ``again`` says whether there will be more.
        None
            Where the framework keeps no record of what it evaluates, or cannot batch this function:
            `gradients` serves then.
        """
        return None

    def curvature(
        self, function: Callable[..., Any], arrays: Sequence[Any], directions: Sequence[Any]
    ) -> list[Any]:
        """The derivative of all gradients along ``directions`` (None for zero), by second
        derivatives: what ``curvature="exact"`` asks for."""
        raise UnsupportedProblemError(_no_functions(self))


def _no_functions(framework: Framework) -> str:
    return (
        f"{type(framework).__name__} differentiates no functions of a user's; write them for torch "
        "or JAX"
    )
