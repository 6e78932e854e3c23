"""The ghost KKT system of one element by sparse LDL'.

    [ P     (GA)'  (RA)'     ]
    [ GA     0      0        ]   equilibrated (Ruiz), regularized by +eps / -eps so that LDL' exists
    [ RA     0   -diag(sigma)]   for any order, then refined against the unregularized matrix K.

Refinement with a regularized factor is the proximal point method. From 0 it converges to the
solution of least norm, also where K is singular (dependent rows, a solution that is not unique).
Where K w = v has no solution, its residual converges to the part of v in the null space of K; with
that part taken off v, it converges to the least-squares solution. All in equilibrated units.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _kernel
from .._program.batch import ProgramBatch
from .._program.blocks import joined
from .._program.pattern import Pattern, digest
from .._runtime.lazy import lazy
from .._types import Floats
from .dense import deficient
from .rows import ElementRows
from .workspace import Lease, Workspace

__all__ = ["SparseFactor"]


REGULARIZATION = (1e-8, 1e-6, 1e-4)
"""Tried in this order, relative to the equilibrated entries, until LDL' exists."""

TARGET = 1e-13
"""Relative residual at which refinement ends."""

ROUGH = 1e-9
"""Relative residual at which it ends for an estimate, and above which there may be no solution."""

MORE = 2
"""Refinement steps beyond that, where one block of the residual is not small beside its terms."""

SINGULAR = 1e-7
"""A share of a random right-hand side above this that no solution explains is a null space."""

PROVEN = 1e-10
"""A vector of which the equilibrated matrix leaves no more than this share is in its null space."""

PROVABLE = 1000
"""So many rows or variables in it, at most, are looked at by themselves."""

SHARPER = 3
"""Solves at most to make a vector of the null space one of nothing else."""

ROUNDS = 60
"""Refinement steps at most."""

BORROWED = 1e-12
"""Where a nearby factor leaves more than this relative residual, the system gets its own."""

NEAR = 2.0
"""Equilibration ends where the largest entries of all rows are within this factor of 1."""

PART = 1e-5
"""A random right-hand side with no entry below this share of its size leaves no null space out."""

APART = 1e3
"""Parts of a right-hand side whose sizes differ by more than this are solved for one by one."""


