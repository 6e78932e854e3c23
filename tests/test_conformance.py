"""What is built in passes its own conformance kit: NumPy, and the kit's reference solver."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ffoadapt.testing import FrameworkSuite, ReferenceSolver, SolverSuite


class TestReferenceSolver(SolverSuite):
    solver = ReferenceSolver


class TestNumpy(FrameworkSuite):
    framework = "numpy"
    dtypes = ("float32", "float64")

    def array(self, value, dtype):
        return np.array(value, dtype=dtype)

    def to_numpy(self, array):
        return np.asarray(array)

    def dtype_of(self, array):
        return array.dtype.name

    def sparse(self, rows, columns, values, shape):
        return sparse.coo_matrix((values, (rows, columns)), shape=shape).tocsc()
