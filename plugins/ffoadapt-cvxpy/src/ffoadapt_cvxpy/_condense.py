"""Takes out the variables that cvxpy adds for squares: they only cost time.

Of |x - c|^2 cvxpy makes t't with rows t = x - c. A variable t_k that is in one row alone,

    a t_k + c_k'x = b_k,      objective: 1/2 p t_k^2 + q_k t_k,

is (b_k - c_k'x) / a there, so that without the two

    P += p/a^2 c_k c_k',    q -= (p/a^2 b_k + q_k/a) c_k,    offset += 1/2 p/a^2 b_k^2 + q_k b_k/a.

That is done where a, c_k and p do not depend on parameters, for then P, q and b stay linear in
them, and where c_k has few entries, for then P stays sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ffoadapt import AffineProgram

from ._attributes import Declared, checked

__all__ = ["CondensedProgram", "Entries", "Squares", "Tensors", "condensed"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEW = 3
"""The most entries of c_k: differences of second order have so many."""


class Entries(NamedTuple):
    """Entries of a map: its rows, of which there may be m * n or more, the columns of theta, and
    the values; those of one place add up."""

    rows: Ints
    columns: Ints
    values: Floats


class Tensors(NamedTuple):
    """The numbers of n variables and m rows, the first ``zero`` of them in zero cones.

    P (n, n) and A (m, n) as `Entries` of matrices raveled in Fortran order; q (n, width) and b
    (m, width) as CSR matrices. The last of the ``width`` columns of theta is that of constants.
    """

    n: int
    m: int
    zero: int
    width: int
    P: Entries
    q: Any
    A: Entries
    b: Any


class Squares(NamedTuple):
    """1/2 sum_k weights_k (left_k'theta)^2 + sum_k (left_k'theta) (right_k'theta)."""

    weights: Floats
    left: Any
    right: Any

    def __call__(self, theta: Floats) -> Floats:
        """Their values (B,) at theta (B, width)."""
        left, right = np.asarray(self.left @ theta.T), np.asarray(self.right @ theta.T)
        total: Floats = (left * (0.5 * self.weights[:, None] * left + right)).sum(axis=0)
        return total

    def gradient(self, theta: Floats) -> Floats:
        """That of the value, (B, width)."""
        left, right = np.asarray(self.left @ theta.T), np.asarray(self.right @ theta.T)
        slope = self.left.T @ (self.weights[:, None] * left + right) + self.right.T @ left
        return np.asarray(slope).T


@dataclass(eq=False)
class CondensedProgram(AffineProgram):
    """An `AffineProgram` whose objective has squares of parameters, too, and whose parameters
    have declared attributes."""

    squares: Squares | None = None
    attributes: Sequence[Declared] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.declares = bool(self.attributes)

    def check(
        self, values: Sequence[Floats], precision: Sequence[float] | None = None
    ) -> Sequence[Floats] | None:
        """See `ParametricProgram`."""
        return checked(self.attributes, values, precision) if self.attributes else None

    def offset(self, theta: Floats) -> Floats:
        """See `AffineProgram`."""
        offset = super().offset(theta)
        return offset if self.squares is None else offset + self.squares(theta)

    def offset_gradient(self, theta: Floats) -> Floats:
        """See `AffineProgram`."""
        slope = super().offset_gradient(theta)
        return slope if self.squares is None else slope + self.squares.gradient(theta)


def condensed(
    data: Tensors, wanted_x: Mask, wanted_z: Mask
) -> tuple[Tensors, Mask, Mask, Squares | None]:
    """The program without such variables and rows, but those that are wanted.

    Also the variables (n,) and the rows (m,) that are left, and what the objective has besides.
    """
    n, m, width = data.n, data.m, data.width
    fixed, rows_vary, columns_vary = _fixed(data)
    v, r, a = _pairs(data, fixed, wanted_x | columns_vary, wanted_z | rows_vary)
    left_x, left_z = np.ones(n, dtype=bool), np.ones(m, dtype=bool)
    if not v.size:
        return data, left_x, left_z, None
    left_x[v], left_z[r] = False, False
    c = fixed[r].multiply(left_x).tocsr()
    on = data.P.rows % n == data.P.rows // n
    p = np.bincount(data.P.rows[on] // n, data.P.values[on], minlength=n)[v]
    weights = p / a**2
    squares = Squares(weights, data.b[r], sparse.diags_array(1.0 / a) @ data.q[v])
    q = data.q - c.T @ (sparse.diags_array(weights) @ squares.left + squares.right)
    more = (c.T @ sparse.diags_array(weights) @ c).tocoo()
    places = more.row + np.int64(n) * more.col  # the product may need more than 32 bits
    added = places, np.full(more.nnz, width - 1), more.data
    P = Entries(*map(np.concatenate, zip(data.P, added, strict=True)))
    left = Tensors(
        n - v.size,
        m - r.size,
        data.zero - r.size,
        width,
        _kept(P, left_x, left_x),
        q.tocsr()[left_x],
        _kept(data.A, left_z, left_x),
        data.b[left_z],
    )
    return left, left_x, left_z, squares


def _fixed(data: Tensors) -> tuple[Any, Mask, Mask]:
    """The entries of A that are constants, (m, n), and which rows and columns have others."""
    rows, columns = data.A.rows % max(data.m, 1), data.A.rows // max(data.m, 1)
    constant = data.A.columns == data.width - 1
    at = rows[constant], columns[constant]
    fixed = sparse.csr_array((data.A.values[constant], at), shape=(data.m, data.n))
    fixed.eliminate_zeros()
    vary = [np.zeros(size, dtype=bool) for size in fixed.shape]
    vary[0][rows[~constant]] = vary[1][columns[~constant]] = True
    return fixed, *vary


def _pairs(data: Tensors, fixed: Any, kept_x: Mask, kept_z: Mask) -> tuple[Ints, Ints, Floats]:
    """Variables that can go, each with its row and its entry there."""
    n, P = data.n, data.P
    bound = kept_x.copy()
    i, j = P.rows % max(n, 1), P.rows // max(n, 1)
    other = (i != j) | (P.columns != data.width - 1)
    bound[i[other]] = bound[j[other]] = True
    by_column = fixed.tocsc()
    v = np.flatnonzero(~bound & (np.diff(by_column.indptr) == 1))
    only = by_column.indptr[v]
    r, a = by_column.indices[only].astype(np.int64), by_column.data[only]
    few = np.diff(fixed.indptr) <= FEW + 1
    good = (r < data.zero) & ~kept_z[r] & few[r]
    r, first = np.unique(r[good], return_index=True)  # one variable for each row
    return v[good][first], r, a[good][first]


def _kept(entries: Entries, rows: Mask, columns: Mask) -> Entries:
    """The entries of a matrix (rows, columns) that are left, with their new numbers."""
    i, j = entries.rows % rows.size, entries.rows // rows.size
    on = rows[i] & columns[j]
    row, column = np.cumsum(rows) - 1, np.cumsum(columns) - 1
    places = row[i[on]] + np.count_nonzero(rows) * column[j[on]]
    return Entries(places, entries.columns[on], entries.values[on])
