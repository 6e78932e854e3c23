"""The adapter: from a problem to the matrices that make programs of its parameters' values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from ffoadapt import (
    AffineOutput,
    AffineProgram,
    Modeler,
    NonnegativeCone,
    ParameterError,
    ParametricProgram,
    ProblemError,
    Structure,
)

from ._knapsack import Knapsack

__all__ = ["TemplateModeler"]


class TemplateModeler(Modeler):
    """All that does not depend on numbers is done here, once a layer."""

    def parametrize(
        self, problem: Knapsack, parameters: Sequence[str], outputs: Sequence[str]
    ) -> ParametricProgram:
        if list(parameters) != ["value", "capacity"]:
            raise ParameterError(
                f"the parameters are {list(parameters)}; expected ['value', 'capacity']"
            )
        if list(outputs) != ["fractions"]:
            raise ProblemError(f"the variables are {list(outputs)}; expected ['fractions']")
        weights = np.asarray(problem.weights, dtype=np.float64)
        n = weights.size
        m = 1 + 2 * n
        # The canonical program: minimize 1/2 x'Px + q'x, Ax + s = b, s >= 0. Each number is a row
        # of a matrix that multiplies theta = (value, capacity, 1).
        A = np.vstack([weights, np.eye(n), -np.eye(n)])
        P_map = _column(np.eye(n).ravel(), n + 2)
        q_map = sparse.csr_matrix(np.hstack([-np.eye(n), np.zeros((n, 2))]))
        A_map = _column(A.ravel(), n + 2)
        b_map = sparse.lil_matrix((m, n + 2))
        b_map[0, n] = 1.0  # the capacity
        b_map[1 : n + 1, n + 1] = 1.0  # the upper bounds
        return AffineProgram(
            Structure(n, m, (NonnegativeCone(m),)),
            [("value", (n,)), ("capacity", ())],
            {"P": P_map, "q": q_map, "A": A_map, "b": b_map.tocsr()},
            [AffineOutput("fractions", (n,), "x", sparse.eye(n, format="csr"))],
            sense=-1.0,
        )


def _column(constants: np.ndarray, width: int) -> sparse.csr_matrix:
    """The map of numbers that depend on no parameter: they multiply the last entry of theta."""
    rows = np.flatnonzero(constants)
    at = rows, np.full(rows.size, width - 1)
    return sparse.csr_matrix((constants[rows], at), shape=(constants.size, width))
