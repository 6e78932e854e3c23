"""cvxpy's own part: from a problem to the tensors of its canonical form.

The only file that depends on internals of cvxpy that differ between its versions.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from cvxpy.version import version as cvxpy_version
from numpy.typing import NDArray

from ffoadapt import MissingDependencyError, UnsupportedProblemError

from ._checks import culprits

__all__ = ["Canonical", "canonicalize", "cvxpy_version", "is_symmetric", "lower", "recover"]

Floats = NDArray[np.float64]

_DPP = "https://www.cvxpy.org/tutorial/dpp/index.html"
_OLDEST = (1, 6)
VERSION = tuple(int(part) for part in re.findall(r"\d+", cvxpy_version)[:2])

if VERSION < _OLDEST:
    raise MissingDependencyError(
        f"ffoadapt-cvxpy needs cvxpy 1.6 or newer and found {cvxpy_version}; "
        'run: pip install --upgrade "cvxpy>=1.6"'
    )

# Until cvxpy 1.8 the function had another name.
recover: Callable[..., Any] = getattr(
    cvx_attr2constr,
    "recover_value_for_leaf" if VERSION >= (1, 9) else "recover_value_for_variable",
)


def is_symmetric(leaf: Any) -> bool:
    """Whether a variable or parameter is declared symmetric, PSD or NSD."""
    return any(leaf.attributes[name] for name in cvx_attr2constr.SYMMETRIC_ATTRIBUTES)


def lower(leaf: Any, value: Any) -> Any:
    """The entries of a full-size value that the stand-in of a leaf with attributes keeps."""
    return cvx_attr2constr.lower_value(leaf, value)


class _CanonicalForm(SCS):
    """cvxpy's interface to SCS without SCS: stops where parameter values would be put in.

    The scs package is never imported; a chain that ends here takes and gives canonical data.
    """

    REQUIRES_CONSTR = False

    def __init__(self, quadratic: bool) -> None:
        super().__init__()
        self.quadratic = quadratic

    def name(self) -> Any:
        # Atoms with a canonical form of their own inside (perspective) ask for it by this name. A
        # string is looked up among the installed solvers; a solver object is taken as it is.
        return self

    def __str__(self) -> str:
        return "FFOADAPT"

    def import_solver(self) -> None:
        """There is nothing to import."""

    def supports_quad_obj(self) -> bool:
        return self.quadratic

    def apply(self, problem: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _, data, inverse = self._prepare_data_and_inv_data(problem)
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
class Canonical:
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


def canonicalize(problem: Any) -> Canonical:
    # On a copy, so that what the user's problem has cached for its own solves stays.
    copy = cp.Problem(problem.objective, problem.constraints)
    # cvxpy 1.6 to 1.8 lose the square of a variable whose attributes reduce its size: they get
    # second-order cones in the place of P.
    reduced = cvx_attr2constr.attributes_present(
        problem.variables(), [*cvx_attr2constr.SYMMETRIC_ATTRIBUTES, "diag", "sparsity"]
    )
    form = _CanonicalForm(quadratic=VERSION >= (1, 9) or not reduced)
    try:
        with quiet():
            data, chain, inverse = copy.get_problem_data(solver=form, enforce_dpp=True)
    except DPPError as error:
        raise UnsupportedProblemError(
            "the problem is DCP but not DPP: its data are not linear in the parameters. The "
            f"smallest parts that break the rules:\n{culprits(problem, dpp=True)}\n"
            "Make each product or function of parameters a parameter of its own, computed before "
            "the layer. A quad_form(x, P) with a parameter P is only supported in the objective; "
            f"in constraints, write it as sum_squares(L @ x) with P = L'L. See {_DPP}"
        ) from error
    except Exception as error:  # whatever its reductions stumble over
        why = str(error) if isinstance(error, DCPError | SolverError) else repr(error)
        raise UnsupportedProblemError(
            f"cvxpy {cvxpy_version} cannot bring the problem into conic form: {why}"
        ) from error
    return Canonical(data[cvxpy.settings.PARAM_PROB], chain, inverse)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that cvxpy's own reductions provoke: nothing a user could act on."""
    with warnings.catch_warnings():
        for own in ("Reading from a sparse", 'Explicitly invoking "NonPos', "Your problem has too"):
            warnings.filterwarnings("ignore", rf"\s*{own}")
        yield
