"""`ConeProgram` and `solve`: one program in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .._cones import Cone
from .._exceptions import ProblemError, ShapeError
from .._models.box import BoxModel
from .._models.cone import ConeModel
from .._models.matrix_model import MATRICES, MatrixModel
from .._models.patterns import put_on_patterns
from .._models.reading import (
    SPARSE,
    check_bounds,
    check_cones,
    identity,
    matrix,
    odd_size,
    vector,
)
from .._models.split import SplitModel
from .._plugins.solver import Solver
from .._runtime.memory import read_only
from .._solve.settings import Settings, SolveSettings
from .._types import Floats
from .function import SolveFunction
from .result import Result

__all__ = ["ConeProgram", "solve"]


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
        q, cones = vector("q", q), check_cones(cones)
        rows = sum(cone.dim for cone in cones)
        data = {"P": P, "q": q, "A": A}
        shapes = _read_matrices(data, {"A": rows})
        data["b"] = vector("b", b if b is not None else ())
        if rows != data["b"].size:
            raise ShapeError(
                f"the cones have {rows} rows in all ({', '.join(map(repr, cones))}) but b has "
                f"{data['b'].size}; make them equal"
            )
        self._set(ConeModel, data, shapes, (P, q, A, b), (cones, rows))

    @classmethod
    def from_split(
        cls, P: Any, q: Any, G: Any = None, h: Any = None, A: Any = None, b: Any = None
    ) -> ConeProgram:
        """The program with Gx <= h, Ax = b; gradients come back as P, q, G, h, A, b."""
        stated = P, q, G, h, A, b
        h, b = (vector(name, () if v is None else v) for name, v in (("h", h), ("b", b)))
        self, data = cls.__new__(cls), {"P": P, "q": vector("q", q), "G": G, "h": h, "A": A, "b": b}
        shapes = _read_matrices(data, {"G": h.size, "A": b.size})
        self._set(SplitModel, data, shapes, stated, (h.size, b.size))
        return self

    @classmethod
    def from_box(cls, P: Any, q: Any, A: Any, l: Any, u: Any) -> ConeProgram:
        """The program with l <= Ax <= u; gradients come back as P, q, A, l, u.

        A = None stands for the identity: l <= x <= u.
        """
        stated = P, q, A, l, u
        q, lower, upper = vector("q", q), vector("l", l), vector("u", u)
        if lower.size != upper.size:
            raise ShapeError(f"l has {lower.size} entries and u has {upper.size}; make them equal")
        if A is None:
            check_bounds(q.size, lower.size)
            A = identity(q.size, dense=P is not None and not isinstance(P, SPARSE))
        self, data = cls.__new__(cls), {"P": P, "q": q, "A": A, "l": lower, "u": upper}
        shapes = _read_matrices(data, {"A": lower.size})
        self._set(BoxModel, data, shapes, stated, (lower.size,))
        return self

    def _set(
        self,
        model: type[MatrixModel],
        data: dict[str, Any],
        shapes: Mapping[str, tuple[int, int]],
        stated: Sequence[Any],
        sizes: tuple[Any, ...],
    ) -> None:
        coo = {name: data[name] for name in shapes if isinstance(data[name], SPARSE)}
        parts = {name: (value.row, value.col, value.data) for name, value in coo.items()}
        patterns, orders = put_on_patterns(data, shapes, parts) if parts else ({}, {})
        self.model = model(data["q"].size, patterns, *sizes)
        # What rounding in their types explains is no contradiction.
        self._types = list(map(_float_type, stated))
        self.values: list[Floats] = []
        for name, value in data.items():
            if value is None:
                value = np.zeros(shapes[name])
            self.values.append(read_only(value[orders[name]] if name in orders else value))
        batch = self.model.program([value[None] for value in self.values], 1)
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


def _read_matrices(data: dict[str, Any], rows: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Puts matrices of float64 in the places of those of ``data``, by how many rows each has, and
    returns their shapes; where they do not fit, the error names what they outvote."""
    n, given = len(data["q"]), dict(data)
    shapes: dict[str, tuple[int, int]] = {
        name: (rows.get(name, n), n) for name in data if name in MATRICES
    }
    try:
        for name, shape in shapes.items():
            data[name] = matrix(name, data[name], *shape)
    except ShapeError as error:
        if (odd := odd_size(given)) is None:
            raise
        raise ShapeError(odd) from error
    return shapes


def _float_type(value: Any) -> np.dtype[Any]:
    """The floating type in which a datum came; float64 for all that has none of NumPy's."""
    typed = isinstance(value, (np.ndarray, np.generic, *SPARSE))
    return value.dtype if typed and value.dtype.kind == "f" else np.dtype(np.float64)


def _read_only(matrix: Any) -> Any:
    """The ndarray, or sparse matrix, with numbers that nobody writes to."""
    if isinstance(matrix, np.ndarray):
        return read_only(matrix)
    matrix.data = read_only(matrix.data)
    return matrix
