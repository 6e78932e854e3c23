"""`ConeProgram` and `solve`: one program in NumPy, its solution, and its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ._cones import Cone
from ._exceptions import ProblemError, ShapeError
from ._function import SolveFunction, State
from ._interfaces import Solver
from ._oracle.report import GradientReport
from ._oracle.resolve import resolve_vjp
from ._pattern import Pattern
from ._raw import BoxModel, ConeModel, SplitModel
from ._settings import Settings, SolveSettings
from ._text import words

__all__ = ["ConeProgram", "Result", "solve"]

Floats = NDArray[np.float64]


class ConeProgram:
    """minimize 1/2 x'Px + q'x subject to Ax + s = b, s in K.

    Parameters
    ----------
    P
        (n, n) symmetric positive semidefinite, ndarray or scipy.sparse; None means zero.
    q
        (n,).
    A, b
        (m, n) and (m,), rows in the order of ``cones``; b may be inf in nonnegative rows.
    cones
        Cones whose dimensions add up to m.

    Raises
    ------
    ProblemError
        Where shapes do not fit, numbers are not finite, or P is not convex (at `solve`).
    """

    def __init__(self, P: Any, q: Any, A: Any, b: Any, cones: Sequence[Cone]) -> None:
        q = vector("q", q)
        cones = check_cones(cones)
        rows = sum(cone.dim for cone in cones)
        shapes = {"P": (q.size, q.size), "A": (rows, q.size)}
        data = {"P": matrix("P", P, *shapes["P"]), "A": matrix("A", A, *shapes["A"])}
        b = vector("b", b if b is not None else np.zeros(0))
        if rows != b.size:
            raise ShapeError(
                f"the cones have {rows} rows in all ({', '.join(map(repr, cones))}) but b has "
                f"{b.size}; make them equal"
            )
        patterns, values = split_patterns(data, shapes)
        model = ConeModel(q.size, patterns, cones, rows)
        self._set(model, [values["P"], q, values["A"], b])

    @classmethod
    def from_split(
        cls, P: Any, q: Any, G: Any = None, h: Any = None, A: Any = None, b: Any = None
    ) -> ConeProgram:
        """The program with Gx <= h, Ax = b; gradients come back as P, q, G, h, A, b."""
        q = vector("q", q)
        h, b = (vector(k, np.zeros(0) if v is None else v) for k, v in (("h", h), ("b", b)))
        n = q.size
        shapes = {"P": (n, n), "G": (h.size, n), "A": (b.size, n)}
        given = {"P": P, "G": G, "A": A}
        data = {name: matrix(name, given[name], *shape) for name, shape in shapes.items()}
        patterns, values = split_patterns(data, shapes)
        self = cls.__new__(cls)
        model = SplitModel(q.size, patterns, h.size, b.size)
        self._set(model, [values["P"], q, values["G"], h, values["A"], b])
        return self

    @classmethod
    def from_box(cls, P: Any, q: Any, A: Any, l: Any, u: Any) -> ConeProgram:
        """The program with l <= Ax <= u; gradients come back as P, q, A, l, u."""
        q, lower, upper = vector("q", q), vector("l", l), vector("u", u)
        shapes = {"P": (q.size, q.size), "A": (lower.size, q.size)}
        data = {"P": matrix("P", P, *shapes["P"]), "A": matrix("A", A, *shapes["A"])}
        patterns, values = split_patterns(data, shapes)
        self = cls.__new__(cls)
        model = BoxModel(q.size, patterns, lower.size)
        self._set(model, [values["P"], q, values["A"], lower, upper])
        return self

    def _set(self, model: Any, values: list[Floats]) -> None:
        self.model = model
        self.values = values
        batch = self.model.program([value[None] for value in values], 1)
        self.structure = batch.structure
        self.P, self.q = batch.matrix("P", 0), batch.q[0]
        self.A, self.b = batch.matrix("A", 0), batch.b[0]
        self.cones = self.structure.cones

    @property
    def n(self) -> int:
        """Number of variables."""
        return self.structure.n

    @property
    def m(self) -> int:
        """Number of rows of A in canonical form."""
        return self.structure.m

    def __repr__(self) -> str:
        kind = "dense" if self.structure.dense else "sparse"
        return f"ConeProgram({kind}, n={self.n}, m={self.m}, cones={list(self.cones)!r})"


class Result:
    """A solved program.

    Attributes
    ----------
    x, s, z
        (n,), (m,), (m,): primal, slack and dual in canonical form.
    y (after ``from_box``); z_ineq, y_eq (after ``from_split``)
        The dual as the program was stated.
    status, info, objective
        How the solve ended, what the solver said, and 1/2 x'Px + q'x.
    """

    def __init__(self, program: ConeProgram, function: SolveFunction, state: State) -> None:
        self.program, self._function, self._state = program, function, state
        points = state.points
        self.x, self.s, self.z = points.x[0], points.s[0], points.z[0]
        self.status, self.info = points.status[0], {"solver": state.name, **points.info[0]}
        self._named = dict(
            zip((n for n, _ in program.model.outputs), function._outputs(state), strict=True)
        )
        self.objective = float(0.5 * self.x @ (program.P @ self.x) + program.q @ self.x)

    def __getattr__(self, name: str) -> Any:
        named = self.__dict__.get("_named", {})
        if name in named:
            return named[name]
        raise AttributeError(f"a result of {type(self).__name__} has no {name!r}")

    def report(self) -> GradientReport:
        """Why to trust the gradient here, or not."""
        with self._function.one_thread:
            return self._state.oracle.reports()[0]

    def vjp(
        self,
        *,
        method: Literal["direct", "resolve"] = "direct",
        delta: float = 1e-5,
        **cotangents: Any,
    ) -> SimpleNamespace:
        """The gradient of <cotangents, solution> with respect to the data as they were stated.

        Parameters
        ----------
        cotangents
            Any of x, s, z, or the names of the duals as stated (y; z_ineq, y_eq).
        method
            ``"direct"`` factorizes the ghost problem; ``"resolve"`` solves the program twice more,
            moved by ``delta`` relative to the size of its data (central differences).

        Returns
        -------
        SimpleNamespace
            One array a datum (P, q, A, b; or P, q, G, h, A, b; or P, q, A, l, u), sparse where the
            datum is. The gradient of P is that of symmetric changes.
        """
        v_x, v_s, v_z = self._canonical(cotangents)
        state, model = self._state, self.program.model
        with self._function.one_thread:
            if method == "resolve":
                job = self._function._job(state.batch.structure)
                at = state.batch, state.points
                adjoint = resolve_vjp(*at, job.solve, v_x, v_s, v_z, delta=delta)
            elif method == "direct":
                adjoint = state.oracle.vjp(v_x, v_s, v_z)
            else:
                raise ProblemError(f"method={method!r}; expected 'direct' or 'resolve'")
            gradients = model.program_vjp(adjoint, [True] * len(model.names))
        return SimpleNamespace(
            **{
                name: model.patterns[name].matrix(g[0]) if name in model.patterns else g[0]
                for name, g in zip(model.names, gradients, strict=True)
            }
        )

    def jvp(self, **tangents: Any) -> SimpleNamespace:
        """The directional derivative (x, s, z, and the duals as stated) along data tangents."""
        model, state = self.program.model, self._state
        unknown = set(tangents) - set(model.names)
        if unknown:
            raise ProblemError(f"no data named {sorted(unknown)}; the data are {model.names}")
        shapes = dict(model.parameters)
        flat: list[Floats | None] = []
        for name in model.names:
            tangent = tangents.get(name)
            if tangent is not None:
                tangent = self._tangent(name, tangent, shapes[name])[None]
            flat.append(tangent)
        with self._function.one_thread:
            moved = model.program_jvp(flat, state.batch, state.points.z)
            dx, ds, dz = state.oracle.jvp(moved)
            outputs = model.retrieve_jvp(dx, ds, dz, state.batch)
        named = zip((n for n, _ in model.outputs), outputs, strict=True)
        found = {"x": dx[0], "s": ds[0], "z": dz[0]}
        return SimpleNamespace(**{**{n: v[0] for n, v in named}, **found})

    def _tangent(self, name: str, tangent: Any, shape: tuple[int, ...]) -> Floats:
        pattern: Pattern | None = self.program.model.patterns.get(name)
        if pattern is None:
            value = np.asarray(tangent, dtype=np.float64)
            if value.shape != shape:
                raise ShapeError(f"the tangent of {name} has shape {value.shape}, expected {shape}")
            return value
        csc = sparse.csc_matrix(tangent)
        if csc.shape != pattern.shape:
            raise ShapeError(
                f"the tangent of {name} has shape {csc.shape}, expected {pattern.shape}"
            )
        if not pattern.nnz:
            return np.zeros(0)
        return np.asarray(csc[pattern.indices, pattern.columns], dtype=np.float64).ravel()

    def _canonical(
        self, cotangents: Mapping[str, Any]
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        model = self.program.model
        outputs = dict(model.outputs)
        sizes = {**{"x": self.x.shape, "s": self.s.shape, "z": self.z.shape}, **outputs}
        unknown = set(cotangents) - set(sizes)
        if unknown or not cotangents:
            raise ProblemError(
                f"cotangents are given by name, e.g. vjp(x=v); the names are {sorted(sizes)}, "
                f"got {sorted(cotangents) or 'none'}"
            )
        arrays = {name: np.asarray(v, dtype=np.float64) for name, v in cotangents.items()}
        for name, v in arrays.items():
            if v.shape != sizes[name]:
                raise ShapeError(
                    f"the cotangent on {name} has shape {v.shape}, expected {sizes[name]}"
                )
        stated = [arrays[n][None] if n in arrays else None for n in outputs]
        v_x, v_s, v_z = model.retrieve_vjp(stated, self._state.batch)
        if "s" in arrays and "s" not in outputs:
            v_s = arrays["s"][None]
        if "z" in arrays and "z" not in outputs:
            v_z = arrays["z"][None] + (0.0 if v_z is None else v_z)
        return v_x, v_s, v_z


def solve(
    program: ConeProgram,
    solver: str | Solver | type[Solver] = "auto",
    **settings: Unpack[SolveSettings],
) -> Result:
    """Solve one program; see `ConeProgram`, `Result` and `ffoadapt.SolveSettings`."""
    if not isinstance(program, ConeProgram):
        raise ProblemError(
            f"solve takes an ffoadapt.ConeProgram, got {type(program).__name__}; for a modeler's "
            "problem use ffoadapt.Layer"
        )
    function = SolveFunction(program.model, Settings.of(solver, settings))
    _, state = function.forward(program.values)
    return Result(program, function, state)


# ------------------------------------------------------------------------- reading user data


def check_cones(cones: Any) -> tuple[Cone, ...]:
    """The cones as a tuple, each checked to be one."""
    try:
        cones = tuple(cones)
    except TypeError:
        raise ProblemError(f"cones is {cones!r}; expected a list of cones") from None
    for cone in cones:
        if not isinstance(cone, Cone):
            raise ProblemError(
                f"cones holds {cone!r}; expected ffoadapt.ZeroCone(m), NonnegativeCone(m), "
                "SecondOrderCone(m), PSDCone(n), ExponentialCone() or PowerCone(alpha)"
            )
    return cones


def vector(name: str, value: Any) -> Floats:
    """A (k,) float64 array of user data."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} is no array of numbers: {words(error)}") from error
    if array.ndim != 1:
        raise ShapeError(f"{name} has shape {array.shape}; expected one axis")
    return array


