"""Linear maps that skip the sparse product where a matrix only moves numbers."""

import numpy as np
import pytest
from scipy import sparse

from ffoadapt._program.linear import LinearMap

MATRICES = {
    "all": np.eye(5),
    "consecutive": np.eye(5)[1:4],
    "permuted": np.eye(5)[[3, 0, 4, 1]],
    "weighted": -2.0 * np.eye(5)[[2, 2]],
    "empty rows": np.diag([1.0, 0.0, 1.0, 0.0, 0.5]),
    "nothing": np.zeros((3, 5)),
    "no rows": np.zeros((0, 5)),
    "sums": np.arange(20.0).reshape(4, 5),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("lead", [(1,), (3,), (2, 3)])
def test_times_a_matrix(name: str, lead: tuple[int, ...]) -> None:
    matrix = MATRICES[name]
    v = np.random.default_rng(0).standard_normal((*lead, 5))
    kept = v.copy()
    found = LinearMap(sparse.csr_matrix(matrix))(v)
    np.testing.assert_allclose(found, v @ matrix.T, atol=1e-14)
    found += 1.0  # an array of its own
    np.testing.assert_array_equal(v, kept)


@pytest.mark.parametrize("name", MATRICES)
def test_an_element_gives_the_same_alone(name: str) -> None:
    linear = LinearMap(sparse.csr_matrix(MATRICES[name]))
    v = np.random.default_rng(1).standard_normal((4, 5))
    np.testing.assert_array_equal(linear(v)[2:3], linear(v[2:3]))
