"""JAX: arrays to and from NumPy; what differentiates them is in `_primitives`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO, JAXSparse

from ffoadapt import Differentiable, Framework, ParameterError, ShapeError

from . import _functions
from ._algebra import JaxAlgebra
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

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function)

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        if not isinstance(array, JAXSparse):
            return None
        if not isinstance(array, BCOO):
            raise ParameterError(f"a {type(array).__name__} matrix; convert it with .to_bcoo()")
        if isinstance(array.indices, jax.core.Tracer):
            raise ParameterError(
                "a BCOO matrix is traced with its indices, so its pattern is not known; close over "
                "the indices and make only its data an argument of the traced function"
            )
        if array.ndim != 2:
            return None, None, None  # refused by its shape
        if array.n_batch or array.n_dense:
            raise ShapeError(
                f"a BCOO matrix with n_batch={array.n_batch} and n_dense={array.n_dense}; expected "
                "0 for both. Convert it with jax.experimental.sparse.bcoo_update_layout"
            )
        rows, columns = np.asarray(array.indices).T
        inside = (rows < array.shape[0]) & (columns < array.shape[1])
        if inside.all():
            return rows, columns, array.data
        return rows[inside], columns[inside], array.data[inside]  # without BCOO's padding

    def algebra(self, like: Any) -> JaxAlgebra:
        return JaxAlgebra()

    flatten = staticmethod(_functions.flatten)
    from_numpy = staticmethod(_functions.from_numpy)
    precise = staticmethod(_functions.precise)
    gradients = staticmethod(_functions.gradients)
    unused = staticmethod(_functions.unused)
    gradients_each = _functions.gradients_each
    curvature = staticmethod(_functions.curvature)


def _common_dtype(arrays: Sequence[Any]) -> Any:
    typed = [jnp.result_type(a) for a in arrays if hasattr(a, "dtype")]
    if any(jnp.issubdtype(t, jnp.complexfloating) for t in typed):
        raise ParameterError(
            "an argument is complex; expected real numbers. A complex parameter of a layer takes "
            "pairs of them: jnp.stack([value.real, value.imag], axis=-1)"
        )
    floating = [t for t in typed if jnp.issubdtype(t, jnp.floating)]
    return jnp.result_type(*floating) if floating else jnp.result_type(float)
