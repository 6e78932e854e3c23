"""A solver that is written in JAX, and the oracle in JAX for what it returns.

The mathematics is the core's (`ffoadapt.Oracle`), in shapes that no value decides: a program is
l <= Ax <= u with all m rows, and the ghost system

    [ P  C' ] [ w  ]   [ top    ]      C: the active rows of A, 0 for the others
    [ C  -D ] [ mu ] = [ bottom ]      D: 1 for rows that are not active, whose mu is 0

is inverted as a whole, so that derivatives in both modes are products with its inverse. Functions
are of one element, float64 throughout; `over` maps them over batch axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ffoadapt import BoxForm, TracedSolve

from ._inverse import inverse

__all__ = ["jvp", "over", "solve", "vjp"]

ROUNDS, ENOUGH = 4, 1e-11
"""Polishing takes so many steps at most, and none from below this relative KKT residual."""

INDEFINITE = 1e-8
"""P + this * max |P| * I must be positive definite."""

ASYMMETRY = 1e-5
"""P may differ from its transpose by this fraction of max |P|."""


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
        y = _signed(p, y)
        if route.polish:
            x, y = _polished(p, x, y)
        solved &= _convex(p.P) & jnp.isfinite(x).all() & jnp.isfinite(y).all()
        if np.isfinite(route.limit):
            solved &= _residual(p, x, y) <= route.limit
        x, y = (jnp.where(solved, v, jnp.nan) for v in (x, y))
        return route.outputs(p, x, y), route.pack(p, x, y)

    found: tuple[Any, Any] = over(one, axes)(*values)
    return found


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
    ghosts = over(lambda x, y, *values: _ghost(route.program(values), x, y), axes)(x, y, *values)

    def one(ghost: _Ghost, values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        each = iter(tangents)
        pairs = zip(values, moved, strict=True)
        full = [next(each) if on else jnp.zeros_like(v) for v, on in pairs]
        _, d = jax.jvp(route.program, (list(values),), (full,))
        p, x, y, active = ghost.p, ghost.x, ghost.y, ghost.active
        bound = jnp.where(active, jnp.where(ghost.at_upper, d.u, d.l) - d.A @ x, 0.0)
        dx, dy = _solved(ghost, -((d.P + d.P.T) @ x / 2 + d.q + d.A.T @ y), bound)
        _, found = jax.jvp(route.outputs, (p, x, y), (d, dx, dy))
        if route.failed == 0.0:
            return [jnp.where(ghost.solved, v, 0.0) for v in found]
        return [v * jnp.where(ghost.solved, 1.0, route.failed) for v in found]

    return lambda *tangents: over(one, axes)(ghosts, list(values), list(tangents))


# ---------------------------------------------------------------------------------- the oracle


class _Ghost(NamedTuple):
    """The ghost system of a program at a point; harmless numbers where that is not solved."""

    solved: Any
    p: Any
    x: Any
    y: Any
    active: Any
    at_upper: Any
    K: Any
    inverted: Any


def _ghost(p: BoxForm, x: Any, y: Any) -> _Ghost:
    solved = jnp.isfinite(x).all() & jnp.isfinite(y).all()
    p = jax.tree.map(lambda v: jnp.where(solved, v, 0.0), p)
    x, y = (jnp.where(solved, v, 0.0) for v in (x, y))
    active, at_upper = _active(p, x, y)
    C = jnp.where(active[:, None], p.A, 0.0)
    P = jnp.where(solved, (p.P + p.P.T) / 2, jnp.eye(x.size))
    K = jnp.block([[P, C.T], [C, -jnp.diag(jnp.where(active, 0.0, 1.0))]])
    return _Ghost(solved, p, x, y, active, at_upper, K, inverse(K))


def _solved(ghost: _Ghost, top: Any, bottom: Any) -> tuple[Any, Any]:
    """w (n,) and zeta (m,), refined once; linear in both blocks."""
    v = jnp.concatenate((top, bottom))
    w = ghost.inverted @ v
    w = w + ghost.inverted @ (v - ghost.K @ w)
    return w[: top.size], w[top.size :]


def _units(p: BoxForm, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """What makes slacks (m,), multipliers (m,) and gradients dimensionless: the core's `Scales`."""
    norms = jnp.sqrt(jnp.square(p.A).sum(axis=-1))
    norms = jnp.where(norms == 0.0, 1.0, norms)
    bounds = jnp.where(jnp.isfinite(jnp.stack((p.l, p.u))), jnp.stack((p.l, p.u)), 0.0)
    reach, steepness = _largest(bounds / norms), _largest(p.q)
    primal = jnp.maximum(_largest(x), reach)
    gradient = jnp.maximum(steepness, _largest(y * norms))
    curvature = jnp.diag(p.P).max(initial=0.0)
    flat = curvature <= 0.0
    length = jnp.where(flat, 0.0, gradient / jnp.where(flat, 1.0, curvature))
    gradient = jnp.maximum(gradient, curvature * primal)
    primal = jnp.maximum(primal, length)
    nowhere = (reach == 0.0) & ((steepness == 0.0) | flat)
    primal = jnp.where(nowhere, jnp.maximum(primal, 1.0), primal)
    nowhere = (steepness == 0.0) & (flat | (reach == 0.0))
    gradient = jnp.where(nowhere, jnp.maximum(gradient, 1.0), gradient)
    return norms * primal, gradient / norms, gradient