def matrix(name: str, value: Any, rows: int, columns: int) -> Any:
    """A (rows, columns) ndarray or sparse matrix of user data; None stays None (zero)."""
    if value is None:
        if name != "P" and rows:
            raise ShapeError(f"{name} is missing, but its right-hand side has {rows} rows")
        return None
    if not sparse.issparse(value):
        try:
            value = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ProblemError(f"{name} is no matrix of numbers: {words(error)}") from error
    if value.shape != (rows, columns):
        raise ShapeError(f"{name} has shape {value.shape}; expected ({rows}, {columns})")
    return value


def split_patterns(
    data: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, Pattern], dict[str, Floats]]:
    """Patterns and values of the matrices: all sparse if one is, else all dense.

    A dense matrix among sparse ones keeps all its entries, zeros too: its gradient is dense.
    """
    if not any(sparse.issparse(value) for value in data.values()):
        zeros = {name: np.zeros(shapes[name]) for name, value in data.items() if value is None}
        return {}, {**data, **zeros}
    found = {}
    for name, value in data.items():
        if isinstance(value, np.ndarray):
            pattern = Pattern.full(shapes[name])
            found[name] = (pattern, value.T.ravel())
        else:
            found[name] = Pattern.of(sparse.csc_matrix(shapes[name]) if value is None else value)
    return {n: p for n, (p, _) in found.items()}, {n: v for n, (_, v) in found.items()}
