"""A cone program given by linear operators: solved by a user's solver, differentiated without a
matrix.

The ghost problem of the core (see `_oracle`), with A and P as products alone:

    [ P    A_F' ] [ w  ]   [ v_x ]         A_F: the rows that are active
    [ A_F  0    ] [ mu ] = [ v_z ]

is symmetric, and solved by MINRES (C. C. Paige and M. A. Saunders, SIAM Journal on Numerical
Analysis 12, 1975). Row norms, by which slacks compare with multipliers, are estimated from products
with random signs: the mean of (A u)_i^2 is |a_i|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator, minres

from .._cones import Cone
from .._exceptions import OptionError, ShapeError, SolveError, UnsupportedProblemError
from .._layers.solutions import ConeSolution
from .._layers.traced import AtHost
from .._models.reading import check_cones
from .._oracle.report import ERROR, INACCURATE, Finding, GradientReport, shift_of
from .._plugins.frameworks import find_framework
from .._plugins.solver import Session, Solver
from .._program.forms import ConeForm
from .._program.points import Solution, Status
from .._types import Floats, Ints

__all__ = ["operator_program"]


SAMPLES = 16
"""Products that estimate the norms of the rows of A: to a third."""


def operator_program(
    P: Any,
    q: Any,
    A: Any,
    b: Any,
    cones: Sequence[Cone],
    *,
    solver: Any,
    solver_options: Any = None,
    tolerance: float = 1e-10,
    max_iterations: int = 5000,
) -> ConeSolution:
    """minimize 1/2 x'Px + q'x subject to Ax + s = b, s in K, with P and A as operators.

    For programs whose matrices are too large to hold, or known as products alone. Nothing is ever
    formed: neither in the solver, which is the caller's, nor in the derivative.

    Parameters
    ----------
    P, A
        `scipy.sparse.linalg.LinearOperator`, or anything that `aslinearoperator` takes; (n, n) and
        (m, n). P is symmetric and semidefinite; None stands for 0. A has ``rmatvec``. Constants.
    q, b
        (n,) and (m,), arrays of any framework, through which gradients flow.
    cones
        Of K in the order of the rows: zero and nonnegative ones.
    solver
        A function decorated with `conic_solver`, or another `Solver` of form ``"cone"`` that takes
        operators where a `ConeForm` has matrices.
    tolerance, max_iterations
        Of MINRES, which solves the ghost problem: relative residual, and products with K.

    Returns
    -------
    ConeSolution
        ``x``, ``s``, ``z`` as of `cone_program`, with ``status``, ``info`` and ``report()``.
    """
    framework = find_framework({"q": q, "b": b})
    n, m = (int(np.prod(np.shape(v))) for v in (q, b))
    cones = check_cones(cones)
    function = OperatorFunction(
        _operator("P", P, (n, n)),
        _operator("A", A, (m, n)),
        tuple(cones),
        _checked(cones, m, solver),
        dict(solver_options or {}),
        tolerance,
        max_iterations,
    )
    solution: ConeSolution = ConeSolution(*framework.apply(function, [q, b]))
    if function.states:
        solution.__dict__["outcome"] = function.states[-1]
    return solution


def _checked(cones: Sequence[Cone], m: int, solver: Any) -> Solver:
    """The solver; raises where it, or the cones, are none that this takes."""
    curved = sorted({cone.kind for cone in cones} - {"zero", "nonnegative"})
    if curved:
        raise UnsupportedProblemError(
            f"operator_program differentiates zero and nonnegative cones, got {', '.join(curved)}; "
            "use cone_program, with matrices"
        )
    if sum(cone.dim for cone in cones) != m:
        raise ShapeError(f"the cones have {sum(c.dim for c in cones)} rows, b has {m}")
    chosen = solver() if isinstance(solver, type) else solver
    if not isinstance(chosen, Solver) or chosen.form != "cone":
        raise OptionError(
            f"solver={solver!r}; expected a function decorated with ffoadapt.conic_solver, or an "
            "ffoadapt.Solver of form 'cone', that takes operators"
        )
    return chosen


def _operator(name: str, given: Any, shape: tuple[int, int]) -> LinearOperator:
    if given is None:
        zero = np.zeros(shape[0])
        return LinearOperator(shape, matvec=lambda v: zero, rmatvec=lambda v: zero, dtype=float)
    try:
        operator = aslinearoperator(given)
    except TypeError as error:
        raise OptionError(
            f"{name} is a {type(given).__name__}; expected a scipy.sparse.linalg.LinearOperator, "
            "or an object with shape, matvec and rmatvec"
        ) from error
    if operator.shape != shape:
        raise ShapeError(f"{name} has shape {operator.shape}; expected {shape}")
    return operator


@dataclass(eq=False)
class OperatorState:
    """A solution, and what its derivatives have found out."""

    function: OperatorFunction
    x: Floats
    s: Floats
    z: Floats
    status: Status
    info: dict[str, Any]
    active: Ints
    margin: float
    kkt: float
    residual: float | None = None
    iterations: int = 0

    def report(self) -> GradientReport:
        """Why to trust the gradient, or not."""
        if self.residual is None:
            self.function.ghost(self, np.ones(self.x.size), np.zeros(self.z.size))
        assert self.residual is not None
        shift = shift_of(self.kkt, self.margin)
        verdict = Finding(self.kkt, self.margin, self.residual, ERROR, shift=shift).verdict
        count = self.active.size
        return GradientReport(verdict, self.residual, count, 0, self.margin, self.kkt)


@dataclass(eq=False)
class OperatorFunction(AtHost):
    """q, b -> x, s, z; see `ffoadapt.Differentiable`."""

    P: LinearOperator
    A: LinearOperator
    cones: tuple[Cone, ...]
    solver: Solver
    options: dict[str, Any]
    tolerance: float
    max_iterations: int
    states: list[OperatorState] = field(default_factory=list)
    ndims = (1, 1)

    def forward(self, values: Sequence[Any]) -> tuple[list[Floats], OperatorState]:
        q, b = (np.asarray(v, dtype=np.float64) for v in values)
        if q.ndim > 1 or b.ndim > 1:
            raise ShapeError("operator_program takes no batches; call it for each element")
        form = ConeForm(self.P, q, self.A, b, self.cones)
        solution = self.solver.solve(form, {**self.solver.defaults, **self.options}, Session())
        state = self._state(q, b, solution)
        self.states[:] = [state]
        return [state.x.copy(), state.s.copy(), state.z.copy()], state

    def _state(self, q: Floats, b: Floats, solution: Solution) -> OperatorState:
        if not solution.status.solved:
            raise SolveError(f"the solver did not solve the program: {solution.status.value}")
        x, z = (np.asarray(v, dtype=np.float64) for v in (solution.x, solution.dual))
        if x.shape != q.shape or z.shape != b.shape:
            raise SolveError(
                f"the solver returned x and z of shapes {x.shape} and {z.shape}; expected "
                f"{q.shape} and {b.shape}"
            )
        product = self.A @ x
        s = b - product
        z_unit, s_unit, unit = self._units(q, b, x, z)
        equal = self._equal
        slack, dual = s / s_unit, z / z_unit
        violation = np.where(equal, np.abs(slack), np.abs(np.minimum(slack, dual)))
        bend = self.P @ x
        stationarity = float(np.abs(bend + q + self.A.rmatvec(z)).max(initial=0.0)) / unit
        kkt = max(stationarity, float(violation.max(initial=0.0)))
        if not kkt <= INACCURATE:
            raise SolveError(
                f"the solver called a point solved that violates the optimality conditions by "
                f"{kkt:.1e} (relative); tighten its tolerance"
            )
        larger = np.where(equal, np.inf, np.maximum(slack, dual))
        active = np.flatnonzero(equal | (dual > slack))
        margin = float(larger.min(initial=np.inf))
        status = Status.OPTIMAL if kkt <= ERROR else Status.OPTIMAL_INACCURATE
        return OperatorState(self, x, s, z, status, dict(solution.info), active, margin, kkt)

    @property
    def _equal(self) -> NDArray[np.bool_]:
        kinds = [np.full(cone.dim, cone.kind == "zero") for cone in self.cones]
        return np.concatenate(kinds) if kinds else np.zeros(0, dtype=bool)

    def _units(self, q: Floats, b: Floats, x: Floats, z: Floats) -> Any:
        """What makes multipliers, slacks and gradients dimensionless."""
        rng, total = np.random.default_rng(0), np.zeros(b.size)
        for _ in range(SAMPLES):
            total += np.square(self.A @ rng.choice((-1.0, 1.0), x.size))
        rows = np.sqrt(total / SAMPLES)
        rows = np.where(rows > 0.0, rows, 1.0)
        bend = self.P @ x
        terms = [np.abs(q), np.abs(bend), np.abs(self.A.rmatvec(z))]
        unit = max(float(t.max(initial=0.0)) for t in terms) or 1.0
        reach = max(float(np.abs(x).max(initial=0.0)), float(np.abs(b / rows).max(initial=0.0)))
        return unit / rows, rows * (reach or 1.0), unit

    def ghost(self, state: OperatorState, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats]:
        """w (n,) and zeta (m,)."""
        n, active, m = state.x.size, state.active, state.z.size
        zeta = np.zeros(m)

        def apply(u: Floats) -> Floats:
            full = np.zeros(m)
            full[active] = u[n:]
            top = self.P @ u[:n] + self.A.rmatvec(full)
            return np.concatenate((top, (self.A @ u[:n])[active]))

        size = n + active.size
        right = np.concatenate((v_x, v_z[active]))
        K = LinearOperator((size, size), matvec=apply, dtype=np.float64)
        steps = [0]

        def count(_: Floats) -> None:
            steps[0] += 1

        limit = self.max_iterations
        u, _ = minres(K, right, rtol=self.tolerance, maxiter=limit, callback=count)
        left = right - apply(u)
        norm = float(np.linalg.norm(right))
        state.residual = float(np.linalg.norm(left)) / norm if norm else 0.0
        state.iterations = steps[0]
        zeta[active] = u[n:]
        return u[:n], zeta

    def vjp(
        self, state: OperatorState, cotangents: Sequence[Floats | None], needed: Sequence[bool]
    ) -> list[Floats | None]:
        n, m = state.x.size, state.z.size
        v_x, v_s, v_z = cotangents
        lead = next(c.shape[:-1] for c in cotangents if c is not None)
        flat = [
            np.zeros((*lead, k)) if v is None else v
            for v, k in zip(cotangents, (n, m, m), strict=True)
        ]
        q_bar, b_bar = np.zeros((*lead, n)), np.zeros((*lead, m))
        for k in np.ndindex(*lead):
            v_x, v_s, v_z = (v[k] for v in flat)
            if v_s.any():
                v_x = v_x - self.A.rmatvec(v_s)
            w, zeta = self.ghost(state, v_x, v_z)
            q_bar[k], b_bar[k] = -w, zeta + v_s
        return [g if on else None for g, on in zip((q_bar, b_bar), needed, strict=True)]

    def jvp(self, state: OperatorState, tangents: Sequence[Floats | None]) -> list[Floats]:
        dq, db = tangents
        v_x = np.zeros(state.x.size) if dq is None else -dq
        v_z = np.zeros(state.z.size) if db is None else db
        dx, dz = self.ghost(state, v_x, v_z)
        return [dx, v_z - self.A @ dx, dz]

    # -- for frameworks that trace

    def output_shapes(self, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [shapes[0], shapes[1], shapes[1]]

    state_shapes = output_shapes

    def pack(self, state: OperatorState) -> list[Floats]:
        return [state.x, state.s, state.z]

    def unpack(self, values: Sequence[Floats], arrays: Sequence[Floats]) -> OperatorState:
        q, b = (np.asarray(v, dtype=np.float64) for v in values)
        return self._state(q, b, Solution(arrays[0], arrays[2], arrays[1]))
