"""A solver that is written in JAX, and the oracle in JAX for what it returns.

The mathematics is `ffoadapt.experimental.BoxOracle`.
Functions are of one element, float64 throughout; `over` maps them over batch axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffoadapt import BoxForm, TracedSolve
from ffoadapt.experimental import BoxGhost, BoxOracle

from ._algebra import JaxAlgebra

__all__ = ["jvp", "oracle", "over", "solve", "vjp"]


def over(function: Callable[..., Any], axes: int) -> Callable[..., Any]:
    """The function mapped over so many leading axes of its array arguments, each full or 1.

    What has size 1 is not mapped, so that what depends on nothing else is computed once.
    """
    if not axes:
        return function
    inner = over(function, axes - 1)

    def mapped(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        full = any(v.shape[0] != 1 for v in leaves)
        dims = [None if full and v.shape[0] == 1 else 0 for v in leaves]
        given = [v[0] if d is None else v for v, d in zip(leaves, dims, strict=True)]
        return jax.vmap(lambda *v: inner(*jax.tree.unflatten(tree, v)), in_axes=dims)(*given)

    return mapped


def solve(route: TracedSolve, axes: int, values: Sequence[Any]) -> tuple[Any, Any]:
    """Outputs and state for arguments with so many batch axes, NaN for what is not solved."""

    def one(*values: Any) -> tuple[Any, Any]:
        p = route.program(values)
        x, y, solved = route.solve(p)
        y = oracle.signed(p, y)
        if route.polish:
            x, y = oracle.polished(p, x, y)
        solved &= oracle.convex(p.P) & jnp.isfinite(x).all() & jnp.isfinite(y).all()
        if np.isfinite(route.limit):
            solved &= oracle.residual(p, x, y) <= route.limit
        x, y = (jnp.where(solved, v, jnp.nan) for v in (x, y))
        return route.outputs(p, x, y), route.pack(p, x, y)

    point: tuple[Any, Any] = over(one, axes)(*values)
    return point


def jvp(
    route: TracedSolve,
    axes: int,
    values: Sequence[Any],
    x: Any,
    y: Any,
    moved: Sequence[bool],
    tangents: Sequence[Any],
) -> list[Any]:
    """Tangents on the outputs from one for each value that is ``moved``."""
    return _derivative(route, axes, values, x, y, moved)(*tangents)


def vjp(
    route: TracedSolve,
    axes: int,
    values: Sequence[Any],
    x: Any,
    y: Any,
    moved: Sequence[bool],
    cotangents: Sequence[Any],
) -> list[Any]:
    """Cotangents on each value that is ``moved`` from one for each output."""
    shapes = [v for v, on in zip(values, moved, strict=True) if on]
    back = jax.linear_transpose(_derivative(route, axes, values, x, y, moved), *shapes)
    return list(back(list(cotangents)))


def _derivative(
    route: TracedSolve, axes: int, values: Sequence[Any], x: Any, y: Any, moved: Sequence[bool]
) -> Callable[..., list[Any]]:
    """The derivative at the points x, y, NaN where not solved, as a linear function."""
    ghosts = over(lambda x, y, *values: oracle.ghost(route.program(values), x, y), axes)(
        x, y, *values
    )

    def one(ghost: BoxGhost, values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        each = iter(tangents)
        pairs = zip(values, moved, strict=True)
        full = [next(each) if on else jnp.zeros_like(v) for v, on in pairs]
        _, d = jax.jvp(route.program, (list(values),), (full,))
        moves = d, *oracle.tangents(ghost, d)
        _, changes = jax.jvp(route.outputs, (ghost.p, ghost.x, ghost.y), moves)
        if route.failed == 0.0:
            return [jnp.where(ghost.solved, v, 0.0) for v in changes]
        return [v * jnp.where(ghost.solved, 1.0, route.failed) for v in changes]

    return lambda *tangents: over(one, axes)(ghosts, list(values), list(tangents))


oracle = BoxOracle(JaxAlgebra())


jax.tree_util.register_dataclass(BoxForm, data_fields=[*"PqAlu"], meta_fields=[])