class SparseFactor:
    """A factorization that serves any number of right-hand sides; attributes as `DenseFactor`.

    ``near`` is the factorization of a nearby system. Where the pattern is the same, refinement with
    its factor solves this one too; only where that fails is there another factorization.
    """

    def __init__(
        self,
        batch: ProgramBatch,
        i: int,
        rows: ElementRows,
        smoothing: float = 0.0,
        near: SparseFactor | None = None,
    ) -> None:
        structure = batch.structure
        P, A = structure.P, structure.A
        assert P is not None and A is not None
        self.rows, self.n, self.m = rows, structure.n, structure.m
        P_values, A_values = (v[i if len(v) > 1 else 0] for v in (batch.P, batch.A))
        sigma = _NONE
        if rows.curved:
            GA, RA, sigma = rows.times_sparse(structure, A_values)
            self.active = GA.lengths.size
            C = joined([GA, RA])
            indptr = C.indptr
            self._key: Any = P.key, digest(indptr, C.columns)
            self._make = partial(Workspace.of, self._key, P, indptr, C.columns)
        else:
            self.active = rows.unit.size
            self._key = P.key, A.key, np.packbits(rows.active).tobytes()
            self._make = partial(_chosen, self._key, P, A, rows.active)
        self._lease: Lease
        self._borrowed = near is not None and near._key == self._key
        self._lease = near._lease if near and self._borrowed else Lease(self._key, self._make)
        space = self._lease.space
        C_values = C.data if rows.curved else A_values[space.C_from]
        # A sigma of -1 (a cone's concave direction) makes a positive pivot.
        below = -np.ones(self.active), np.where(sigma < 0, 1.0, -1.0)
        self._signs = np.concatenate((np.ones(self.n), *below))
        self._D = np.zeros(self._signs.size)
        self._D[: self.n] = smoothing
        self._D[self.n + self.active :] = -sigma
        diagonal = self._D.copy()
        diagonal[P.indices[P.diagonal]] += P_values[P.diagonal]
        self._data = space.filled(P_values, C_values)
        if near and self._borrowed:
            self.scale: Floats = near.scale
        else:
            self.scale = _equilibrate(space, self._data, diagonal, _units(P_values, C_values))
        space.scaled(self._data, self.scale)
        self._diagonal = diagonal * self.scale**2
        self._D *= self.scale**2
        self._P = batch.matrix("P", i)
        self._below, self._below_transposed = space.below(self._data)
        self._sure = False
        if not self._borrowed:
            self._factorize()

    def solve(
        self, v_x: Floats, v_z: Floats, refine: bool = True, random: bool = False
    ) -> tuple[Floats, Floats, Floats]:
        """As `DenseFactor.solve`; without ``refine`` as far as an estimate needs it.

        Where the cotangents are ``random`` and have a solution, there is no null space to look for.
        """
        columns, target = v_x.shape[1], TARGET if refine else ROUGH
        w = np.empty_like(v_x)
        zeta = np.empty((self.m, columns))
        residual = np.empty(columns)
        for j in range(columns):
            below = [self.rows.G(v_z[:, j])]
            if self.rows.curved:
                below.append(self.rows.R(v_z[:, j]))
            v = self.scale * np.concatenate((v_x[:, j], *below))
            y, residual[j] = self._refined(v, target)
            if residual[j] > max(target, BORROWED) and not self._sure:
                self._factorize(afresh=True)
                y, residual[j] = self._refined(v, target)
            if random and residual[j] <= ROUGH and np.abs(v).min() >= PART * _norm(v):
                self._null = 0.0, 0.0, np.zeros_like(v)
            y *= self.scale
            w[:, j] = y[: self.n]
            zeta[:, j] = self.rows.G_transpose(y[self.n : self.n + self.active], self.m)
            if self.rows.curved:
                zeta[:, j] += self.rows.R_transpose(y[self.n + self.active :], self.m)
        return w, zeta, residual

    def _factorize(self, afresh: bool = False) -> None:
        """LDL' of this very matrix, in a workspace of its own.

        Once there is a factor, another thread may be solving with it: nothing that it reads moves.
        """
        lease = Lease(self._key, self._make) if self._borrowed else self._lease
        data, last, failure = self._data.copy(), lease.space.last, None
        for shift in REGULARIZATION:
            data[last] = self._diagonal + shift * self._signs
            try:
                lease.factorize(data, afresh)
                break
            except RuntimeError as error:
                failure = error
        else:
            assert failure is not None
            raise failure
        self._lease, self._borrowed, self._sure = lease, False, afresh

    def _times(self, y: Floats) -> Floats:
        """The equilibrated matrix times y."""
        n, d = self.n, self.scale[: self.n]
        found: Floats = self._D * y
        found += self._below @ y[n:]
        found[:n] += d * (self._P @ (d * y[:n]))
        found[n:] += self._below_transposed @ y
        return found

    def null(self) -> tuple[Floats, Floats]:
        """(w, zeta) of a random vector of the null space of the ghost KKT matrix."""
        y = self.scale * self._null_vector
        mu, rho = y[self.n : self.n + self.active], y[self.n + self.active :]
        zeta = self.rows.G_transpose(mu, self.m)
        if self.rows.curved:
            zeta += self.rows.R_transpose(rho, self.m)
        return y[: self.n], zeta

    @lazy
    def _null(self) -> tuple[float, float, Floats]:
        """A random vector's share of the null space, and the sizes of its x and its row part."""
        probe = np.zeros(self._signs.size)
        probe[: self.n + self.active] = _random(self.n + self.active)
        size = _norm(probe)
        _, r, error = self._iterate(probe, size, SINGULAR)
        if error <= SINGULAR:
            return 0.0, 0.0, np.zeros_like(r)
        return _norm(r[: self.n]) / size, _norm(r[self.n :]) / size, r

    def proven(self) -> tuple[bool, bool]:
        """Whether there is such a null space in earnest: what is nearly one may be badly scaled."""
        r, n, d = self._null_vector, self.n, self.scale[: self.n]
        if not _norm(self._times(r)) <= PROVEN * _norm(r):
            return False, False
        # That a system with curvature leaves nothing of it is not enough: of rows that differ by
        # 1e-8 it leaves 1e-16. So look at those that take part.
        dependent, free = bool(self.dependent), bool(self.free)
        large = np.abs(r) > PART * np.abs(r).max(initial=0.0)
        rows, columns = n + np.flatnonzero(large[n:]), np.flatnonzero(large[:n])
        C = self._below_transposed.tocsr()
        if dependent and rows.size <= PROVABLE:
            some = C[rows - n][:, :n].tocsc()
            filled = np.flatnonzero(np.diff(some.indptr))
            dependent = filled.size > PROVABLE or deficient(some[:, filled].toarray())
        if free and columns.size <= PROVABLE:
            scaled = sparse.diags_array(d) @ self._P[:, columns] @ sparse.diags_array(d[columns])
            some = sparse.vstack((scaled, C[:, columns]), "csr")
            some = some[np.diff(some.indptr) > 0]
            free = some.shape[0] > PROVABLE or deficient(some.toarray().T)
        return dependent, free

    @lazy
    def _null_vector(self) -> Floats:
        """The random vector of the null space without what refinement has left of others in it."""
        r = self._null[2]
        for _ in range(SHARPER):
            rest = self._times(r)
            size = _norm(rest)
            if size <= TARGET * _norm(r):
                break
            r = r - self._iterate(rest, size, TARGET)[0]
        return r

    @property
    def dependent(self) -> int:
        """1 if active rows depend on others: a lower bound of how many."""
        return int(self._null[1] > SINGULAR)

    @property
    def free(self) -> int:
        """1 if x is not determined in some direction: a lower bound of how many."""
        return int(self._null[0] > SINGULAR)

    def _refined(self, v: Floats, target: float) -> tuple[Floats, float]:
        """The solution and its residual relative to v, which is that of least squares.

        The x part and the row part of v have units of their own, and equilibration need not bring
        them to one size: a part that would be rounding beside the other is solved for by itself.
        """
        above, below = v.copy(), v.copy()
        above[self.n :] = below[: self.n] = 0.0
        sizes = _norm(above), _norm(below)
        if max(sizes) > APART * min(sizes) > 0.0:
            parts = (above, sizes[0]), (below, sizes[1])
            (y, error), (more, rest) = (self._least(*part, target) for part in parts)
            return y + more, max(error, rest)
        return self._least(v, float(np.hypot(*sizes)), target)

    def _least(self, v: Floats, size: float, target: float) -> tuple[Floats, float]:
        if size == 0.0:
            return np.zeros_like(v), 0.0
        y, r, error = self._iterate(v, size, target)
        if error <= ROUGH:
            return y, error
        # No solution, or a very slow one: what does not go away is (nearly) in the null space.
        y, _, rest = self._iterate(v - r, size, target)
        return (y, max(error, rest)) if np.isfinite(y).all() else (np.zeros_like(v), 1.0)

    def _iterate(self, v: Floats, size: float, target: float) -> tuple[Floats, Floats, float]:
        y = np.zeros_like(v)
        r, error = v, _norm(v) / size
        slow, more = 0, MORE if target <= TARGET else 0
        for _ in range(ROUNDS):
            if slow > 5:
                break
            if error <= target:
                if not more or self._even(v, y, r):
                    break
                more -= 1
            candidate = y + self._lease.solve(r)
            rest = v - self._times(candidate)
            found = _norm(rest) / size
            if not found < max(error, TARGET):
                break
            slow = slow + 1 if found > 0.9 * error else 0
            y, r, error = candidate, rest, found
        return y, r, error

    def _even(self, v: Floats, y: Floats, r: Floats) -> bool:
        """Whether both blocks of the residual r are small beside their own terms.

        At the vertex of a linear program w should be 0, and is all rounding beside mu at first.
        """
        n = self.n
        x, mu = _norm(y[:n]), _norm(y[n:])
        upper, lower = _norm(v[:n]) + x + mu, _norm(v[n:]) + x
        return _norm(r[:n]) <= TARGET * upper and _norm(r[n:]) <= TARGET * lower


