"""The five kinds of plugin: what each must provide, and the record it registers itself with.

A record (`SolverSpec`, ...) is light: a name and where to import the rest from. The object that it
points to is imported at first use, so a hundred installed plugins cost nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._exceptions import UnsupportedProblemError
from ._forms import BoxForm
from ._program import ProgramBatch
from ._solution import Points, Solution, Solutions
from ._trees import flatten

__all__ = [
    "POLYHEDRAL",
    "Algorithm",
    "AlgorithmSpec",
    "BilevelState",
    "Differentiable",
    "Executor",
    "ExecutorSpec",
    "Framework",
    "FrameworkSpec",
    "Job",
    "Modeler",
    "ModelerSpec",
    "Options",
    "ParametricProgram",
    "Session",
    "Solver",
    "SolverSpec",
    "Spec",
    "TracedSolve",
]

Floats = NDArray[np.float64]

POLYHEDRAL = frozenset({"zero", "nonnegative"})
"""The cones that every solver of quadratic programs has."""

OBJECTIVES = ("linear", "convex", "strictly_convex")
"""The kinds of objective."""

Options: TypeAlias = Mapping[str, Any]
"""The options of a solve, in the solver's own names, its `Solver.defaults` included."""


# ---------------------------------------------------------------------------------- solvers


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
    """Frameworks in whose compiled programs `traced` can be called: ``("jax",)``."""

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
        that Python between the elements would take longer (see `call_each`). Not called for sparse
        matrices, nor where a start or a time limit is given, nor for a batch (or a thread's part of
        one) of a single element or in which the bounds of one contradict each other. The slack of
        the answers is b - Ax.

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

        Called where that framework compiles (``jax.jit``), in place of `solve`, with dense
        matrices: no value is known then, so nothing may depend on one but through the framework's
        own control flow. The framework batches it (``jax.vmap``).

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


# ------------------------------------------------------------------------------- frameworks


class Differentiable(Protocol):
    """A batched function with derivatives, in NumPy: what a framework wraps.

    ``values`` are arrays of shape (*batch, *core), broadcast over the batch axes; argument k has
    ``ndims[k]`` core axes. `forward` takes them in the floating dtype in which the user gave them,
    for what its rounding explains is no contradiction; everything else is float64. A *state* is
    what `forward` keeps for the derivatives.
    """

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

    def traced(self, framework: str, xp: Any) -> TracedSolve | None:
        """The solve in the arrays of that framework, whose array namespace is ``xp``.

        None where the solver offers none for this program: call `forward` from the host then.
        """


class TracedSolve(Protocol):
    """The solve of one program in a framework's own arrays, without batch axes.

    A program travels as l <= Ax <= u with dense matrices, whatever its form: P (n, n), q (n,),
    A (m, n), l and u (m,), which may hold infinities; its dual as y (m,), with Px + q + A'y = 0,
    y > 0 where u holds and y < 0 where l holds.
    """

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
            value, found = self.gradients(function, row, needed)
            values.append(self.to_numpy(value))
            columns.append([None if g is None else self.to_numpy(g) for g in found])
        each = [None if c[0] is None else np.stack(c) for c in zip(*columns, strict=True)]
        return np.stack(values), each

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


# --------------------------------------------------------------------------------- modelers


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


# -------------------------------------------------------------------------------- executors


class Job(Protocol):
    """The solves of a layer: picklable, callable from any thread or process."""

    def solve(self, batch: ProgramBatch) -> Points:
        """Solve all elements one after the other in the calling thread."""

    @property
    def parallel(self) -> bool:
        """Whether threads make it faster (the solver releases the GIL)."""


class Executor(ABC):
    """Runs the solves of a batch: splits it, calls ``job.solve`` on the parts, joins the points.

    Law: the result equals ``job.solve(batch)``, element by element.
    """

    @abstractmethod
    def run(self, job: Job, batch: ProgramBatch) -> Points:
        """Solve all elements; ``batch.take(slice)`` and `Points.join` do the splitting."""


# ------------------------------------------------------------------------------- algorithms


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


# ---------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Spec:
    """What a plugin says of itself at registration.

    Attributes
    ----------
    name
        The name that users give.
    load
        ``"package.module:attribute"``, imported at first use: a class or an object of the kind.
    requires
        Modules that must be importable for it to work, e.g. ``("osqp",)``.
    """

    name: str
    load: str | Any
    requires: tuple[str, ...] = ()

    kind: ClassVar[str] = "plugin"


@dataclass(frozen=True)
class SolverSpec(Spec):
    """Registers a solver.

    ``cones`` and ``matrices`` repeat what its class declares, so that choosing a solver imports
    none; a difference is reported when the class is loaded. None, the default, means as the class
    says: ``solver="auto"`` then asks the class, where no solver whose record speaks can. ``speed``
    is its measured solve time:
    ``{(column, n): seconds}`` (benchmarks/), from which ``solver="auto"`` chooses; the columns are
    ``"dense"``, ``"sparse"``, ``"filled"`` (sparse, with factors that are not), and for programs
    with curved cones ``"second_order"``, ``"exponential"`` and ``"psd"``. ``form`` is ``"smooth"``
    for solvers of functions, whose columns are ``"bounds"`` and ``"smooth"``.
    """

    cones: frozenset[str] | None = None
    matrices: frozenset[str] | None = None
    speed: Mapping[tuple[str, int], float] = field(default_factory=dict)
    form: Literal["cone", "smooth"] = "cone"

    kind: ClassVar[str] = "solver"


@dataclass(frozen=True)
class FrameworkSpec(Spec):
    """Registers a framework, found from the types of the arguments of a call.

    ``modules`` are the root packages of its array types (``("torch",)``); ``mixes_with`` are
    frameworks whose arrays it takes as constants (jax takes NumPy's, torch does not).
    """

    modules: tuple[str, ...] = ()
    mixes_with: tuple[str, ...] = ()

    kind: ClassVar[str] = "framework"


@dataclass(frozen=True)
class ModelerSpec(Spec):
    """Registers a modeler, found from the type of the problem object (``modules`` as above)."""

    modules: tuple[str, ...] = ()

    kind: ClassVar[str] = "modeler"


@dataclass(frozen=True)
class ExecutorSpec(Spec):
    """Registers an executor."""

    kind: ClassVar[str] = "executor"


@dataclass(frozen=True)
class AlgorithmSpec(Spec):
    """Registers an algorithm of `ffoadapt.bilevel`; ``load`` points to an `Algorithm` subclass."""

    kind: ClassVar[str] = "algorithm"
