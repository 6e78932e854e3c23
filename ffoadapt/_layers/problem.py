"""`ConeProgram` and `solve`: one program in NumPy, its solution, and its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._cones import Cone
from .._exceptions import ProblemError, ShapeError
from .._models.raw import BoxModel, ConeModel, SplitModel
from .._models.reading import coordinates, numbers, odd_size
from .._oracle.report import GradientReport
from .._oracle.resolve import Resolve, Resolved
from .._plugins.solver import Solver
from .._program.pattern import Pattern
from .._runtime.memory import read_only
from .._solve.settings import Settings, SolveSettings
from .._types import Floats
from . import derivatives
from .function import SolveFunction, State

__all__ = ["ConeProgram", "Result", "solve"]


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

    Notes
    -----
    The arrays are copied; P, q, A and b of a program cannot be written to.

    Raises
    ------
    ProblemError
        Where shapes do not fit, numbers are not finite, or P is not convex (at `solve`).
    """

    def __init__(self, P: Any, q: Any, A: Any, b: Any, cones: Sequence[Cone]) -> None:
        stated = {"P": P, "q": q, "A": A, "b": b}
        q = vector("q", q)
        cones = check_cones(cones)
        rows = sum(cone.dim for cone in cones)
        shapes = {"P": (q.size, q.size), "A": (rows, q.size)}
        data = _matrices({"P": P, "q": q, "A": A}, shapes)
        b = vector("b", b if b is not None else np.zeros(0))
        if rows != b.size:
            raise ShapeError(
                f"the cones have {rows} rows in all ({', '.join(map(repr, cones))}) but b has "
                f"{b.size}; make them equal"
            )
        patterns, values = split_patterns(data, shapes)
        model = ConeModel(q.size, patterns, cones, rows)
        self._set(model, [values["P"], q, values["A"], b], stated)

    @classmethod
    def from_split(
        cls, P: Any, q: Any, G: Any = None, h: Any = None, A: Any = None, b: Any = None
    ) -> ConeProgram:
        """The program with Gx <= h, Ax = b; gradients come back as P, q, G, h, A, b."""
        stated = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b}
        q = vector("q", q)
        h, b = (vector(k, np.zeros(0) if v is None else v) for k, v in (("h", h), ("b", b)))
        n = q.size
        shapes = {"P": (n, n), "G": (h.size, n), "A": (b.size, n)}
        data = _matrices({**stated, "q": q, "h": h, "b": b}, shapes)
        patterns, values = split_patterns(data, shapes)
        self = cls.__new__(cls)
        model = SplitModel(q.size, patterns, h.size, b.size)
        self._set(model, [values["P"], q, values["G"], h, values["A"], b], stated)
        return self

    @classmethod
    def from_box(cls, P: Any, q: Any, A: Any, l: Any, u: Any) -> ConeProgram:
        """The program with l <= Ax <= u; gradients come back as P, q, A, l, u.

        A = None stands for the identity: l <= x <= u.
        """
        stated = {"P": P, "q": q, "A": A, "l": l, "u": u}
        q, lower, upper = vector("q", q), vector("l", l), vector("u", u)
        if lower.size != upper.size:
            raise ShapeError(f"l has {lower.size} entries and u has {upper.size}; make them equal")
        if A is None:
            check_bounds(q.size, lower.size)
            A = identity(q.size, dense=P is not None and not sparse.issparse(P))
        shapes = {"P": (q.size, q.size), "A": (lower.size, q.size)}
        data = _matrices({"P": P, "q": q, "A": A, "l": lower, "u": upper}, shapes)
        patterns, values = split_patterns(data, shapes)
        self = cls.__new__(cls)
        model = BoxModel(q.size, patterns, lower.size)
        self._set(model, [values["P"], q, values["A"], lower, upper], stated)
        return self

    def _set(self, model: Any, values: list[Floats], stated: Mapping[str, Any]) -> None:
        self.model = model
        # What rounding in their types explains is no contradiction.
        types = [getattr(stated[name], "dtype", np.dtype(np.float64)) for name in model.names]
        self._types = [t if t.kind == "f" else np.dtype(np.float64) for t in types]
        self.values = [read_only(value) for value in values]
        batch = self.model.program([value[None] for value in values], 1)
        self.structure = batch.structure
        self.P, self.A = (_read_only(batch.matrix(name, 0)) for name in ("P", "A"))
        self.q, self.b = read_only(batch.q[0]), read_only(batch.b[0])
        self.cones = self.structure.cones

    @property
    def given(self) -> list[NDArray[Any]]:
        """The values in the floating types in which they came."""
        pairs = zip(self.values, self._types, strict=True)
        return [value.astype(kind, copy=False) for value, kind in pairs]

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
        # Copies: the derivatives are those at the points, whatever becomes of these.
        self.x, self.s, self.z = points.x[0].copy(), points.s[0].copy(), points.z[0].copy()
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

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(("x", "s", "z", *self._named)))
        return (
            f"Result({self.status.value}, objective={self.objective:.6g}; "
            f"solver {self.info['solver']!r}; {names})"
        )

    def report(self) -> GradientReport:
        """Why to trust the gradient here, or not."""
        with self._function.one_thread:
            return self._state.oracle.reports()[0]

    def vjp(
        self,
        *,
        method: Literal["direct", "resolve"] | None = None,
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
            moved by ``delta``: as ``gradient=ffoadapt.Resolve(step=delta)`` does. None (the
            default) is what the settings of the call say.

        Returns
        -------
        SimpleNamespace
            One array a datum (P, q, A, b; or P, q, G, h, A, b; or P, q, A, l, u), sparse where the
            datum is. The gradient of P is that of symmetric changes.
        """
        v_x, v_s, v_z = self._canonical(cotangents)
        state, model = self._state, self.program.model
        with self._function.one_thread:
            if method is None:
                adjoint = derivatives.adjoint(self._function, state, (v_x, v_s, v_z), False)
            elif method == "resolve":
                resolved = Resolved(state.oracle, self._function.solutions, Resolve(delta))
                adjoint = resolved.vjp(v_x, v_s, v_z)
            elif method == "direct":
                adjoint = state.oracle.vjp(v_x, v_s, v_z)
            else:
                raise ProblemError(f"method={method!r}; expected 'direct' or 'resolve'")
            needed = [True] * len(model.names)
            gradients: Any = derivatives.gradients(self._function, state, adjoint, needed)
        return SimpleNamespace(
            **{
                name: model.patterns[name].matrix(g[0]).copy() if name in model.patterns else g[0]
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
            dx, ds, dz = derivatives.tangents(self._function, state, moved)
            outputs = model.retrieve_jvp(dx, ds, dz, state.batch)
        named = zip((n for n, _ in model.outputs), outputs, strict=True)
        found = {"x": dx[0], "s": ds[0], "z": dz[0]}
        return SimpleNamespace(**{**{n: v[0] for n, v in named}, **found})

    def _tangent(self, name: str, tangent: Any, shape: tuple[int, ...]) -> Floats:
        pattern: Pattern | None = self.program.model.patterns.get(name)
        if pattern is None:
            value = numbers(f"the tangent of {name}", tangent).astype(np.float64, copy=False)
            if value.shape != shape:
                raise ShapeError(f"the tangent of {name} has shape {value.shape}, expected {shape}")
            return value
        words = f"the tangent of {name}"
        if sparse.issparse(tangent):
            csc = coordinates(words, tangent).tocsc()
        else:
            csc = sparse.csc_matrix(numbers(words, tangent).astype(np.float64))
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
        arrays = {
            name: numbers(f"the cotangent on {name}", v).astype(np.float64, copy=False)
            for name, v in cotangents.items()
        }
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
    _, state = function.forward(program.given, quiet=True)
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
    """A (k,) float64 array of user data, a copy."""
    array = numbers(name, value)
    if array.ndim != 1:
        raise ShapeError(f"{name} has shape {array.shape}; expected one axis")
    return array.astype(np.float64)


def _matrices(given: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The matrices of ``shapes``; where they do not fit, the error names what they outvote."""
    try:
        return {name: matrix(name, given[name], *shape) for name, shape in shapes.items()}
    except ShapeError as error:
        if (odd := odd_size(given)) is None:
            raise
        raise ShapeError(odd) from error


def matrix(name: str, value: Any, rows: int, columns: int) -> Any:
    """A (rows, columns) ndarray or sparse matrix of user data, a copy; None stays None (zero)."""
    if value is None:
        if name != "P" and rows:
            raise ShapeError(f"{name} is missing, but its right-hand side has {rows} rows")
        return None
    array = coordinates(name, value) if sparse.issparse(value) else numbers(name, value)
    if array.shape != (rows, columns):
        raise ShapeError(f"{name} has shape {array.shape}; expected ({rows}, {columns})")
    return array if sparse.issparse(array) else array.astype(np.float64)


def identity(n: int, dense: bool) -> Any:
    """The A of a box program whose bounds are on x itself."""
    return np.eye(n) if dense else sparse.identity(n, format="csc")


def check_bounds(n: int, rows: int) -> None:
    """Raise unless there are as many bounds as variables."""
    if rows != n:
        raise ShapeError(
            f"A is None, so that l and u are bounds on x: expected {n} of each, got {rows}"
        )


def _read_only(matrix: Any) -> Any:
    """The ndarray, or sparse matrix, with numbers that nobody writes to."""
    if isinstance(matrix, np.ndarray):
        return read_only(matrix)
    matrix.data = read_only(matrix.data)
    return matrix


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
