"""One program as a solver sees it: canonical, or in one of the two views solvers also speak."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._cones import Cone, PSDCone, SecondOrderCone
from .._types import Floats

__all__ = ["BoxForm", "ConeForm", "ConeLayout", "SplitForm"]


CHOICES = 4
"""Of so many choices of rows `BoxForm.A_rows` remembers where they are."""


class ConeLayout:
    """Where the rows of which kind of cone are, found once for all programs with these cones."""

    def __init__(self, cones: tuple[Cone, ...]) -> None:
        self.cones = cones
        self._rows: dict[tuple[Any, ...], NDArray[np.intp] | slice] = {}

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """See `ConeForm.sizes`."""

        def of(kind: str, what: str = "dim") -> list[Any]:
            return [getattr(cone, what) for cone in self.cones if _kind(cone) == kind]

        return {
            "zero": sum(of("zero")),
            "nonnegative": sum(of("nonnegative")),
            "second_order": of("second_order"),
            "psd": of("psd", "n"),
            "exponential": len(of("exponential")),
            "power": of("power", "alpha"),
        }

    def rows(self, kinds: tuple[str, ...], psd: str) -> NDArray[np.intp] | slice:
        """See `ConeForm.rows`; not to be written to."""
        rows = self._rows.get((kinds, psd))
        if rows is None:
            rows = self._rows[kinds, psd] = self._ordered(kinds, psd)
        return rows

    def _ordered(self, kinds: tuple[str, ...], psd: str) -> NDArray[np.intp] | slice:
        starts = np.cumsum([0, *(cone.dim for cone in self.cones)])
        ranks = [kinds.index(_kind(cone)) if kinds else 0 for cone in self.cones]
        parts = [np.arange(0)]
        for k in sorted(range(len(self.cones)), key=lambda k: ranks[k]):
            rows = np.arange(starts[k], starts[k + 1])
            if psd == "upper" and isinstance(cone := self.cones[k], PSDCone):
                square = np.zeros((cone.n, cone.n), dtype=np.intp)
                square.T[np.triu_indices(cone.n)] = rows  # ours: the lower triangle by columns
                rows = square[np.tril_indices(cone.n)]  # the upper by columns is the lower by rows
            parts.append(rows)
        rows = np.concatenate(parts)
        rows.setflags(write=False)
        return slice(None) if (rows == np.arange(rows.size)).all() else rows


@dataclass(slots=True, eq=False)
class ConeForm:
    """One canonical program as a solver sees it: ndarrays or CSC matrices, P whole."""

    P: Any
    q: Floats
    A: Any
    b: Floats
    cones: tuple[Cone, ...]
    layout: ConeLayout | None = field(default=None, repr=False)

    name: ClassVar[str] = "cone"

    def sizes(self) -> dict[str, Any]:
        """The cones by kind, for a solver that wants all rows of a kind together.

        In this order: the number of ``"zero"`` and of ``"nonnegative"`` rows; the rows of each
        ``"second_order"`` cone; the n of each ``"psd"`` cone; the number of ``"exponential"``
        cones; the alpha of each ``"power"`` cone. A second-order cone of one row is nonnegative.
        """
        sizes = self._layout().sizes
        return {kind: v.copy() if isinstance(v, list) else v for kind, v in sizes.items()}

    def rows(
        self, kinds: Iterable[str] = (), psd: Literal["lower", "upper"] = "lower"
    ) -> NDArray[np.intp] | slice:
        """The rows as a solver wants them: ``A_rows(rows)``, ``b[rows]``; ``z[rows] = its_z``.

        Parameters
        ----------
        kinds
            The kinds in the order in which the solver wants their rows, such as `sizes()`; a cone
            of another kind is a ValueError. Empty leaves all cones in the program's order.
        psd
            Whether the solver stacks the lower (as here) or the upper triangle by columns.
        """
        return self._layout().rows(tuple(kinds), psd)

    def A_rows(self, rows: NDArray[np.intp] | slice) -> sparse.csc_matrix:
        """``A[rows]`` as CSC, for the ``rows`` that `rows` gives."""
        if isinstance(rows, slice) or not sparse.issparse(self.A):
            return _csc(self.A if isinstance(rows, slice) else self.A[rows])
        place = np.empty(rows.size, dtype=np.int32)
        place[rows] = np.arange(rows.size)
        A = self.A.tocsc()
        ordered = sparse.csc_matrix((A.data.copy(), place[A.indices], A.indptr), shape=A.shape)
        ordered.sort_indices()
        return ordered

    def P_upper(self) -> sparse.csc_matrix:
        """The upper triangle of P as CSC."""
        P = _csc(self.P)
        upper = P.indices <= np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
        if upper.all():
            return P
        ends = np.zeros(upper.size + 1, dtype=P.indptr.dtype)
        np.cumsum(upper, out=ends[1:])
        return sparse.csc_matrix((P.data[upper], P.indices[upper], ends[P.indptr]), shape=P.shape)

    def _layout(self) -> ConeLayout:
        if self.layout is None:
            self.layout = ConeLayout(self.cones)
        return self.layout


def _csc(matrix: Any) -> sparse.csc_matrix:
    """The matrix as CSC; itself if it is, for scipy takes its time for a copy."""
    return matrix if isinstance(matrix, sparse.csc_matrix) else sparse.csc_matrix(matrix)


def _kind(cone: Cone) -> str:
    return "nonnegative" if cone == SecondOrderCone(1) else cone.kind


@dataclass(slots=True, eq=False)
class BoxForm:
    """One program as l <= Ax <= u; infinite bounds are -inf and inf; l = u is an equality."""

    P: Any
    q: Floats
    A: Any
    l: Floats
    u: Floats
    _cholesky: Floats | None = field(default=None, init=False, repr=False)
    # The upper triangular U of U'U = P, of a dense P for which it is known: what
    # `ffoadapt.experimental.LeastDistance` saves time with. Entries below the diagonal are not set.

    name: ClassVar[str] = "box"

    def A_rows(self, on: NDArray[np.bool_], session: dict[str, Any] | None = None) -> Any:
        """``A[on]``, an ndarray or CSC as A is; scipy takes five times as long for it.

        With the ``session`` of the solver, in which A has one pattern, where the entries are is
        found once for the latest choices of rows.
        """
        A = self.A
        if isinstance(A, np.ndarray):
            return A[on]
        known = {} if session is None else session.setdefault("A_rows", {})
        key = on.tobytes()
        if key not in known:
            if len(known) >= CHOICES:
                known.clear()
            kept = on[A.indices]
            ends = np.zeros(kept.size + 1, dtype=A.indptr.dtype)
            np.cumsum(kept, out=ends[1:])
            number = np.cumsum(on, dtype=A.indices.dtype) - 1
            entries = np.flatnonzero(kept), number[A.indices[kept]], ends[A.indptr]
            shape = np.count_nonzero(on), A.shape[1]
            known[key] = entries[0], sparse.csc_matrix(entries, shape=shape)
        places, pattern = known[key]
        matrix = copy.copy(pattern)  # made without the checks of the constructor
        matrix.data = A.data[places]
        return matrix


@dataclass(slots=True, eq=False)
class SplitForm:
    """One program as Gx <= h, Ax = b; infinite entries of h are inf."""

    P: Any
    q: Floats
    G: Any
    h: Floats
    A: Any
    b: Floats

    name: ClassVar[str] = "split"
