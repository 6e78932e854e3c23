"""A `cvxpy.Problem` as an `AffineProgram`: canonicalized once per layer, whatever the numbers.

cvxpy's interface to SCS speaks the canonical form of ffoadapt, cone for cone and sign for sign, so
its reduction chain is run up to the point where parameter values would enter. What it leaves there
are three sparse tensors, linear in (all parameters, 1), for P, (q, offset) and (A, b). The rest of
this file reorders them (cvxpy ravels in Fortran order, ffoadapt in C order) and finds where the
values of the user's variables and dual variables are in x and z.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import cvxpy.settings
import numpy as np
from cvxpy.error import DCPError, DPPError, SolverError
from cvxpy.reductions import cvx_attr2constr
from cvxpy.reductions.solution import Solution
from cvxpy.reductions.solvers import utilities
from cvxpy.reductions.solvers.conic_solvers.scs_conif import SCS
from cvxpy.utilities import scopes
from cvxpy.version import version as cvxpy_version
from numpy.typing import NDArray
from scipy import sparse

from ffoadapt import (
    AffineOutput,
    AffineProgram,
    ExponentialCone,
    MissingDependencyError,
    Modeler,
    NonnegativeCone,
    ParameterError,
    Pattern,
    PowerCone,
    ProblemError,
    PSDCone,
    SecondOrderCone,
    Structure,
    UnsupportedProblemError,
    ZeroCone,
)

__all__ = ["CvxpyModeler"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DPP = "https://www.cvxpy.org/tutorial/dpp/index.html"
_OLDEST = (1, 6)
_VERSION = tuple(int(part) for part in re.findall(r"\d+", cvxpy_version)[:2])

if _VERSION < _OLDEST:
    raise MissingDependencyError(
        f"ffoadapt-cvxpy needs cvxpy 1.6 or newer and found {cvxpy_version}; "
        'run: pip install --upgrade "cvxpy>=1.6"'
    )

# Until cvxpy 1.8 the function had another name.
_recover_value: Callable[..., Any] = getattr(
    cvx_attr2constr,
    "recover_value_for_leaf" if _VERSION >= (1, 9) else "recover_value_for_variable",
)


class CvxpyModeler(Modeler):
    """Disciplined parametrized programs (DPP) of cvxpy.

    Parameters with attributes are used as their attribute says, and never projected: of a
    symmetric one (also PSD, NSD) the symmetric part (V + V')/2 enters, so its gradient is
    symmetric; of a diagonal or sparse one the entries on the pattern, so its gradient is zero
    elsewhere. Signs and bounds (``nonneg=True``, ...) are promises of the user.

    Variables come back as the solver left them: not projected onto their attributes either.
    """

    def parametrize(
        self, problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
    ) -> AffineProgram:
        """The problem as a family of canonical programs.

        Parameters
        ----------
        problem
            A `cvxpy.Problem`, DCP and DPP, without integer or complex variables.
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
            The problem is not DCP, not DPP, complex or mixed-integer, or cvxpy does not say how
            a dual variable follows from the solution.
        """
        _check_problem(problem)
        _check_parameters(problem, parameters)
        duals = _check_outputs(problem, outputs)
        canonical = _canonicalize(problem)
        structure, maps, constant = _data_maps(canonical.program, _theta_map(canonical, parameters))
        dual_maps = _dual_maps(canonical, duals, structure.m)
        results = [
            AffineOutput(duals[out.id].name, out.shape, "z", dual_maps[out.id])
            if out.id in duals
            else AffineOutput(out.name(), out.shape, "x", _primal_map(canonical, out))
            for out in outputs
        ]
        return AffineProgram(
            structure,
            [(parameter.name(), parameter.shape) for parameter in parameters],
            maps,
            results,
            constant=constant,
            sense=-1.0 if isinstance(problem.objective, cp.Maximize) else 1.0,
        )


# ----------------------------------------------------------------------------- what was given


@dataclass(frozen=True)
class _Dual:
    """Where a wanted dual variable belongs."""

    name: str
    constraint: Any


def _check_problem(problem: Any) -> None:
    if not isinstance(problem, cp.Problem):
        raise ProblemError(
            f"expected a cvxpy.Problem, got {_described(problem)}; "
            "build one with cvxpy.Problem(objective, constraints)"
        )
    variables = problem.variables()
    if not variables:
        raise ProblemError("the problem has no variables, so there is nothing to solve for")
    discrete = [v for v in variables if v.attributes["boolean"] or v.attributes["integer"]]
    for constraint in problem.constraints:
        if isinstance(constraint, cp.FiniteSet):
            discrete += constraint.variables()
    if discrete:
        raise UnsupportedProblemError(
            f"the values of {_listed(v.name() for v in discrete)} are boolean, integer or from a "
            "finite set; the solution of a mixed-integer program is piecewise constant and has no "
            "useful derivative: make them continuous"
        )
    leaves = [*variables, *problem.parameters()]
    unreal = [leaf.name() for leaf in leaves if not leaf.is_real()]
    if unreal:
        raise UnsupportedProblemError(
            f"{_listed(unreal)} are complex (or imaginary or Hermitian), which is not supported; "
            "write the problem with a real variable or parameter for each of the two parts"
        )
    if not problem.is_dcp():
        raise UnsupportedProblemError(
            "the problem does not follow the DCP rules of cvxpy (geometric and quasiconvex "
            "programs are not supported). The smallest parts that break them:\n"
            + _culprits(problem, dpp=False)
        )


def _check_parameters(problem: Any, parameters: Any) -> None:
    if isinstance(parameters, cp.Parameter):
        raise ParameterError(f"expected a list of parameters, got one: write [{parameters.name()}]")
    for parameter in parameters:
        if not isinstance(parameter, cp.Parameter):
            raise ParameterError(
                f"parameters must be cvxpy.Parameter objects, got {_described(parameter)}"
            )
    _check_unique("parameters", parameters, ParameterError)
    given, present = ({p.id: p for p in group} for group in (parameters, problem.parameters()))
    missing = [p.name() for i, p in present.items() if i not in given]
    if missing:
        raise ParameterError(
            f"the problem depends on {_listed(missing)}, which `parameters` does not list; add "
            "them, or build the problem with numbers in their place"
        )
    extra = [p.name() for i, p in given.items() if i not in present]
    if extra:
        raise ParameterError(
            f"`parameters` lists {_listed(extra)}, on which the problem does not depend; "
            f"it depends on {_listed(p.name() for p in present.values()) or 'none'}"
        )


def _check_outputs(problem: Any, outputs: Any) -> dict[int, _Dual]:
    """The wanted dual variables by id; all other outputs are variables of the problem."""
    if isinstance(outputs, cp.Variable):
        raise ProblemError(f"expected a list of variables, got one: write [{outputs.name()}]")
    for out in outputs:
        if isinstance(out, cp.constraints.constraint.Constraint):
            raise ProblemError(
                f"got the constraint `{_short(out)}`; for its multiplier, pass "
                "constraint.dual_variables[0]"
            )
        if not isinstance(out, cp.Variable):
            raise ProblemError(
                "outputs must be variables of the problem or dual variables of its constraints, "
                f"got {_described(out)}; for the value of an expression, add a variable that "
                "equals it"
            )
    _check_unique("outputs", outputs, ProblemError)
    present = {variable.id for variable in problem.variables()}
    duals = {
        dual.id: _Dual(f"constraints[{k}].dual_variables[{i}]", constraint)
        for k, constraint in enumerate(problem.constraints)
        for i, dual in enumerate(constraint.dual_variables)
    }
    foreign = [out.name() for out in outputs if out.id not in present and out.id not in duals]
    if foreign:
        raise ProblemError(
            f"{_listed(foreign)} are neither variables of the problem nor dual variables of its "
            f"constraints; its variables are {_listed(v.name() for v in problem.variables())}"
        )
    return {out.id: duals[out.id] for out in outputs if out.id in duals}


def _check_unique(what: str, leaves: Sequence[Any], error: type[ProblemError]) -> None:
    ids = [leaf.id for leaf in leaves]
    twice = {leaf.name(): None for leaf in leaves if ids.count(leaf.id) > 1}
    if twice:
        raise error(f"`{what}` lists {_listed(twice)} more than once; list each one once")


def _culprits(problem: Any, dpp: bool) -> str:
    """The smallest subexpressions that break the rules, one a line, with their parameters."""
    found: dict[str, None] = {}

    def visit(part: Any) -> None:
        broken = [arg for arg in part.args if not arg.is_dcp(dpp=dpp)]
        for arg in broken:
            visit(arg)
        if not broken:
            names = _listed(parameter.name() for parameter in part.parameters())
            found[f"  {_short(part)}" + (f"  (parameters: {names})" if dpp and names else "")] = (
                None
            )

    # With a quadratic objective, cvxpy 1.9 lets a parameter be the matrix of a quad_form there.
    relaxed = getattr(scopes, "quad_form_dpp_scope", contextlib.nullcontext)
    with relaxed():
        if not problem.objective.is_dcp(dpp=dpp):
            visit(problem.objective)
    for constraint in problem.constraints:
        if not constraint.is_dcp(dpp=dpp):
            visit(constraint)
    return "\n".join(found)


def _described(value: Any) -> str:
    return f"{type(value).__name__}: {_short(value)}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


# ---------------------------------------------------------------------------- cvxpy's part


class _CanonicalForm(SCS):
    """cvxpy's interface to SCS without SCS: stops where parameter values would be put in.

    The scs package is never imported; a chain that ends here takes and gives canonical data.
    """

    REQUIRES_CONSTR = False

    def __init__(self, quadratic: bool) -> None:
        super().__init__()
        self.quadratic = quadratic

    def name(self) -> str:
        return "FFOADAPT"

    def import_solver(self) -> None:
        """There is nothing to import."""

    def supports_quad_obj(self) -> bool:
        return self.quadratic

    def apply(self, problem: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _, data, inverse = self._prepare_data_and_inv_data(problem)  # type: ignore[no-untyped-call]
        inverse["x"] = np.zeros(problem.x.size)
        return data, inverse

    def invert(self, solution: Floats, inverse_data: Any) -> Any:
        """The multipliers of cvxpy's canonical constraints in a canonical dual (m,), at x = 0."""
        # Until cvxpy 1.8 the solver interfaces unfolded the triangle of a PSD block themselves.
        extract = getattr(SCS, "extract_dual_value", utilities.extract_dual_value)
        zero = inverse_data[self.DIMS].zero
        duals = utilities.get_dual_values(solution[:zero], extract, inverse_data[self.EQ_CONSTR])
        duals.update(
            utilities.get_dual_values(solution[zero:], extract, inverse_data[self.NEQ_CONSTR])
        )
        x = {inverse_data[self.VAR_ID]: inverse_data["x"]}
        return Solution(cvxpy.settings.OPTIMAL, 0.0, x, duals, {})


@dataclass(frozen=True)
class _Canonical:
    """The canonicalized problem.

    Attributes
    ----------
    program
        cvxpy's ParamConeProg: the tensors, and where variables and parameters are in them.
    chain, inverse
        The reductions that led there and what they remember.
    """

    program: Any
    chain: Any
    inverse: Sequence[Any]

    @property
    def attributes(self) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
        """By id, the variables and the parameters that stand for those with attributes."""
        for reduction, inverse in zip(self.chain.reductions, self.inverse, strict=True):
            if isinstance(reduction, cvx_attr2constr.CvxAttr2Constr) and inverse:
                reduced = getattr(reduction, "_parameters", {})  # from cvxpy 1.9
                return inverse[0], {old.id: new for old, new in reduced.items()}
        return {}, {}

    def eliminated(self, identity: int) -> bool:
        """Whether cvxpy dropped a variable on which nothing depends (its value is 0)."""
        return any(
            isinstance(inverse, dict) and identity in inverse.get("eliminated_vars", {})
            for inverse in self.inverse
        )


def _canonicalize(problem: Any) -> _Canonical:
    # On a copy, so that what the user's problem has cached for its own solves stays.
    copy = cp.Problem(problem.objective, problem.constraints)
    # cvxpy 1.6 to 1.8 lose the square of a variable whose attributes reduce its size: they get
    # second-order cones in the place of P.
    reduced = cvx_attr2constr.attributes_present(
        problem.variables(), [*cvx_attr2constr.SYMMETRIC_ATTRIBUTES, "diag", "sparsity"]
    )
    form = _CanonicalForm(quadratic=_VERSION >= (1, 9) or not reduced)
    try:
        with _quiet():
            data, chain, inverse = copy.get_problem_data(solver=form, enforce_dpp=True)
    except DPPError as error:
        raise UnsupportedProblemError(
            "the problem is DCP but not DPP: its data are not linear in the parameters. The "
            f"smallest parts that break the rules:\n{_culprits(problem, dpp=True)}\n"
            "Make each product or function of parameters a parameter of its own, computed before "
            "the layer; in constraints, write quad_form(x, P) as sum_squares(L @ x) with "
            f"P = L'L. See {_DPP}"
        ) from error
    except (DCPError, SolverError) as error:
        raise UnsupportedProblemError(
            f"cvxpy {cvxpy_version} cannot bring the problem into conic form: {error}"
        ) from error
    return _Canonical(data[cvxpy.settings.PARAM_PROB], chain, inverse)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that cvxpy's own reductions provoke: nothing a user could act on."""
    with warnings.catch_warnings():
        for own in (r"\s*Reading from a sparse", r"\s*Explicitly invoking \"NonPos"):
            warnings.filterwarnings("ignore", own)
        yield


# ------------------------------------------------------------------------------ the numbers


def _theta_map(canonical: _Canonical, parameters: Sequence[Any]) -> Any:
    """Sparse (cvxpy's parameter vector, theta): theta is in C order, in the order of the layer."""
    program, (_, reduced) = canonical.program, canonical.attributes
    rows, columns, weights = [], [], []
    start = 0
    for parameter in parameters:
        entries = start + np.arange(parameter.size).reshape(parameter.shape)
        start += parameter.size
        views = [entries]
        if any(parameter.attributes[name] for name in cvx_attr2constr.SYMMETRIC_ATTRIBUTES):
            views.append(entries.swapaxes(-1, -2))
        stand_in = reduced.get(parameter.id, parameter)
        row = program.param_id_to_col.get(stand_in.id)
        if row is None:  # no datum depends on it
            continue
        for view in views:
            used = view if stand_in is parameter else cvx_attr2constr.lower_value(parameter, view)
            used = np.asarray(used).ravel(order="F")
            rows.append(row + np.arange(used.size))
            columns.append(used)
            weights.append(np.full(used.size, 1.0 / len(views)))
    rows.append(np.array([program.total_param_size]))  # the constants
    columns.append(np.array([start]))
    weights.append(np.ones(1))
    return sparse.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(program.total_param_size + 1, start + 1),
    )


