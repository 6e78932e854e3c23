"""A parametric program given by sparse matrices: what a modeler with affine maps has to fill in.

With theta = (all parameters, each raveled in C order, then 1), every number of the canonical
program is a linear function of theta, and every output one of (x, s, z).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._plugins.modeler import ParametricProgram
from .._program.batch import ProgramBatch
from .._program.linear import LinearMap
from .._program.structure import Structure
from .._types import Floats

__all__ = ["AffineOutput", "AffineProgram"]


@dataclass(frozen=True, eq=False)
class AffineOutput:
    """One output: ``matrix @ point + offset``, reshaped in C order.

    Attributes
    ----------
    name, shape
        As the user sees it.
    source
        ``"x"``, ``"s"`` or ``"z"``: what ``matrix`` (sparse, (size, n or m)) multiplies.
    offset
        (size,) or 0.0.
    """

    name: str
    shape: tuple[int, ...]
    source: str
    matrix: Any
    offset: Floats | float = 0.0


@dataclass(eq=False)
class AffineProgram(ParametricProgram):
    """A `ParametricProgram` whose maps are sparse matrices, built once per layer.

    Attributes
    ----------
    structure
        Sizes, cones and patterns; dense where its patterns are None.
    parameters
        Names and shapes in the order of the layer's arguments.
    maps
        For each of ``"P"``, ``"q"``, ``"A"``, ``"b"`` a scipy.sparse CSR matrix with a column per
        entry of theta; its rows are the entries on the pattern (sparse) or all entries in C order
        (dense P and A, each (n*n) and (m*n)). P is mapped whole, not one triangle.
    results
        The outputs.
    constant
        (theta.size,) row vector: the constant term of the objective as a function of theta.
    sense
        1.0, or -1.0 where the user maximizes.
    """

    structure: Structure
    parameters: Sequence[tuple[str, tuple[int, ...]]]
    maps: Mapping[str, Any]
    results: Sequence[AffineOutput]
    constant: Any = None
    sense: float = 1.0

    traceable = True

    def __post_init__(self) -> None:
        self._places: dict[str | int, Any] = {}
        self.outputs = [(out.name, out.shape) for out in self.results]
        sizes = [int(np.prod(shape)) for _, shape in self.parameters]
        self._ends = np.cumsum([0, *sizes])
        # A map with no column for any parameter is a constant: computed once.
        last = int(self._ends[-1])
        self._varying = {name: bool((m.indices < last).any()) for name, m in self.maps.items()}
        # The modeler vouches for a constant P; one that depends on values does so at every call.
        self.convex = not self._varying["P"]
        varying = [name for name, on in self._varying.items() if on]
        self._maps = {name: LinearMap(self.maps[name]) for name in varying}
        self._transposed = {name: LinearMap(_transposed(self.maps[name], last)) for name in varying}
        matrices = [sparse.csr_matrix(out.matrix) for out in self.results]
        self._to_outputs = [LinearMap(matrix) for matrix in matrices]
        self._from_outputs = [LinearMap(matrix.T.tocsr()) for matrix in matrices]
        self._constant = {
            name: np.asarray(self.maps[name][:, [-1]].todense(), dtype=np.float64).reshape(1, -1)
            for name, on in self._varying.items()
            if not on
        }

    def _theta(self, values: Sequence[Floats], last: float) -> Floats:
        """(B or 1, theta.size), with B the leading axis that is not 1."""
        leads = [v.shape[0] for v in values]
        size = max(leads, default=1) if 0 not in leads else 0
        theta = np.empty((size, int(self._ends[-1]) + 1))
        theta[:, -1] = last
        for value, start, end in zip(values, self._ends, self._ends[1:], strict=False):
            theta[:, start:end] = value.reshape(value.shape[0], end - start)
        return theta

    def _shaped(self, name: str, values: Floats) -> Floats:
        if self.structure.dense and name in ("P", "A"):
            rows = self.structure.n if name == "P" else self.structure.m
            return values.reshape(*values.shape[:-1], rows, self.structure.n)
        return values

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        theta = self._theta(values, 1.0)
        data = {}
        for name in self.maps:
            fixed = self._constant.get(name)
            data[name] = self._shaped(name, self._maps[name](theta) if fixed is None else fixed)
        return ProgramBatch(self.structure, size, data["P"], data["q"], data["A"], data["b"])

    def _entries(self, key: str | int) -> Any:
        """Where the entries of a map, or of the matrix of an output by its number, are."""
        if key not in self._places:
            matrix = self.maps[key] if isinstance(key, str) else self.results[key].matrix
            self._places[key] = _gathered(matrix)
        return self._places[key]

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        theta = xp.concatenate([*(xp.ravel(v) for v in values), xp.ones(1)])
        data = {name: _product(xp, self._entries(name), theta) for name in self.maps}
        for name in ("P", "A"):
            pattern = getattr(self.structure, name)
            if pattern is not None:
                data[name] = pattern.filled(xp, data[name])
            data[name] = data[name].reshape(-1, self.structure.n)
        lower = xp.where(self.structure.equality, data["b"], -np.inf)
        return data["P"], data["q"], data["A"], lower, data["b"]

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        points = {"x": x, "s": s, "z": y}
        return [
            (_product(xp, self._entries(k), points[out.source]) + xp.asarray(out.offset)).reshape(
                out.shape
            )
            for k, out in enumerate(self.results)
        ]

    def program_vjp(
        self, gradient: Mapping[str, Floats], needed: Sequence[bool]
    ) -> list[Floats | None]:
        total: Any = 0.0
        for name, to_theta in self._transposed.items():
            grad = gradient[name]
            if self._matrix(name):
                grad = grad.reshape(*grad.shape[:-2], grad.shape[-2] * grad.shape[-1])
            total = total + to_theta(grad)
        results: list[Floats | None] = []
        for (_, shape), start, end, on in zip(
            self.parameters, self._ends, self._ends[1:], needed, strict=False
        ):
            if not on:
                results.append(None)
            elif isinstance(total, float):  # no datum depends on any parameter
                results.append(np.zeros((*gradient["q"].shape[:-2], 1, *shape)))
            else:
                part = total[..., start:end]
                results.append(part.reshape(*part.shape[:-1], *shape))
        return results

    def _matrix(self, name: str) -> bool:
        return self.structure.dense and name in ("P", "A")

    def program_jvp(
        self,
        tangents: Sequence[Floats | None],
        batch: ProgramBatch | None = None,
        z: Floats | None = None,
    ) -> Mapping[str, Floats]:
        theta = self._theta(self._filled(tangents), 0.0)
        return {name: self._shaped(name, of_theta(theta)) for name, of_theta in self._maps.items()}

    def _filled(self, tangents: Sequence[Floats | None]) -> list[Floats]:
        pairs = zip(tangents, self.parameters, strict=True)
        return [np.zeros((1, *shape)) if t is None else t for t, (_, shape) in pairs]

    def retrieve(
        self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch | None = None
    ) -> list[Floats]:
        return self._outputs({"x": x, "s": s, "z": z}, with_offset=True)

    def retrieve_jvp(
        self, dx: Floats, ds: Floats, dz: Floats, batch: ProgramBatch | None = None
    ) -> list[Floats]:
        return self._outputs({"x": dx, "s": ds, "z": dz}, with_offset=False)

    def _outputs(self, points: Mapping[str, Floats], with_offset: bool) -> list[Floats]:
        results = []
        for out, to_output in zip(self.results, self._to_outputs, strict=True):
            flat = to_output(points[out.source])
            if with_offset:
                flat = flat + out.offset
            results.append(flat.reshape(flat.shape[0], *out.shape))
        return results

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch | None = None
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        totals: dict[str, Any] = {"x": None, "s": None, "z": None}
        given = zip(self.results, self._from_outputs, cotangents, strict=True)
        for out, from_output, cotangent in given:
            if cotangent is None:
                continue
            lead = cotangent.shape[: cotangent.ndim - len(out.shape)]
            back = from_output(cotangent.reshape(*lead, out.matrix.shape[0]))
            previous = totals[out.source]
            totals[out.source] = back if previous is None else previous + back
        return totals["x"], totals["s"], totals["z"]

    def objective(self, values: Sequence[Floats], canonical: Floats) -> Floats:
        return self.sense * (canonical + self.offset(self._theta(values, 1.0)))

    def offset(self, theta: Floats) -> Floats:
        """What the objective, to be minimized, has besides: (B or 1,) at theta (B, theta.size)."""
        if self.constant is None:
            return np.zeros(1)
        return np.asarray(self.constant @ theta.T).reshape(-1)

    def offset_gradient(self, theta: Floats) -> Floats:
        """The gradient of `offset` by theta, (B or 1, theta.size)."""
        if self.constant is None:
            return np.zeros((1, theta.shape[-1]))
        row = self.constant.toarray() if sparse.issparse(self.constant) else self.constant
        return np.asarray(row, dtype=np.float64).reshape(1, -1)

    def objective_vjp(
        self, values: Sequence[Floats], cotangent: Floats, needed: Sequence[bool]
    ) -> tuple[Floats, list[Floats | None]]:
        scaled = self.sense * cotangent
        by_theta = scaled[..., None] * self.offset_gradient(self._theta(values, 1.0))
        return scaled, [
            by_theta[..., start:end].reshape(*by_theta.shape[:-1], *shape) if on else None
            for (_, shape), start, end, on in zip(
                self.parameters, self._ends, self._ends[1:], needed, strict=False
            )
        ]

    def objective_jvp(
        self, values: Sequence[Floats], tangents: Sequence[Floats | None], canonical: Floats
    ) -> Floats:
        moved = self._theta(self._filled(tangents), 0.0)
        offset = (self.offset_gradient(self._theta(values, 1.0)) * moved).sum(axis=-1)
        return self.sense * (canonical + offset)


def _transposed(matrix: Any, rows: int) -> Any:
    """The first rows of the transpose of a CSR matrix, as CSR."""
    csc = matrix.tocsc()
    end = csc.indptr[rows]
    parts = csc.data[:end], csc.indices[:end], csc.indptr[: rows + 1]
    return sparse.csr_matrix(parts, shape=(rows, csc.shape[0]))


def _product(xp: Any, gathered: Any, vector: Any) -> Any:
    """A matrix (see `_gathered`) times a vector of the array namespace ``xp``."""
    columns, values = gathered
    return (xp.asarray(values) * vector[xp.asarray(columns)]).sum(axis=-1)


def _gathered(matrix: Any) -> tuple[NDArray[np.intp], Floats]:
    """The columns and values of the entries of each row of a scipy.sparse matrix, which are 0 after
    the last."""
    csr = sparse.csr_matrix(matrix)
    counts = np.diff(csr.indptr)
    rows = np.repeat(np.arange(csr.shape[0]), counts)
    place = np.arange(csr.nnz) - np.repeat(csr.indptr[:-1], counts)
    columns = np.zeros((csr.shape[0], counts.max(initial=0)), dtype=np.intp)
    values = np.zeros(columns.shape)
    columns[rows, place], values[rows, place] = csr.indices, csr.data
    for array in (columns, values):
        array.setflags(write=False)
    return columns, values
