"""What a solver must provide: a `Solver`, and the `Session` it keeps its work in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from .._program.points import Solution, Solutions

__all__ = ["OBJECTIVES", "POLYHEDRAL", "Options", "Session", "Solver"]

POLYHEDRAL = frozenset({"zero", "nonnegative"})
"""The cones that every solver of quadratic programs has."""

OBJECTIVES = ("linear", "convex", "strictly_convex")
"""The kinds of objective."""

Options: TypeAlias = Mapping[str, Any]
"""The options of a solve, in the solver's own names, its `Solver.defaults` included."""


class Session(dict[str, Any]):
    """What a solver keeps from one call to the next: symbolic factorizations, workspaces.

    Empty at the first call; whatever the solver puts in comes back at the next call of the same
    layer with the same structure (sizes, patterns, cones) and the same options, never in two
    threads at once. Where an entry of a bound is infinite is no part of the structure.

    What it may be used for depends on `warm_start`:

    - None: a solve must give, to the bit, what one with a fresh session gives. Index arrays, cone
      objects and symbolic factorizations may be kept; a workspace whose scaling or penalties come
      from earlier numbers may not be used, although its place may be.
    - a `Solution`: the solve may start there and update such a workspace in place, so that its
      result depends on earlier ones, to the tolerance. The user asked for it, and the last solve
      of this session succeeded; one that fails empties the session.

    Attributes
    ----------
    warm_start
        The previous `Solution`, in the same view, where the user asked for warm starts and it is
        one; else None.
    """

    __slots__ = ("warm_start",)

    def __init__(self) -> None:
        super().__init__()
        self.warm_start: Solution | None = None


class Solver(ABC):
    """Solves one program at a time; needs to know nothing of batches, frameworks or gradients.

    One instance serves all threads: per-call state belongs in the session. Class attributes say
    what it takes; `solve` is the one method to write.

    Laws: a `Solution` with an optimal status satisfies Px + q + (constraints)'dual = 0, primal and
    dual feasibility and complementarity to the tolerance; inputs are not modified; equal inputs
    give equal outputs.
    """

    name: str = ""
    """What results and errors call an object that was not registered; its class where empty."""

    form: ClassVar[Literal["box", "split", "cone", "smooth"]] = "cone"
    """The view it is given: a `BoxForm`, `SplitForm`, `ConeForm`, or (functions) `SmoothForm`."""

    cones: ClassVar[Collection[str]] = POLYHEDRAL
    """The kinds of cone that it supports; of a smooth form, the kinds of constraint:
    ``"bounds"``, ``"inequalities"``, ``"equalities"``."""

    matrices: ClassVar[Collection[str]] = ("sparse",)
    """``"dense"`` (ndarray), ``"sparse"`` (CSC with 32-bit indices), or both; given as it takes."""

    objectives: ClassVar[Collection[str]] = OBJECTIVES
    """Whether it takes linear programs (``"linear"``, P = 0), ``"convex"`` objectives (P is
    semidefinite) and ``"strictly_convex"`` ones (P is positive definite).

    The conformance checks of programs of another kind do not apply; a solve of one is tried.
    """

    waive: ClassVar[Mapping[str, str]] = {}
    """Conformance checks that it is known not to pass, with the reasons, by their names or patterns
    of them: see `ffoadapt.testing`."""

    common_options: ClassVar[Mapping[str, str | Sequence[str]]] = {}
    """Its own names for ``tolerance``, ``max_iterations``, ``time_limit`` (s) and ``verbose``.

    One that `known_options` has under the same name (``TimeLimit`` is the same as ``time_limit``)
    needs no entry; where it means something else there, the entry is ``()``.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options, in its own names, that hold unless the user says otherwise."""

    releases_gil: ClassVar[bool] = False
    """Whether threads solve in parallel."""

    traces: ClassVar[Collection[str]] = ()
    """Frameworks in whose arrays `traced` can be called: ``("jax", "torch")``."""

    def known_options(self) -> Collection[str] | None:
        """All option names of its own, to catch misspellings; None passes everything through."""
        return None

    @abstractmethod
    def solve(self, program: Any, options: Options, session: Session) -> Solution:
        """Solve one program.

        Parameters
        ----------
        program
            A `BoxForm`, `SplitForm` or `ConeForm`, as `form` asks for. Its arrays are read-only.
        options
            In the solver's own names, `defaults` included.
        session
            See `Session`; a solver without state ignores it.
        """

    def solve_batch(self, programs: Any, options: Options, session: Session) -> Solutions | None:
        """Solve all programs of a dense batch at once; None leaves them to `solve`, one by one.

        Not needed: it is for solvers that have a batch of their own, or that take so little time
        that Python between the elements would take longer (see `ffoadapt.experimental`, where the
        class of the result is). Not called for sparse matrices, nor where a start or a time limit
        is given, nor for a batch (or a thread's part of one) of a single element or in which the
        bounds of one contradict each other. The slack of the solutions is b - Ax.

        Laws: those of `solve`; every element has, to the bit, the answer that `solve` gives for it
        alone, whatever its neighbours are.

        Parameters
        ----------
        programs
            As for `solve`, every array with an axis of the batch in front. What all elements share
            is repeated there without a copy (its stride is 0).
        options, session
            As for `solve`.
        """
        return None

    def traced(self, program: Any, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Solve one program in the arrays of a framework of `traces`, without leaving it.

        Called where that framework compiles (``jax.jit``), or where tensors stay on their device
        (torch), in place of `solve`, with dense matrices. In JAX no value is known then, so nothing
        may depend on one but through its own control flow, and JAX batches it (``jax.vmap``). In
        torch all arrays have an axis of the batch in front, and so has what is returned;
        ``torch.func.vmap`` maps what is written for one program.

        Parameters
        ----------
        program
            As for `solve`, of float64 arrays of the framework. Infinite bounds as there.
        options
            As for `solve`.

        Returns
        -------
        x, dual, solved
            As in a `Solution` of that form (the dual of the split form is z_ineq, y_eq), and a
            boolean scalar: whether they are a solution to the tolerance.
        """
        raise NotImplementedError(f"{type(self).__name__} declares traces but has no traced()")
