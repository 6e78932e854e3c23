"""What a user may hand to the modeler, and what is said where it is something else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
from cvxpy.utilities import scopes

from ffoadapt import ParameterError, ProblemError, UnsupportedProblemError

__all__ = ["Dual", "check_outputs", "check_parameters", "check_problem", "culprits", "short"]


@dataclass(frozen=True)
class Dual:
    """Where a wanted dual variable belongs."""

    name: str
    constraint: Any


def check_problem(problem: Any) -> None:
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
    if not problem.is_dcp():
        raise UnsupportedProblemError(
            "the problem does not follow the DCP rules of cvxpy (quasiconvex programs are not "
            "supported; geometric ones are with gp=True). The smallest parts that break them:\n"
            + culprits(problem, dpp=False)
        )


def check_parameters(problem: Any, parameters: Any) -> None:
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
            f"`parameters` must exactly match problem.parameters(): the problem depends on "
            f"{_listed(missing)}, which it does not list; add them, or hold them at the values "
            "that they have in cvxpy with held=[...]"
        )
    extra = [p.name() for i, p in given.items() if i not in present]
    if extra:
        raise ParameterError(
            f"`parameters` must exactly match problem.parameters(): it lists {_listed(extra)}, on "
            "which the problem does not depend; it depends on "
            f"{_listed(p.name() for p in present.values()) or 'none'}"
        )


def check_outputs(problem: Any, outputs: Any) -> dict[int, Dual]:
    """The wanted dual variables by id; all other outputs are variables of the problem."""
    if isinstance(outputs, cp.Variable):
        raise ProblemError(f"expected a list of variables, got one: write [{outputs.name()}]")
    for out in outputs:
        if isinstance(out, cp.constraints.constraint.Constraint):
            raise ProblemError(
                f"got the constraint `{short(out)}`; for its multiplier, pass "
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
        dual.id: Dual(f"constraints[{k}].dual_variables[{i}]", constraint)
        for k, constraint in enumerate(problem.constraints)
        for i, dual in enumerate(constraint.dual_variables)
    }
    foreign = [out.name() for out in outputs if out.id not in present and out.id not in duals]
    if foreign:
        raise ProblemError(
            f"{_listed(foreign)} are neither variables of the problem nor dual variables of its "
            "constraints: `variables` must be a subset of problem.variables() and of those; its "
            f"variables are {_listed(v.name() for v in problem.variables())}"
        )
    return {out.id: duals[out.id] for out in outputs if out.id in duals}


def _check_unique(what: str, leaves: Sequence[Any], error: type[ProblemError]) -> None:
    ids = [leaf.id for leaf in leaves]
    twice = {leaf.name(): None for leaf in leaves if ids.count(leaf.id) > 1}
    if twice:
        raise error(f"`{what}` lists {_listed(twice)} more than once; list each one once")


def culprits(problem: Any, dpp: bool) -> str:
    """The smallest subexpressions that break the rules, one a line, with their parameters."""
    lines: dict[str, None] = {}

    def visit(part: Any) -> None:
        broken = [arg for arg in part.args if not arg.is_dcp(dpp=dpp)]
        for arg in broken:
            visit(arg)
        if not broken:
            names = _listed(parameter.name() for parameter in part.parameters())
            lines[f"  {short(part)}" + (f"  (parameters: {names})" if dpp and names else "")] = None

    # With a quadratic objective, cvxpy 1.9 lets a parameter be the matrix of a quad_form there.
    relaxed = getattr(scopes, "quad_form_dpp_scope", contextlib.nullcontext)
    with relaxed():
        if not problem.objective.is_dcp(dpp=dpp):
            visit(problem.objective)
    for constraint in problem.constraints:
        if not constraint.is_dcp(dpp=dpp):
            visit(constraint)
    return "\n".join(lines)


def _described(value: Any) -> str:
    return f"{type(value).__name__}: {short(value)}"


def short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