def _norm(v: Floats) -> float:
    """Without BLAS, whose threads cost more than they save on long vectors."""
    return float(np.sqrt(np.square(v).sum()))


@lru_cache(maxsize=16)
def _random(size: int) -> Floats:
    values = np.random.default_rng(0).standard_normal(size)
    values.setflags(write=False)
    return values


_NONE: Floats = np.zeros(0)


def _chosen(key: Any, P: Pattern, A: Pattern, active: NDArray[np.bool_]) -> Workspace:
    """The workspace for C = these rows of A."""
    indptr, columns, order = A.by_rows()
    lengths = np.diff(indptr)
    kept = np.repeat(active, lengths)
    ends = np.concatenate((np.zeros(1, np.intp), np.cumsum(lengths[active])))
    return Workspace.of(key, P, ends, columns[kept], order[kept])


def _units(P: Floats, C: Floats) -> tuple[float, float]:
    """Units of x and of the rows in which P, and then C, have size 1."""
    curvature, steepness = (float(np.abs(v).max(initial=0.0)) for v in (P, C))
    x = 1.0 / np.sqrt(curvature) if curvature > 0.0 else 1.0
    return x, 1.0 / (steepness * x) if steepness > 0.0 else 1.0


def _equilibrate(
    space: Workspace, data: Floats, diagonal: Floats, units: tuple[float, float], rounds: int = 10
) -> Floats:
    """Symmetric Ruiz scaling d with the rows of diag(d) |K| diag(d) of largest entry near 1.

    It starts from `_units`. Without these the rows alone could make every largest entry 1, and P,
    in far smaller units, would drown in the regularization. Powers of 2, which scale without
    rounding: the largest entries are within a factor of 4 of 1.
    """
    scale = np.repeat(units, (space.n, diagonal.size - space.n))
    magnitudes = np.abs(data)
    magnitudes[space.last] = np.abs(diagonal)
    space.scaled(magnitudes, scale)
    if _kernel.kernel is not None:
        upper = space.upper.indptr, space.upper.indices
        _kernel.kernel.equilibrate(rounds, NEAR, *upper, magnitudes, scale)
    else:
        _even_out(space, magnitudes, scale, rounds)
    found: Floats = np.exp2(np.round(np.log2(scale)))
    return found


def _even_out(space: Workspace, magnitudes: Floats, scale: Floats, rounds: int) -> None:
    """What compiled code does in `_equilibrate`: both arrays are changed."""
    for _ in range(rounds):
        largest = space.largest(magnitudes)
        largest[largest == 0.0] = 1.0
        if largest.min() >= 1.0 / NEAR and largest.max() <= NEAR:
            break
        factor = 1.0 / np.sqrt(largest)
        space.scaled(magnitudes, factor)
        scale *= factor