def _data_maps(program: Any, theta: Any) -> tuple[Structure, dict[str, Any], Floats]:
    """Structure, maps and objective offset from cvxpy's tensors.

    ``A`` has the rows of [A b], ``P`` those of P, each raveled in Fortran order, with the sign of
    Ax + b in K; ``q`` has those of (q, offset).
    """
    n, rows, columns, data = program.x.size, *_entries(program.A)
    m = program.A.shape[0] // (n + 1)
    in_b = rows >= m * n
    at_A, A = _nonzero_rows(rows[~in_b], columns[~in_b], -data[~in_b], theta)
    at_b, b = _nonzero_rows(rows[in_b] - m * n, columns[in_b], data[in_b], theta)
    at_P, P = np.empty(0, dtype=np.int64), sparse.csr_matrix((0, theta.shape[1]))
    if program.P is not None:
        # The symmetric part, for a matrix parameter that is not declared symmetric.
        rows, columns, data = _entries(program.P)
        both = np.concatenate((rows, rows % n * n + rows // n))
        at_P, P = _nonzero_rows(both, np.tile(columns, 2), np.tile(0.5 * data, 2), theta)
    linear = program.q if hasattr(program, "q") else program.c  # c until cvxpy 1.6
    at_q, q = _nonzero_rows(*_entries(linear), theta)
    q = _spread(at_q, q, n + 1)

    cones = _cones(program.cone_dims)
    maps = {"q": q[:n], "b": _spread(at_b, b, m)}
    if _is_dense(n, m, at_A.size + at_P.size):
        structure = Structure(n, m, cones)
        maps["P"] = _spread(at_P % n * n + at_P // n, P, n * n)
        maps["A"] = _spread(at_A % max(m, 1) * n + at_A // max(m, 1), A, m * n)
    else:
        structure = Structure(n, m, cones, _pattern(at_P, n, n), _pattern(at_A, m, n))
        maps["P"], maps["A"] = P, A
    return structure, maps, q[n].toarray()[0]


def _is_dense(n: int, m: int, nonzeros: int) -> bool:
    """Whether P (n, n) and A (m, n) are better stored dense: small, or filled by a quarter."""
    size = n * (n + m)
    return size <= 2_500 or (n <= 2_000 and nonzeros > 0.25 * size)


def _cones(dims: Any) -> tuple[Any, ...]:
    """The cones in the order in which cvxpy stacks their rows."""
    return (
        *(
            kind(size)
            for kind, size in ((ZeroCone, dims.zero), (NonnegativeCone, dims.nonneg))
            if size
        ),
        *(SecondOrderCone(size) for size in dims.soc),
        *(PSDCone(size) for size in dims.psd),
        *(ExponentialCone() for _ in range(dims.exp)),
        *(PowerCone(float(alpha)) for alpha in dims.p3d),
    )


def _entries(tensor: Any) -> tuple[Ints, Ints, Floats]:
    """Rows, columns and values. Rows count m * n or more: never as a dense index."""
    coo = tensor.tocoo()
    return coo.row.astype(np.int64), coo.col.astype(np.int64), coo.data.astype(np.float64)


def _nonzero_rows(rows: Ints, columns: Ints, data: Floats, theta: Any) -> tuple[Ints, Any]:
    """The rows of a tensor that have an entry, ascending, and these rows as functions of theta."""
    at, index = np.unique(rows, return_inverse=True)
    tensor = sparse.csr_matrix((data, (index, columns)), shape=(at.size, theta.shape[0]))
    matrix = sparse.csr_matrix(tensor @ theta)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    filled = np.diff(matrix.indptr) > 0
    return (at, matrix) if filled.all() else (at[filled], matrix[filled])


def _spread(at: Ints, matrix: Any, size: int) -> Any:
    """The CSR matrix of ``size`` rows whose rows ``at`` are those of ``matrix``."""
    coo = matrix.tocoo()
    return sparse.csr_matrix((coo.data, (at[coo.row], coo.col)), shape=(size, matrix.shape[1]))


def _pattern(at: Ints, rows: int, columns: int) -> Pattern:
    """The CSC pattern of entries in ascending Fortran order."""
    starts = np.searchsorted(at, rows * np.arange(columns + 1, dtype=np.int64))
    return Pattern((rows, columns), starts.astype(np.int32), (at % max(rows, 1)).astype(np.int32))


# ------------------------------------------------------------------------------ the outputs


def _primal_map(canonical: _Canonical, variable: Any) -> Any:
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
    value = _recover_value(variable, numbers, project=False)
    value = value.toarray() if sparse.issparse(value) else np.asarray(value)
    return _selection(np.ones(variable.size), value.reshape(-1), program.x.size)


def _dual_maps(canonical: _Canonical, duals: Mapping[int, _Dual], m: int) -> dict[int, Any]:
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


def _duals_at(canonical: _Canonical, duals: Mapping[int, _Dual], z: Floats) -> dict[int, Floats]:
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


def _untraceable(dual: _Dual) -> UnsupportedProblemError:
    return UnsupportedProblemError(
        f"cvxpy {cvxpy_version} does not say how {dual.name}, of the "
        f"{type(dual.constraint).__name__} constraint `{_short(dual.constraint)}`, follows from "
        "the solution of the canonical program; write the constraint in terms of simpler cones"
    )
