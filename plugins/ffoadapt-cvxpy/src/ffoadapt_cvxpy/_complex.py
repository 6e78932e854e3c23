"""Complex problems: cvxpy's real problem in real and imaginary parts, with pairs for the user.

A complex parameter or variable of some shape is a real array (*shape, 2) to the user, its last axis
the real and the imaginary part (``torch.view_as_real``). All maps stay linear: they are multiplied
by one more, from the pairs to the parameters that cvxpy made of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cvxpy.reductions.complex2real.complex2real import Complex2Real
from scipy import sparse

from ffoadapt import AffineOutput, UnsupportedProblemError

from ._attributes import Declared, declared
from ._canonical import cvxpy_version
from ._condense import Squares

__all__ = ["in_pairs", "is_complex"]


def is_complex(problem: Any) -> bool:
    """Whether a variable or parameter of the problem is complex, imaginary or Hermitian."""
    return not all(leaf.is_real() for leaf in [*problem.variables(), *problem.parameters()])


def in_pairs(
    parametrize: Callable[..., Any], problem: Any, parameters: Sequence[Any], outputs: Sequence[Any]
) -> Any:
    """The program of a complex problem; all of its parameters and outputs have been checked."""
    reduction = Complex2Real()
    real, _ = reduction.apply(problem)
    methods: Any = getattr(reduction, "canon_methods", None)
    if methods is None or not hasattr(methods, "_parameters"):
        raise UnsupportedProblemError(
            f"complex problems need cvxpy 1.9 or newer, and this is {cvxpy_version}; write the "
            "problem with a real variable or parameter for each of the two parts"
        )
    inside = {c.id: c for c in real.constraints}
    duals = {
        dual.id: (inside.get(c.id), i, c)
        for c in problem.constraints
        for i, dual in enumerate(c.dual_variables)
    }
    present, variables = ({v.id for v in part} for part in (real.parameters(), real.variables()))
    given = [_parts(p, methods._parameters) for p in parameters]
    chosen = [part for parts in given for part in parts if part is not None]
    chosen = [part for part in chosen if part.id in present]
    wanted = []
    for out in outputs:
        if out.id in duals:
            constraint, i, stated = duals[out.id]
            if constraint is None or stated.is_complex():
                raise UnsupportedProblemError(
                    f"the dual variable of the complex constraint `{stated}` is not available; "
                    "write it as one of cp.real(...) and one of cp.imag(...)"
                )
            wanted.append([constraint.dual_variables[i]])
        else:
            parts = _parts(out, methods._variables)
            wanted.append(
                [part if getattr(part, "id", None) in variables else None for part in parts]
            )
    asked = [part for parts in wanted for part in parts if part is not None]
    program = parametrize(real, chosen, asked)
    starts = np.cumsum([0, *(part.size for part in chosen)])
    at = {part.id: (start, part) for start, part in zip(starts, chosen, strict=False)}
    to_parts = _map_of_pairs(parameters, given, at, int(starts[-1]))
    results, each = [], iter(program.results)
    for out, parts in zip(outputs, wanted, strict=True):
        leaves = [None if part is None else next(each) for part in parts]
        results.append(leaves[0] if len(leaves) == 1 else _paired(out, leaves, program.structure.n))
    squares = program.squares
    if squares is not None:
        squares = Squares(squares.weights, squares.left @ to_parts, squares.right @ to_parts)
    constant = sparse.csr_matrix(program.constant) @ to_parts
    plain = [p for p in parameters if p.is_real()]
    rules = {p.name(): declaration for p in plain for declaration in declared([p])}
    places = [(k, p.name()) for k, p in enumerate(parameters) if p.name() in rules]
    return dataclasses.replace(
        program,
        parameters=[(p.name(), _shape(p)) for p in parameters],
        maps={name: sparse.csr_matrix(matrix @ to_parts) for name, matrix in program.maps.items()},
        results=results,
        constant=constant.toarray(),
        squares=squares,
        attributes=[Declared(k, name, rules[name].rules) for k, name in places],
    )


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape) if leaf.is_real() else (*leaf.shape, 2)


def _parts(leaf: Any, known: Any) -> list[Any]:
    """What cvxpy made of a leaf: itself where it is real, else the pair, None for a part that is
    zero."""
    if leaf.is_real():
        return [leaf]
    return list(known[leaf]) if leaf in known else [None, None]


def _map_of_pairs(parameters: Sequence[Any], given: Sequence[list[Any]], at: Any, size: int) -> Any:
    """Sparse (size + 1, width): cvxpy's real parameters, and 1, from the user's and 1."""
    blocks, start = [], 0
    for leaf, parts in zip(parameters, given, strict=True):
        step = len(parts)
        for k, part in enumerate(parts):
            if part is not None and part.id in at:
                rows, columns, weights = _entries(leaf, part, k)
                blocks.append((at[part.id][0] + rows, start + step * columns + k, weights))
        start += step * leaf.size
    blocks.append((np.array([size]), np.array([start]), np.ones(1)))
    rows, columns, weights = map(np.concatenate, zip(*blocks, strict=True))
    return sparse.csr_matrix((weights, (rows, columns)), shape=(size + 1, start + 1))


def _entries(leaf: Any, part: Any, k: int) -> tuple[Any, Any, Any]:
    """Which entries of a leaf, and how much of each, make those of a part, both in C order.

    The imaginary part of a Hermitian matrix is cvxpy's strict upper triangle.
    """
    if k == 1 and part.size != leaf.size:
        upper, lower = _triangles(leaf.shape[0])
        here = np.arange(part.size)
        half = np.full(part.size, 0.5)
        return (np.tile(here, 2), np.concatenate((upper, lower)), np.concatenate((half, -half)))
    here = np.arange(leaf.size)
    return here, here, np.ones(leaf.size)


def _triangles(n: int) -> tuple[Any, Any]:
    i, j = np.triu_indices(n, k=1)
    return i * n + j, j * n + i


def _paired(leaf: Any, real: Sequence[Any], n: int) -> AffineOutput:
    """One output (*shape, 2) of those for its parts."""
    size = leaf.size
    rows = []
    for out in real:
        if out is None:
            rows.append(sparse.csr_matrix((size, n)))
        elif out.matrix.shape[0] != size:
            upper, lower = _triangles(leaf.shape[0])
            count = upper.size
            at = np.concatenate((upper, lower)), np.tile(np.arange(count), 2)
            signs = np.repeat([1.0, -1.0], count)
            rows.append(sparse.csr_matrix((signs, at), shape=(size, count)) @ out.matrix)
        else:
            rows.append(out.matrix)
    order = np.arange(2 * size).reshape(2, size).T.ravel()
    return AffineOutput(leaf.name(), _shape(leaf), "x", sparse.vstack(rows).tocsr()[order])
