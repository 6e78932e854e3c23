"""Derivatives of derivatives of a solution, in JAX's own operations.

They are those of a function: the user's arrays make a program l <= Ax <= u, the point of which is
known and moves with the program, and make the outputs of it. Its derivative solves the ghost system
of `ffoadapt.experimental.BoxOracle`, at active rows that stay as they are; as a function of the
data that can be differentiated again. Only programs of zero and nonnegative cones, of moderate
size, are written so. Where a row is weakly active, or the system is singular, there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ffoadapt import BoxForm, Differentiable, DifferentiationError, TracedSolve

from ._traced import oracle, over

__all__ = ["moved", "refused"]

KINK = 1e-7
"""A row with slack and multiplier below this, dimensionless, is weakly active."""


def moved(
    function: Differentiable,
    arrays: Sequence[Any],
    state: Sequence[Any],
    linear: Sequence[Any],
    tangents: tuple[Sequence[Any], Sequence[Any]],
    params: Any,
) -> list[Any]:
    """The tangents on a derivative from those on the arrays and on what it is linear in.

    ``params`` are those of the derivative: see `_primitives`. ``state`` are arrays of float64.
    """
    route = function.maps(jnp)
    if route is None:
        raise DifferentiationError(
            "second derivatives of a solution are not available here: there are those of programs "
            "with zero and nonnegative cones, of moderate size, without smoothing, finite steps or "
            "the closest feasible program. Put jax.lax.stop_gradient around the gradient, or take "
            "finite differences of it"
        )
    axes = arrays[0].ndim - params["extra"] - function.ndims[0]
    kind = tuple(params[key] for key in ("transposed", "moved", "extra"))
    results: list[Any] = _moved(
        route, axes, kind, list(arrays), list(state), list(linear), tangents
    )
    return results


@partial(jax.jit, static_argnums=(0, 1, 2))
def _moved(
    route: TracedSolve,
    axes: int,
    kind: tuple[bool, tuple[bool, ...], int],
    arrays: list[Any],
    state: list[Any],
    linear: list[Any],
    tangents: tuple[list[Any], list[Any]],
) -> list[Any]:
    transposed, moving, extra = kind

    def derivative(arrays: Any, state: Any, linear: Any) -> list[Any]:
        outputs = _outputs(route, axes, state[0], state[-1])
        if transposed:
            gradients = jax.vjp(outputs, *arrays)[1](list(linear))
            return [g for g, on in zip(gradients, moving, strict=True) if on]
        each = iter(linear)
        pairs = zip(arrays, moving, strict=True)
        moves = [next(each) if on else jnp.zeros_like(v) for v, on in pairs]
        return list(jax.jvp(outputs, tuple(arrays), tuple(moves))[1])

    def whole(arrays: Any, linear: Any) -> list[Any]:
        results: list[Any] = over(derivative, extra)(arrays, state, linear)
        return results

    return list(jax.jvp(whole, (arrays, linear), tangents)[1])


def refused(function: Differentiable, arrays: Sequence[Any], state: Sequence[Any]) -> bool:
    """Whether an element has no second derivatives; of arrays whose numbers are known, without
    axes beside those of the batch."""
    route = function.maps(jnp)
    if route is None or route.failed == 0.0:
        return False
    axes = arrays[0].ndim - function.ndims[0]
    return bool(_any_rough(route, axes, state[0], state[-1], *arrays))


@partial(jax.jit, static_argnums=(0, 1))
def _any_rough(route: TracedSolve, axes: int, *given: Any) -> Any:
    def one(x: Any, y: Any, *values: Any) -> Any:
        return _rough(route.program(values), x, y)[0]

    return jnp.any(over(one, axes)(*given))


def _outputs(route: TracedSolve, axes: int, x: Any, y: Any) -> Callable[..., list[Any]]:
    """The outputs as a function of the arrays, near points x and y."""

    def one(x: Any, y: Any, *values: Any) -> list[Any]:
        p = route.program(values)
        return list(route.outputs(p, *_point(p, x, y)))

    def outputs(*arrays: Any) -> list[Any]:
        results: list[Any] = over(one, axes)(x, y, *arrays)
        return results

    return outputs


def _rough(p: BoxForm, x: Any, y: Any) -> Any:
    """Whether there are no second derivatives, and the ghost system."""
    at = oracle.ghost(p, x, y)
    margin = oracle.measured(at.p, at.x, at.y).margin
    return ~(at.solved & at.regular & (margin >= KINK)), at


@jax.custom_jvp
def _point(p: BoxForm, x: Any, y: Any) -> tuple[Any, Any]:
    """The solution of the program, which is known to be x, y."""
    return x, y


@_point.defjvp
def _(primals: Any, tangents: Any) -> Any:
    p, (d, *_) = primals[0], tangents
    x, y = _point(*primals)
    rough, at = _rough(*jax.lax.stop_gradient((p, *primals[1:])))
    C = jnp.where(at.active[:, None], p.A, 0.0)
    P = (p.P + p.P.T) / 2

    n = x.size

    def product(v: Any) -> Any:
        w, mu = v[:n], v[n:]
        return jnp.concatenate((P @ w + C.T @ mu, C @ w - jnp.where(at.active, 0.0, mu)))

    def inverse(_: Any, v: Any) -> Any:
        return jnp.concatenate(oracle.solve(at, v[:n], jnp.where(at.active, v[n:], 0.0)))

    top = -((d.P + d.P.T) @ x / 2 + d.q + d.A.T @ y)
    bound = jnp.where(at.at_upper, d.u, d.l) - d.A @ x
    # In one vector: the transpose of such a solve takes no part that does not move.
    right = jnp.concatenate((top, jnp.where(at.active, bound, 0.0)))
    moves = jax.lax.custom_linear_solve(product, right, inverse, symmetric=True)
    dx, dy = moves[:n], moves[n:]
    gate = jnp.where(rough, jnp.nan, 1.0)
    return (x, y), (gate * dx, gate * dy)