def _pairs(p: BoxForm, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Dimensionless slacks and multipliers (2, m), of upper and lower bounds, and the gradient's
    unit."""
    slack, dual, gradient = _units(p, x, y)
    r = p.A @ x
    s, z = jnp.stack((p.u - r, r - p.l)), jnp.maximum(jnp.stack((y, -y)), 0.0)
    return s / slack, z / dual, gradient


def _active(p: BoxForm, x: Any, y: Any) -> tuple[Any, Any]:
    """Which rows hold (m,), and whether at their upper bound. Of two sides one at most."""
    s, z, _ = _pairs(p, x, y)
    upper, lower = z > s
    equal = p.l == p.u
    return upper | lower | equal, jnp.where(upper & lower | equal, y >= 0.0, upper)


def _residual(p: BoxForm, x: Any, y: Any) -> Any:
    """The largest relative violation of the optimality conditions."""
    s, z, gradient = _pairs(p, x, y)
    stationarity = _largest(p.P @ x + p.q + p.A.T @ y) / gradient
    return jnp.maximum(stationarity, _largest(jnp.minimum(s, z)))


def _polished(p: BoxForm, x: Any, y: Any) -> tuple[Any, Any]:
    """The best point of a few Newton steps on the optimality conditions from this one."""

    def step(carry: Any) -> Any:
        count, x, y, _, best = carry
        ghost = _ghost(p, x, y)
        y = jnp.where(ghost.active, y, 0.0)
        bound = jnp.where(ghost.at_upper, p.u, p.l)
        gap = jnp.where(ghost.active, bound - p.A @ x, 0.0)
        dx, dy = _solved(ghost, -(p.P @ x + p.q + p.A.T @ y), gap)
        x, y = x + dx, _signed(p, y + dy)
        residual = _residual(p, x, y)
        best = jax.tree.map(
            lambda new, old: jnp.where(residual < best[2], new, old), (x, y, residual), best
        )
        return count + 1, x, y, residual, best

    def going(carry: Any) -> Any:
        count, _, _, residual, best = carry
        return (count < ROUNDS) & (best[2] > ENOUGH) & jnp.isfinite(residual)

    residual = _residual(p, x, y)
    start = (jnp.asarray(0), x, y, residual, (x, y, residual))
    x, y, _ = jax.lax.while_loop(going, step, start)[-1]
    return x, y


def _signed(p: BoxForm, y: Any) -> Any:
    """y without the signs that rows with one bound cannot have."""
    y = jnp.where(jnp.isinf(p.l), jnp.maximum(y, 0.0), y)
    return jnp.where(jnp.isinf(p.u), jnp.minimum(y, 0.0), y)


def _convex(P: Any) -> Any:
    """Whether P is symmetric and semidefinite: the pivots of its elimination are positive."""
    size = jnp.abs(P).max(initial=0.0)
    shift = INDEFINITE * jnp.where(size == 0.0, 1.0, size)

    def step(k: Any, carry: Any) -> Any:
        S, fine = carry
        fine &= S[k, k] > 0.0
        return S - S[:, [k]] * S[[k], :] / jnp.where(fine, S[k, k], 1.0), fine

    symmetric = (jnp.abs(P - P.T) <= ASYMMETRY * size).all()
    start = (P + P.T) / 2 + shift * jnp.eye(P.shape[0]), symmetric
    return jax.lax.fori_loop(0, P.shape[0], step, start)[1]


def _largest(values: Any) -> Any:
    return jnp.abs(values).max(initial=0.0)


jax.tree_util.register_dataclass(BoxForm, data_fields=[*"PqAlu"], meta_fields=[])
