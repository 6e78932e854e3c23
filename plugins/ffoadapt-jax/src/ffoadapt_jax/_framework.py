"""JAX: a `Differentiable` as a custom_vjp function that calls back to NumPy where it is traced.

Outside jit the function runs directly, so that its exceptions are ours; under jit and vmap it runs
in a pure_callback. Between forward and backward the state travels as arrays, bit for bit (float64
as pairs of 32-bit words), so that it stays exact also where JAX knows no float64.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ffoadapt import Differentiable, Framework, ParameterError
from jax.experimental.sparse import BCOO

__all__ = ["JaxFramework"]


class JaxFramework(Framework):
    """JAX arrays of any floating dtype; NumPy arrays are constants."""

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        dtype = _common_dtype(arrays)
        given = [jnp.asarray(a) for a in arrays]
        given = [a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(dtype) for a in given]
        cores = function.ndims
        if all(a.ndim >= core for a, core in zip(given, cores, strict=True)):
            # All get the same number of batch axes, so that vmap extends them together.
            axes = max((a.ndim - core for a, core in zip(given, cores, strict=True)), default=0)
            given = [
                a.reshape((1,) * (axes - a.ndim + core) + a.shape)
                for a, core in zip(given, cores, strict=True)
            ]
        return list(_solve(function, dtype, given))

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        if not isinstance(array, BCOO):
            return None
        if isinstance(array.indices, jax.core.Tracer):
            raise ParameterError(
                "a BCOO matrix is traced with its indices, so its pattern is not known; close over "
                "the indices and make only its data an argument of the traced function"
            )
        rows, columns = np.asarray(array.indices).T
        return rows, columns, array.data


def _solve(function: Differentiable, dtype: Any, arrays: Sequence[Any]) -> Any:
    @jax.custom_vjp
    def solved(*args: Any) -> Any:
        return _forward(function, dtype, args)[0]

    solved.defvjp(
        lambda *args: _forward(function, dtype, args),
        lambda kept, bars: _backward(function, kept, bars),
    )
    return solved(*arrays)


def _forward(function: Differentiable, dtype: Any, arrays: Sequence[Any]) -> Any:
    shapes = [a.shape for a in arrays]
    outputs = [jax.ShapeDtypeStruct(s, dtype) for s in function.output_shapes(shapes)]
    state = [jax.ShapeDtypeStruct((*s, 2), np.uint32) for s in function.state_shapes(shapes)]

    def compute(*values: Any) -> Any:
        found, kept = function.forward([_float64(v) for v in values])
        return [v.astype(dtype) for v in found], [_words(v) for v in function.pack(kept)]

    results, kept = _call(compute, (outputs, state), arrays)
    return tuple(results), (tuple(arrays), tuple(kept))


def _backward(function: Differentiable, kept: Any, cotangents: Any) -> Any:
    arrays, state = kept
    count, states = len(arrays), len(state)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]

    def compute(*values: Any) -> Any:
        given = [_float64(v) for v in values[:count]]
        saved = [_floats(v) for v in values[count : count + states]]
        bars = [_float64(v) for v in values[count + states :]]
        found = _gradient(function, given, saved, bars, given[0].ndim - arrays[0].ndim)
        return [g.astype(s.dtype) for g, s in zip(found, shapes, strict=True)]

    return tuple(_call(compute, shapes, (*arrays, *state, *cotangents)))


def _gradient(
    function: Differentiable, given: Any, saved: Any, bars: Any, extra: int
) -> list[np.ndarray[Any, Any]]:
    """Gradients at values to which vmap has added ``extra`` axes in front, of size 1 or full.

    An added axis that the parameters have is a batch of solves; one that only the cotangents have
    is several cotangents for one solve, which share its factorization.
    """
    full = np.broadcast_shapes(*(v.shape[:extra] for v in (*given, *saved, *bars)))
    solved = [k for k in range(extra) if any(v.shape[k] != 1 for v in (*given, *saved))]
    several = [k for k in range(extra) if k not in solved]

    def of_solve(v: Any) -> Any:
        sizes = tuple(full[k] if k in solved else 1 for k in range(extra))
        return np.broadcast_to(v, sizes + v.shape[extra:]).squeeze(tuple(several))

    def of_cotangent(v: Any) -> Any:
        return np.moveaxis(np.broadcast_to(v, full + v.shape[extra:]), several, range(len(several)))

    state = function.unpack([of_solve(v) for v in given], [of_solve(v) for v in saved])
    found = function.vjp(state, [of_cotangent(v) for v in bars], [True] * len(given))
    return [np.moveaxis(g, range(len(several)), several) for g in found if g is not None]


def _call(compute: Callable[..., Any], shapes: Any, arrays: Sequence[Any]) -> Any:
    """``compute`` on NumPy arrays: directly where they are concrete, else in a callback."""
    if any(isinstance(a, jax.core.Tracer) for a in arrays):
        return jax.pure_callback(compute, shapes, *arrays, vmap_method="expand_dims")
    return jax.tree.map(jnp.asarray, compute(*(np.asarray(a) for a in arrays)))


def _common_dtype(arrays: Sequence[Any]) -> Any:
    typed = [jnp.result_type(a) for a in arrays if hasattr(a, "dtype")]
    if any(jnp.issubdtype(t, jnp.complexfloating) for t in typed):
        raise ParameterError("an argument is complex; expected real numbers")
    floating = [t for t in typed if jnp.issubdtype(t, jnp.floating)]
    return jnp.result_type(*floating) if floating else jnp.result_type(float)


def _float64(value: Any) -> Any:
    return np.asarray(value).astype(np.float64, copy=False)


def _words(value: Any) -> Any:
    """float64 (...) as 32-bit words (..., 2)."""
    return np.ascontiguousarray(value, dtype=np.float64)[..., None].view(np.uint32)


def _floats(words: Any) -> Any:
    return np.ascontiguousarray(words).view(np.float64)[..., 0]
