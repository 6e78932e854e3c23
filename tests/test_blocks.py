"""Products of ghost rows with a sparse A, against the same by dense matrices."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from ffoadapt._program.blocks import ConeEntries, RowEntries, joined
from ffoadapt._program.pattern import Pattern

N = 9


def matrix(rows: int, density: float) -> sparse.csc_matrix:
    rng = np.random.default_rng([rows, int(10 * density)])
    return sparse.csc_matrix(sparse.random(rows, N, density, random_state=rng, format="csc"))


def dense(found) -> np.ndarray:
    return sparse.csr_matrix(
        (found.data, found.columns, found.indptr), shape=(found.lengths.size, N)
    ).toarray()


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize(("count", "dim", "k"), [(5, 3, 1), (4, 3, 3), (2, 6, 5), (1, 10, 7)])
def test_combinations_of_the_rows_of_cones(count: int, dim: int, k: int, density: float) -> None:
    rng = np.random.default_rng([count, k])
    A = matrix(2 + count * dim, density)
    pattern, values = Pattern.of(A)
    cones = ConeEntries.of(RowEntries.of(pattern), 2, count, dim)
    weights, on = rng.standard_normal((count, k, dim)), rng.random((count, k)) < 0.7
    blocks = A.toarray()[2:].reshape(count, dim, N)
    found = cones.combined(weights, on, values)
    np.testing.assert_allclose(dense(found), (weights @ blocks)[on], atol=1e-14)
    ends = found.indptr
    for start, end in itertools.pairwise(ends):
        assert (np.diff(found.columns[start:end]) > 0).all()


def test_single_rows_and_rows_one_after_the_other() -> None:
    A = matrix(7, 0.4)
    pattern, values = Pattern.of(A)
    entries = RowEntries.of(pattern)
    at, none = np.array([5, 1, 6]), np.array([], dtype=int)
    factors = np.array([2.0, -1.0, 0.5])
    parts = [
        entries.rows(at, values, factors),
        entries.rows(none, values),
        entries.rows(at, values),
    ]
    expected = np.concatenate((A.toarray()[at] * factors[:, None], A.toarray()[at]))
    np.testing.assert_array_equal(dense(joined(parts)), expected)
