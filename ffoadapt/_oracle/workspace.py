"""Sparse LDL' of matrices whose pattern repeats: what the pattern alone decides is done once.

To find an elimination order that keeps the factor sparse, and where its entries are, takes some
twenty times as long as the numbers do. A `Workspace` keeps that, and where numbers go. qdldl holds
the numbers of the last factorization in it, so a workspace serves one factor at a time: whoever
takes one owns it, and when the owner is gone it goes back on the shelf. Numbers do not depend on
what a workspace was used for before: an update gives bit for bit what a new factorization gives.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import qdldl
from numpy.typing import NDArray

from .._program.pattern import Pattern
from .._runtime.costs import KEPT_ENTRIES
from .._types import Floats

__all__ = ["Lease", "Shelf", "Workspace"]


@dataclass(eq=False)
class Workspace:
    """The upper triangle of K = [P C'; C -D], each column with its diagonal entry at the end.

    Attributes
    ----------
    key
        Equal exactly for equal patterns.
    n, upper
        The order of P; the pattern of the triangle.
    inner
        (entries,) the entries that are not on the diagonal: those of P, then those of C by rows.
    P_from, C_from
        Where these are among the values of P, and among those of the matrix that C is rows of
        (None: C is given by itself).
    """

    key: Hashable
    n: int
    upper: Pattern
    inner: NDArray[np.bool_]
    P_from: NDArray[np.int32]
    C_from: NDArray[np.int32] | None
    ldl: Any = None

    @classmethod
    def of(
        cls,
        key: Hashable,
        P: Pattern,
        indptr: NDArray[Any],
        columns: NDArray[Any],
        C_from: NDArray[np.int32] | None = None,
    ) -> Workspace:
        """That for the pattern of P, and C by rows: (indptr, columns)."""
        n, size = P.shape[0], P.shape[0] + indptr.size - 1
        above = P.indices < P.columns
        ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(above)))[P.indptr]
        ends = np.concatenate((ends, ends[-1] + indptr[1:])) + np.arange(size + 1)
        inner = np.ones(ends[-1], dtype=bool)
        inner[ends[1:] - 1] = False
        indices = np.empty(inner.size, dtype=np.int32)
        indices[ends[1:] - 1] = np.arange(size)
        first = ends[n]
        indices[:first][inner[:first]] = P.indices[above]
        indices[first:][inner[first:]] = columns
        P_from = np.flatnonzero(above).astype(np.int32)
        upper = Pattern((size, size), ends.astype(np.int32), indices)
        return cls(key, n, upper, inner, P_from, C_from)

    @classmethod
    def of_rows(cls, key: Hashable, P: Pattern, A: Pattern, active: NDArray[np.bool_]) -> Workspace:
        """That for the pattern of P, and the active rows (m,) of A."""
        indptr, columns, order = A.by_rows()
        lengths = np.diff(indptr)
        kept = np.repeat(active, lengths)
        ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(lengths[active])))
        return cls.of(key, P, ends, columns[kept], order[kept])

    @property
    def last(self) -> NDArray[np.int32]:
        """(size,) where the diagonal entries are."""
        return self.upper.indptr[1:] - np.int32(1)

    def filled(self, P: Floats, C: Floats) -> Floats:
        """(entries,) the triangle with these values of P, and of C by rows, and no diagonal."""
        data, first, inner = np.zeros(self.inner.size), self.upper.indptr[self.n], self.inner
        data[:first][inner[:first]] = P[self.P_from]
        data[first:][inner[first:]] = C
        return data

    def scaled(self, data: Floats, scale: Floats) -> None:
        """diag(scale) K diag(scale), in place."""
        data *= scale[self.upper.indices]
        data *= np.repeat(scale, self._counts)

    def largest(self, magnitudes: Floats) -> Floats:
        """(size,) the largest entry of each row of the whole matrix."""
        sizes: Floats = np.maximum.reduceat(magnitudes, self.upper.indptr[:-1])
        np.maximum.at(sizes, self.upper.indices, magnitudes)
        return sizes

    def below(self, data: Floats) -> tuple[Any, Any]:
        """The columns right of P, C' and the diagonal under it, and their transpose; not copied."""
        pattern, first = self._below, self.upper.indptr[self.n]
        return pattern.matrix(data[first:]), pattern.transposed(data[first:])

    @cached_property
    def _counts(self) -> NDArray[np.int32]:
        """(size,) how many entries each column has."""
        return np.diff(self.upper.indptr)

    @cached_property
    def _below(self) -> Pattern:
        first, indptr = self.upper.indptr[self.n], self.upper.indptr[self.n :]
        shape = (self.upper.shape[0], indptr.size - 1)
        return Pattern(shape, indptr - first, self.upper.indices[first:])


class _Ticket(weakref.ref[Any]):
    """A workspace that is lent to somebody."""

    space: Workspace


class Shelf:
    """Idle workspaces by key, for any number of threads; the latest used, within `KEPT_ENTRIES`."""

    def __init__(self) -> None:
        self._shelved: OrderedDict[Hashable, list[Workspace]] = OrderedDict()
        self._entries = 0
        self._lent: dict[int, _Ticket] = {}
        self._back: deque[_Ticket] = deque()
        self._lock = threading.RLock()  # taken again by what comes back while one is taken

    def take(self, key: Hashable, make: Callable[[], Workspace]) -> Workspace:
        """A workspace with this key that nobody else has."""
        with self._lock:
            idle = self._idle.pop(key, None)
            if idle:
                space = idle.pop()
                self._entries -= space.inner.size
                if idle:
                    self._idle.setdefault(key, []).extend(idle)
                return space
        return make()

    def lend(self, space: Workspace, holder: Any) -> None:
        """Have it back, by the next time that anybody takes one, once there is no holder.

        Not by a ``__del__``: where a user interrupts in one, Python says so and goes on.
        """
        ticket = _Ticket(holder, self._back.append)
        ticket.space = space
        self._lent[id(ticket)] = ticket

    @property
    def _idle(self) -> OrderedDict[Hashable, list[Workspace]]:
        """What is on the shelf, with what came back since the last look."""
        while self._back:
            try:
                ticket = self._back.popleft()
            except IndexError:  # another thread was faster
                break
            self.give(self._lent.pop(id(ticket)).space)
        return self._shelved

    def give(self, space: Workspace) -> None:
        """Back on the shelf; what was not used for longest goes where there is no room."""
        idle = self._shelved
        with self._lock:
            idle.setdefault(space.key, []).append(space)
            idle.move_to_end(space.key)
            self._entries += space.inner.size
            while self._entries > KEPT_ENTRIES:
                key, oldest = idle.popitem(last=False)
                if oldest[0] is not space:
                    self._entries -= oldest.pop(0).inner.size
                if oldest:
                    idle.setdefault(key, []).extend(oldest)
                    idle.move_to_end(key, last=False)
                if oldest[:1] == [space]:
                    break


_shelf = Shelf()


class Lease:
    """A workspace and the factor in it, for as long as somebody holds this."""

    def __init__(self, key: Hashable, make: Callable[[], Workspace]) -> None:
        self.space = _shelf.take(key, make)
        _shelf.lend(self.space, self)

    def factorize(self, data: Floats, afresh: bool = False) -> None:
        """LDL' of the triangle with this data; raises `RuntimeError` where there is none.

        An update of the numbers says nothing where there is none, so its solutions are to be
        checked; ``afresh`` does not rely on one.
        """
        matrix = self.space.upper.matrix(data)
        if self.space.ldl is None or afresh:
            self.space.ldl = qdldl.Solver(matrix, upper=True)
        else:
            self.space.ldl.update(matrix, upper=True)

    def pivots(self) -> Floats:
        """The diagonal of D; where an update found a zero pivot, that is in it."""
        return np.asarray(self.space.ldl.factors()[1])

    def solve(self, right: Floats) -> Floats:
        """The solution of the factorized system."""
        solution: Floats = self.space.ldl.solve(right)
        return solution
