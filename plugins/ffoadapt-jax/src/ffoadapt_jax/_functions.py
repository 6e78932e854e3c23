"""Gradients of a user's functions of JAX arrays; first ones only, but for `curvature`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import jax
import jax.numpy as jnp
import numpy as np

from ffoadapt import Framework, ParameterError

__all__ = ["curvature", "flatten", "from_numpy", "gradients", "gradients_each", "precise", "unused"]

_compiled: WeakKeyDictionary[Callable[..., Any], dict[Any, Any]] = WeakKeyDictionary()


def flatten(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Any pytree that JAX knows."""
    leaves, form = jax.tree.flatten(tree)
    return leaves, _Tree(form)


@dataclass(frozen=True)
class _Tree:
    form: Any

    def __call__(self, leaves: Sequence[Any]) -> Any:
        return jax.tree.unflatten(self.form, leaves)


@jax.jit
def _taken(array: jax.Array) -> jax.Array:
    """A jitted function takes NumPy's arrays in a third of the time of ``jnp.array``."""
    return array


def from_numpy(array: Any) -> jax.Array:
    return _taken(np.array(array, dtype=np.float64))


def precise() -> AbstractContextManager[Any]:
    return jax.enable_x64(True)


def gradients(
    function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
) -> tuple[Any, list[Any]]:
    """See `ffoadapt.Framework.gradients`."""
    value, parts = _kept(function, tuple(needed), None)(*arrays)
    each = iter(parts)
    return value, [next(each) if on else None for on in needed]


def unused(function: Callable[..., Any], arrays: Sequence[Any]) -> list[bool]:
    """See `ffoadapt.Framework.unused`: whose tangents do not reach that of the value, which tells
    of `jax.lax.stop_gradient` and of casts to integers too."""

    def tangent(*tangents: Any) -> Any:
        return jax.jvp(function, tuple(arrays), tangents)[1]

    graph = jax.make_jaxpr(tangent)(*map(jnp.zeros_like, arrays)).jaxpr
    needed = {id(v) for v in graph.outvars}
    for step in reversed(graph.eqns):
        if any(id(v) in needed for v in step.outvars):
            needed |= {id(v) for v in step.invars}
    return [id(v) not in needed for v in graph.invars]


def gradients_each(
    self: Framework,
    function: Callable[..., Any],
    arrays: Sequence[Any],
    mapped: Sequence[bool],
    needed: Sequence[bool],
) -> tuple[Any, list[Any]]:
    """See `ffoadapt.Framework.gradients_each`; all at once where JAX can batch the function."""
    try:
        values, parts = _kept(function, tuple(needed), tuple(mapped))(*arrays)
    except (NotImplementedError, TypeError, ValueError):
        return Framework.gradients_each(self, function, arrays, mapped, needed)
    each = iter(parts)
    return values, [next(each) if on else None for on in needed]


def curvature(
    function: Callable[..., Any], arrays: Sequence[Any], directions: Sequence[Any]
) -> list[Any]:
    """See `ffoadapt.Framework.curvature`."""
    given = [jnp.zeros_like(a) if d is None else d for a, d in zip(arrays, directions, strict=True)]
    return list(_kept(function, None, None)(tuple(arrays), tuple(given)))


def _kept(function: Callable[..., Any], needed: Any, mapped: Any) -> Any:
    """What was compiled for the function, as long as that lives."""
    known = _compiled.setdefault(function, {})
    compiled = known.get((needed, mapped))
    if compiled is None:
        compiled = known[needed, mapped] = jax.jit(_made(function, needed, mapped))
    return compiled


def _made(function: Callable[..., Any], needed: Any, mapped: Any) -> Callable[..., Any]:
    alive = ref(function)  # what is kept for a function must not keep the function

    def held(*arrays: Any) -> Any:
        value = alive()(*arrays)  # type: ignore[misc]
        if jnp.shape(value) not in ((), (1,)):
            raise ParameterError(
                f"a function returned an array of shape {jnp.shape(value)}; expected a scalar"
            )
        return jnp.reshape(value, ())

    if needed is None:

        def along(arrays: Any, directions: Any) -> Any:
            every = tuple(range(len(arrays)))
            return jax.jvp(lambda *a: jax.grad(held, every)(*a), arrays, directions)[1]

        return along
    places = tuple(k for k, on in enumerate(needed) if on)
    one = jax.value_and_grad(held, places) if places else lambda *arrays: (held(*arrays), ())
    if mapped is None:
        return one
    return jax.vmap(one, in_axes=tuple(0 if on else None for on in mapped))
