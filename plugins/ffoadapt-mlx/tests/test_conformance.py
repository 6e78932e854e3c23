"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

import numpy as np
import pytest

from ffoadapt.testing import FrameworkSuite

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'mlx[cpu]'")


class TestMlx(FrameworkSuite):
    framework = "mlx"

    @pytest.fixture(autouse=True)
    def _float64(self):
        with mx.stream(mx.cpu):
            yield

    def array(self, value, dtype):
        return mx.array(value, dtype=getattr(mx, dtype))

    def to_numpy(self, array):
        return np.array(array)

    def gradient(self, function, arrays):
        found = mx.grad(function, list(range(len(arrays))))(*arrays)
        return found if len(arrays) > 1 else [found]
