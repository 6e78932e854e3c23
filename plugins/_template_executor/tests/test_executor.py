"""The law of executors: element by element, what the calling thread would have found."""

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import ReferenceSolver


def solve(size: int, executor: str) -> ffoadapt.QPSolution:
    rng = np.random.default_rng(size)
    q, h = rng.standard_normal((size, 4)), rng.uniform(0.1, 1.0, (size, 3))
    G = np.random.default_rng(0).standard_normal((3, 4))
    return ffoadapt.qp(np.eye(4), q, G, h, solver=ReferenceSolver, executor=executor)


@pytest.mark.parametrize("size", [0, 1, 8, 21])
def test_equals_the_calling_thread(size: int) -> None:
    for ours, serial in zip(solve(size, "template"), solve(size, "serial"), strict=True):
        np.testing.assert_array_equal(ours, serial)


def test_failures_are_named() -> None:
    h = np.ones((20, 2))
    h[13] = -1.0  # x <= -1 and -x <= -1
    with pytest.raises(ffoadapt.SolveError, match="batch element 13"):
        G, q = np.array([[1.0], [-1.0]]), np.ones(1)
        ffoadapt.qp(np.eye(1), q, G, h, solver=ReferenceSolver, executor="template")
