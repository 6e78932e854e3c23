"""The conformance kit of ffoadapt on this plugin, outside of jit and inside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from ffoadapt.testing import FrameworkSuite


class TestJax(FrameworkSuite):
    framework = "jax"
    devices = ("cpu",)

    @pytest.fixture(autouse=True)
    def _float64(self):
        with jax.enable_x64(True):
            yield

    def array(self, value, dtype):
        return jnp.asarray(value, dtype=dtype)

    def to_numpy(self, array):
        return np.asarray(array)

    def gradient(self, function, arrays):
        return jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)

    def sparse(self, rows, columns, values, shape):
        return BCOO((values, np.stack([rows, columns], axis=1)), shape=shape)

    def dtype_of(self, array):
        return array.dtype.name

    def to_device(self, array, device):
        return jax.device_put(array, jax.devices(device)[0])


class TestJaxJitted(TestJax):
    """The same gradients where JAX traces; exceptions of a callback are JAX's there."""

    waive = {
        "test_sparse": "under jit the indices of a BCOO matrix are traced, the pattern is unknown"
    }

    def gradient(self, function, arrays):
        return jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
