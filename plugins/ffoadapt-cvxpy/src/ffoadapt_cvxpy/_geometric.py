"""Geometric programs: cvxpy's convex program in logarithms, with the user's parameters in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cvxpy as cp
from cvxpy.atoms.affine.sum import sum as total
from cvxpy.reductions.dgp2dcp.dgp2dcp import Dgp2Dcp

from ffoadapt import ParameterError, ProblemError, UnsupportedProblemError

from ._attributes import Declared, Positive, declared

__all__ = ["in_logarithms"]


def in_logarithms(
    parametrize: Callable[..., Any],
    problem: Any,
    parameters: Sequence[Any],
    variables: Sequence[Any],
) -> Any:
    """A geometric program as a convex one in the logarithms of variables and parameters.

    It takes all parameters as they are, which are checked and may be exponents, and then the
    logarithms of those that enter by them.
    """
    if not problem.is_dgp(dpp=True):
        raise UnsupportedProblemError(
            "gp=True, but the problem is not a geometric program that keeps its form whatever "
            "the parameters are (problem.is_dgp(dpp=True) is False)"
        )
    given, present = list(parameters), problem.parameters()
    if {p.id for p in given} != {p.id for p in present} or len(given) != len(present):
        raise ParameterError(
            "`parameters` must exactly match problem.parameters(): got "
            f"{[p.name() for p in given]}, expected {[p.name() for p in present]}"
        )
    reduction = Dgp2Dcp(problem)
    convex, inverse = reduction.apply(problem)
    logs = {old.id: new.id for old, new in reduction.canon_methods._parameters.items()}
    inside = {p.id: p for p in convex.parameters()}
    logged = [k for k, p in enumerate(given) if logs.get(p.id) in inside]
    chosen = [*given, *(inside[logs[given[k].id]] for k in logged)]
    renamed = {old: new[0] for old, new in getattr(reduction, "var_id_map", {}).items()}
    by_id = {v.id: v for v in convex.variables()}
    # A constraint's multiplier is, as in cvxpy, that of the constraint between logarithms.
    inside_of = {c.id: c for c in convex.constraints}
    duals = {
        dual.id: inside_of[inverse.cons_id_map[c.id]].dual_variables[i]
        for c in problem.constraints
        for i, dual in enumerate(c.dual_variables)
    }
    wanted = [duals.get(v.id, by_id.get(renamed.get(v.id, v.id))) for v in variables]
    for variable, log_variable in zip(variables, wanted, strict=True):
        if log_variable is None:
            raise ProblemError(
                f"{variable.name()!r} is neither a variable of the problem nor a dual variable "
                "of its constraints: `variables` must be a subset of problem.variables() and "
                "of those"
            )
    objective = convex.objective
    nothing = sum((0.0 * total(p) for p in given if p.id not in inside), cp.Constant(0.0))
    convex = cp.Problem(type(objective)(objective.expr + nothing), convex.constraints)
    program = parametrize(convex, chosen, wanted)
    names = [*(p.name() for p in given), *(f"log({given[k].name()})" for k in logged)]
    shapes = (shape for _, shape in program.parameters)
    program.parameters = list(zip(names, shapes, strict=True))
    positive = [Declared(k, given[k].name(), (Positive(),)) for k in logged]
    program.attributes = [*positive, *declared(given)]
    program.logged = logged
    program.exponentiated = [v.id not in duals for v in variables]
    return program
