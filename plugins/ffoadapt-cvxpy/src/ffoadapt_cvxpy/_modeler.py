"""A `cvxpy.Problem` as an `AffineProgram`: canonicalized once per layer, whatever the numbers.

cvxpy's interface to SCS speaks the canonical form of ffoadapt, cone for cone and sign for sign, so
its reduction chain is run up to the point where parameter values would enter. What it leaves there
are three sparse tensors, linear in (all parameters, 1), for P, (q, offset) and (A, b). This file
reorders them (cvxpy ravels in Fortran order, ffoadapt in C order) and finds where the values of the
user's variables and dual variables are in x and z.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ffoadapt import (
    AffineOutput,
    AffineProgram,
    ExponentialCone,
    Modeler,
    NonnegativeCone,
    Pattern,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    Structure,
    UnsupportedProblemError,
    ZeroCone,
)

from ._attributes import declared
from ._canonical import Canonical, canonicalize, cvxpy_version, is_symmetric, lower, recover
from ._checks import Dual, check_outputs, check_parameters, check_problem, short
from ._complex import in_pairs, is_complex
from ._condense import CondensedProgram, Entries, Tensors, condensed
from ._cvxpylayers import CvxpyLayers
from ._geometric import in_logarithms

__all__ = ["CvxpyModeler"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class CvxpyModeler(Modeler):
    """Disciplined parametrized programs (DPP) of cvxpy.

    Values of parameters must keep to the attributes that these declare, up to rounding, as for
    ``parameter.value = v`` (see `_attributes`); they are never projected. Of a symmetric one (also
    PSD, NSD) the symmetric part (V + V')/2 enters, so its gradient is symmetric; of a diagonal or
    sparse one the entries on the pattern, so its gradient is zero elsewhere.

    Variables come back as the solver left them: not projected onto their attributes either.
    """

    drop_in = CvxpyLayers
    """What the framework plugins' ``CvxpyLayer`` stand on: cvxpylayers' words in ffoadapt's."""

    def parametrize(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> AffineProgram:
        """The problem as a family of canonical programs.

        Parameters
        ----------
        problem
            A `cvxpy.Problem`, DCP and DPP, without integer variables. Complex variables and
            parameters are real arrays (*shape, 2) here: real and imaginary part.
        parameters
            The `cvxpy.Parameter` objects of the problem, all of them, in any order.
        outputs
            `cvxpy.Variable` objects of the problem, and dual variables of its constraints
            (``constraint.dual_variables[i]``, with the sign of ``constraint.dual_value``).

        Raises
        ------
        ProblemError
            ``problem`` or one of ``outputs`` is not what it should be.
        ParameterError
            ``parameters`` are not exactly those of the problem.
        UnsupportedProblemError
            The problem is not DCP, not DPP or mixed-integer, or cvxpy does not say how
            a dual variable follows from the solution.
        """
        check_problem(problem)
        check_parameters(problem, parameters)
        duals = check_outputs(problem, outputs)
        if is_complex(problem):
            return in_pairs(self.parametrize, problem, parameters, outputs)
        canonical = canonicalize(problem)
        data, offset = _tensors(canonical.program, _theta(canonical, parameters))
        dual_maps = _dual_maps(canonical, duals, data.m)
        wanted = [
            ("z", dual_maps[out.id]) if out.id in duals else ("x", _primal_map(canonical, out))
            for out in outputs
        ]
        used = {"x": np.zeros(data.n, dtype=bool), "z": np.zeros(data.m, dtype=bool)}
        for at, matrix in wanted:
            used[at][matrix.indices] = True
        data, left_x, left_z, squares = condensed(data, used["x"], used["z"])
        left = {"x": left_x, "z": left_z}
        results = [
            AffineOutput(
                duals[out.id].name if out.id in duals else out.name(),
                out.shape,
                at,
                matrix[:, left[at]],
            )
            for out, (at, matrix) in zip(outputs, wanted, strict=True)
        ]
        structure, maps = _data_maps(data, _cones(canonical.program.cone_dims, data.zero))
        return CondensedProgram(
            structure,
            [(parameter.name(), parameter.shape) for parameter in parameters],
            maps,
            results,
            constant=offset,
            sense=-1.0 if isinstance(problem.objective, cp.Maximize) else 1.0,
            squares=squares,
            attributes=declared(parameters),
        )

    def geometric(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> AffineProgram:
        """A geometric program (DGP and DPP) in logarithms; errors as of `parametrize`.

        A constraint's dual is, as in cvxpy, that of the constraint between logarithms.
        """
        return in_logarithms(self.parametrize, problem, parameters, outputs)


# ------------------------------------------------------------------------------ the numbers


def _theta(canonical: Canonical, parameters: Sequence[Any]) -> list[_Columns]:
    """Where the entries of cvxpy's parameter vector are in theta, which is in C order, in the order
    of the layer. A second view has the transposed entries of symmetric parameters."""
    program, (_, reduced) = canonical.program, canonical.attributes
    size, start = program.total_param_size, 0
    views = [_Columns.empty(size + 1) for _ in range(1 + any(map(is_symmetric, parameters)))]
    for parameter in parameters:
        entries = start + np.arange(parameter.size).reshape(parameter.shape)
        start += parameter.size
        stand_in = reduced.get(parameter.id, parameter)
        row = program.param_id_to_col.get(stand_in.id)
        if row is None:  # no datum depends on it
            continue
        both = [entries, entries.swapaxes(-1, -2)] if is_symmetric(parameter) else [entries]
        weight = _used(parameter) / len(both)
        for wholes, view in zip(both, views, strict=False):
            for whole, numbers in ((wholes, view.at), (weight, view.weights)):
                kept = whole if stand_in is parameter else lower(parameter, whole)
                kept = np.asarray(kept).ravel(order="F")
                numbers[row : row + kept.size] = kept
    views[0].at[size], views[0].weights[size] = start, 1.0  # the constants
    return views


class _Columns(NamedTuple):
    """For each column of cvxpy's tensors, a column of theta and a weight, 0 where there is none."""

    at: Ints
    weights: Floats

    @classmethod
    def empty(cls, size: int) -> _Columns:
        return cls(np.zeros(size, dtype=np.int64), np.zeros(size))


def _used(parameter: Any) -> Floats:
    """1.0 where entries of a diagonal or sparse parameter may be nonzero, 0.0 elsewhere."""
    if parameter.attributes["diag"]:
        return np.eye(*parameter.shape)
    if parameter.attributes["sparsity"]:
        used = np.zeros(parameter.shape)
        used[parameter.sparse_idx] = 1.0
        return used
    return np.ones(parameter.shape)


def _tensors(program: Any, theta: list[_Columns]) -> tuple[Tensors, Floats]:
    """The numbers and the offset of the objective from cvxpy's tensors.

    ``A`` has the rows of [A b], ``P`` those of P, each raveled in Fortran order, with the sign of
    Ax + b in K; ``q`` has those of (q, offset).
    """
    n, width = program.x.size, int(theta[0].at[-1]) + 1
    m = program.A.shape[0] // (n + 1)
    rows, columns, values = _entries(program.A, theta)
    in_b = rows >= m * n
    A = Entries(rows[~in_b], columns[~in_b], -values[~in_b])
    b = _map(Entries(rows[in_b] - m * n, columns[in_b], values[in_b]), m, width)
    P = Entries(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    if program.P is not None:
        # The symmetric part, for a matrix parameter that is not declared symmetric.
        rows, columns, values = _entries(program.P, theta)
        both = np.concatenate((rows, rows % n * n + rows // n))
        P = Entries(both, np.tile(columns, 2), np.tile(0.5 * values, 2))
    linear = program.q if hasattr(program, "q") else program.c  # c until cvxpy 1.6
    q = _map(_entries(linear, theta), n + 1, width)
    data = Tensors(n, m, program.cone_dims.zero, width, P, q[:n], A, b)
    return data, q[n].toarray()[0]


def _data_maps(data: Tensors, cones: tuple[Any, ...]) -> tuple[Structure, dict[str, Any]]:
    """The structure of the numbers, and the maps as `AffineProgram` wants them."""
    n, m, width, P, A = data.n, data.m, data.width, data.P, data.A
    maps = {"q": data.q, "b": data.b}
    at_A, index_A = _distinct(A.rows, m * n)
    at_P, index_P = _distinct(P.rows, n * n)
    flat = all(cone.polyhedral for cone in cones)  # others' solvers take sparse matrices
    if flat and _is_dense(n, m, at_A.size + at_P.size):
        structure = Structure(n, m, cones)
        maps["P"] = _map(P._replace(rows=P.rows % n * n + P.rows // n), n * n, width)
        in_C = A.rows % max(m, 1) * n + A.rows // max(m, 1)
        maps["A"] = _map(A._replace(rows=in_C), m * n, width)
    else:
        at_P, maps["P"] = _filled(at_P, _map(P._replace(rows=index_P), at_P.size, width))
        at_A, maps["A"] = _filled(at_A, _map(A._replace(rows=index_A), at_A.size, width))
        structure = Structure(n, m, cones, _pattern(at_P, n, n), _pattern(at_A, m, n))
    return structure, maps


def _is_dense(n: int, m: int, nonzeros: int) -> bool:
    """Whether P (n, n) and A (m, n) are better stored dense: small, or filled by a quarter."""
    size = n * (n + m)
    return size <= 2_500 or (n <= 2_000 and nonzeros > 0.25 * size)


def _cones(dims: Any, zero: int) -> tuple[Any, ...]:
    """The cones in the order in which cvxpy stacks their rows, ``zero`` of them in zero cones."""
    return (
        *(kind(size) for kind, size in ((ZeroCone, zero), (NonnegativeCone, dims.nonneg)) if size),
        *(SecondOrderCone(size) for size in dims.soc),
        *(PSDCone(size) for size in dims.psd),
        *(ExponentialCone() for _ in range(dims.exp)),
        *(PowerCone(float(alpha)) for alpha in dims.p3d),
    )


def _entries(tensor: Any, theta: list[_Columns]) -> Entries:
    """Those of a tensor of cvxpy's."""
    coo = tensor.tocoo()
    parts = []
    for view in theta:
        values = coo.data * view.weights[coo.col]
        on = np.flatnonzero(values)
        parts.append(Entries(coo.row[on].astype(np.int64), view.at[coo.col[on]], values[on]))
    return parts[0] if len(parts) == 1 else Entries(*map(np.concatenate, zip(*parts, strict=True)))


def _distinct(rows: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct ones of numbers below ``size``, ascending, and where in these each number is."""
    if size > 16 * rows.size:
        return np.unique(rows, return_inverse=True)
    marked = np.zeros(size, dtype=bool)
    marked[rows] = True
    return np.flatnonzero(marked), (np.cumsum(marked) - 1)[rows]


def _map(entries: Entries, size: int, width: int) -> Any:
    """The CSR matrix (size, width) with these entries."""
    at = entries.rows, entries.columns
    matrix = sparse.csr_matrix((entries.values, at), shape=(size, width))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _filled(at: Ints, matrix: Any) -> tuple[Ints, Any]:
    """Without the rows that have no entry."""
    filled = np.diff(matrix.indptr) > 0
    return (at, matrix) if filled.all() else (at[filled], matrix[filled])


def _pattern(at: Ints, rows: int, columns: int) -> Pattern:
    """The CSC pattern of entries in ascending Fortran order."""
    starts = np.searchsorted(at, rows * np.arange(columns + 1, dtype=np.int64))
    return Pattern((rows, columns), starts.astype(np.int32), (at % max(rows, 1)).astype(np.int32))


# ------------------------------------------------------------------------------ the outputs


def _primal_map(canonical: Canonical, variable: Any) -> Any:
    """Sparse (variable.size, n): the variable in C order from x."""
    program, (replaced, _) = canonical.program, canonical.attributes
    stand_in = replaced.get(variable.id, variable)
    start = program.var_id_to_col.get(stand_in.id)
    if start is None:
        if canonical.eliminated(stand_in.id) or variable.size == 0:
            return sparse.csr_matrix((variable.size, program.x.size))
        raise UnsupportedProblemError(
            f"cvxpy {cvxpy_version} transformed the variable {variable.name()!r} away; add a "
            "variable that equals it by a constraint, and ask for that one"
        )
    # The value of a variable is a rearrangement of its entries of x: rearrange their numbers.
    numbers = start + 1.0 + np.arange(stand_in.size).reshape(stand_in.shape, order="F")
    value = recover(variable, numbers, project=False)
    value = value.toarray() if sparse.issparse(value) else np.asarray(value)
    return _selection(np.ones(variable.size), value.reshape(-1), program.x.size)


def _dual_maps(canonical: Canonical, duals: Mapping[int, Dual], m: int) -> dict[int, Any]:
    """For each wanted dual variable, sparse (size, m): its value in C order from z.

    cvxpy can only be asked for the values at one z. But each entry of a dual value is a multiple
    of one entry of z (or 0), which two probes find: at z = 1 the factor, at z = (1, 2, ...) the
    factor times the place. A third, random one checks that this is all there is to it.
    """
    if not duals:
        return {}
    check = np.random.default_rng(0).standard_normal(m)
    ones, counted, checked = (
        _duals_at(canonical, duals, z) for z in (np.ones(m), np.arange(1.0, m + 1.0), check)
    )
    maps = {}
    for identity, factor in ones.items():
        place = np.divide(counted[identity], factor, out=np.zeros_like(factor), where=factor != 0)
        maps[identity] = _selection(factor, np.rint(place), m)
        if not np.allclose(maps[identity] @ check, checked[identity], rtol=1e-10, atol=1e-10):
            raise _untraceable(duals[identity])
    return maps


def _duals_at(canonical: Canonical, duals: Mapping[int, Dual], z: Floats) -> dict[int, Floats]:
    """The values, raveled in C order, that cvxpy would report if z were the dual solution."""
    solution = canonical.chain.invert(z, list(canonical.inverse))
    values = {}
    for identity, dual in duals.items():
        constraint = dual.constraint
        if constraint.id not in solution.dual_vars:
            raise _untraceable(dual)
        with _kept(constraint.dual_variables):
            constraint.save_dual_value(solution.dual_vars[constraint.id])
            value = next(d.value for d in constraint.dual_variables if d.id == identity)
        if value is None:
            raise _untraceable(dual)
        values[identity] = np.array(value, dtype=np.float64).reshape(-1)
    return values


@contextlib.contextmanager
def _kept(variables: Sequence[Any]) -> Iterator[None]:
    """Variables without a value inside; outside they keep the one they had."""
    before = [variable.value for variable in variables]
    try:
        for variable in variables:
            variable.save_value(None)
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.save_value(value)


def _selection(factors: Floats, places: Floats, size: int) -> Any:
    """Sparse (len(factors), size): factors[i] times entry places[i] - 1; place 0 is no entry."""
    rows = np.flatnonzero(places)
    columns = places[rows].astype(np.int64) - 1
    return sparse.csr_matrix((factors[rows], (rows, columns)), shape=(factors.size, size))


def _untraceable(dual: Dual) -> UnsupportedProblemError:
    return UnsupportedProblemError(
        f"cvxpy {cvxpy_version} does not say how {dual.name}, of the "
        f"{type(dual.constraint).__name__} constraint `{short(dual.constraint)}`, follows from "
        "the solution of the canonical program; write the constraint in terms of simpler cones"
    )
