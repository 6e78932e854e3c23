"""JAX: arrays to and from NumPy; what differentiates them is in `_primitives`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

from ffoadapt import Differentiable, Framework, ParameterError

from ._primitives import solve

__all__ = ["JaxFramework"]


class JaxFramework(Framework):
    """JAX arrays of any floating dtype; NumPy arrays are constants."""

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        dtype = _common_dtype(arrays)
        # Copies of NumPy arrays, which JAX would share with who may write to them.
        given = [jnp.array(a) if isinstance(a, np.ndarray) else jnp.asarray(a) for a in arrays]
        given = [a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(dtype) for a in given]
        cores = function.ndims
        if all(a.ndim >= core for a, core in zip(given, cores, strict=True)):
            # All get the same number of batch axes, so that vmap extends them together.
            axes = max((a.ndim - core for a, core in zip(given, cores, strict=True)), default=0)
            given = [
                a.reshape((1,) * (axes - a.ndim + core) + a.shape)
                for a, core in zip(given, cores, strict=True)
            ]
        return solve(function, dtype, given)

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


def _common_dtype(arrays: Sequence[Any]) -> Any:
    typed = [jnp.result_type(a) for a in arrays if hasattr(a, "dtype")]
    if any(jnp.issubdtype(t, jnp.complexfloating) for t in typed):
        raise ParameterError("an argument is complex; expected real numbers")
    floating = [t for t in typed if jnp.issubdtype(t, jnp.floating)]
    return jnp.result_type(*floating) if floating else jnp.result_type(float)
