"""Derivatives of solutions: cotangents to gradients (vjp), tangents to tangents (jvp).

At solutions (x, z) of a batch, with w and zeta from the ghost problem (design: section 3),

    vjp:  q_bar = -w    b_bar = zeta    A_bar = -(z w' + zeta x')    P_bar = -1/2 (w x' + x w')
    jvp:  (dx, dz) = the ghost solution for v_x = -(dP x + dq + dA'z),  v_z = db - dA x

and a cotangent on s = b - Ax folds in first: v_x -= A'v_s, zeta += v_s. A_bar and P_bar are formed
only when asked for, on the pattern where there is one, and once where the batch shares the datum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _kernel
from .._program.batch import ProgramBatch
from .._program.pattern import Pattern
from .._program.points import Points
from .._runtime import threads
from .._runtime.lazy import lazy
from .._runtime.memory import empty
from .._types import Floats
from .acceptance import Violations, violations
from .active_set import KINK, Degenerate, GhostBatch, Scales, at_kinks, linearize, scales, unit_rows
from .batched import BatchedFactor, Lent, Measures, covers, products
from .certificate import Certificate, examine, moving, probe
from .dense import DenseFactor
from .faces import Faces, faces_at, harmless, weak_rows
from .lapack import SHORT
from .report import INACCURATE, SHIFT, Evidence, Reports, Residuals, kkt_residuals, row_margins
from .rows import ElementRows
from .sparse import SparseFactor

__all__ = ["Adjoint", "Oracle"]


class View(Protocol):
    """What who asks sees of the programs; see `_visibility`."""

    def blind(self, oracle: Oracle) -> bool:
        """Whether nobody sees what the ghost problem of a single element leaves open."""

    def quiet(self, oracle: Oracle, i: int, doubtful: NDArray[np.bool_]) -> bool:
        """Whether nothing shows of what is weakly active in the ``doubtful`` rows (m,)."""


class Adjoint(Mapping[str, Floats]):
    """The gradient of a batch as vectors; matrices are formed when asked for by name.

    ``adjoint["P"]``, ``["q"]``, ``["A"]``, ``["b"]`` have the shape of that datum in the batch:
    the leading axis is B, or 1 with the sum over the batch where the batch shares the datum.
    Axes before the batch axis are further cotangents.
    """

    def __init__(self, batch: ProgramBatch, points: Points, w: Floats, zeta: Floats) -> None:
        self.batch = batch
        self.x, self.z = points.x, points.z
        self.w, self.zeta = w, zeta

    def __getitem__(self, name: str) -> Floats:
        batch, structure = self.batch, self.batch.structure
        if name == "q":
            return reduce_batch(-self.w, batch.q.shape[0])
        if name == "b":
            return reduce_batch(self.zeta, batch.b.shape[0])
        if name == "A":
            return self.matrix(structure.A, batch.A.shape[0], self.z, self.zeta)
        if name == "P":
            return self.matrix(structure.P, batch.P.shape[0], self.x, self.w, -0.5)
        raise KeyError(name)

    def matrix(
        self, pattern: Pattern | None, lead: int, z: Floats, zeta: Floats, sign: float = -1.0
    ) -> Floats:
        """sign * (z w' + zeta x'): the gradient of any stacking of rows with multipliers z."""
        shape = self.w.shape[:-1]
        shared = lead == 1 and shape[-1] != 1
        if pattern is not None:
            return self._on_pattern(pattern, shared, z, zeta, sign)
        if not shared and (found := products(sign, z, zeta, self.w, self.x)) is not None:
            return found
        left, right = np.empty((*shape, z.shape[-1], 2)), self._right
        left[..., 0], left[..., 1] = z, zeta
        left *= sign
        if not shared:
            return np.matmul(left, right, out=empty(*left.shape[:-1], right.shape[-1]))
        left = np.moveaxis(left, -3, -2).reshape(*shape[:-1], z.shape[-1], 2 * shape[-1])
        right = right.reshape(*shape[:-1], 2 * shape[-1], right.shape[-1])
        return (left @ right)[..., None, :, :]

    @lazy
    def _right(self) -> Floats:
        """(..., B, 2, n) the vectors w and x."""
        right = np.empty((*self.w.shape[:-1], 2, self.w.shape[-1]))
        right[..., 0, :], right[..., 1, :] = self.w, self.x
        return right

    def _on_pattern(
        self, pattern: Pattern, shared: bool, z: Floats, zeta: Floats, sign: float
    ) -> Floats:
        """The entries of `matrix` on the pattern, without the rest."""
        *lead, size = self.w.shape[:-1]
        if _kernel.kernel is not None and pattern.nnz:
            values = np.empty((*lead, 1 if shared else size, pattern.nnz))
            at = z.shape[-1], self.w.shape[-1], size if shared else 1, sign
            vectors = map(np.ascontiguousarray, (z, zeta, self.w, self.x))
            _kernel.kernel.entries(*at, pattern.indptr, pattern.indices, *vectors, values)
            return values
        values = np.zeros((*lead, 1 if shared else size, pattern.nnz))
        for entries, columns in pattern.blocks():
            rows = pattern.indices[entries]
            counts = np.diff(pattern.indptr[columns.start : columns.stop + 1])
            for i in range(size):
                z_i, zeta_i = z[..., i, rows], zeta[..., i, rows]
                w_i, x_i = self.w[..., i, columns], self.x[..., i, columns]
                part = z_i * np.repeat(w_i, counts, axis=-1)
                part += zeta_i * np.repeat(x_i, counts, axis=-1)
                values[..., 0 if shared else i, entries] += sign * part
        return values

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(("P", "q", "A", "b"))

    def __len__(self) -> int:
        return 4


class Oracle:
    """Derivatives at the points of a batch. Factorizes at first use, once; safe to share.

    Elements whose status is not solved get zero gradient: their points are NaN and nothing flows.
    """

    def __init__(self, batch: ProgramBatch, points: Points) -> None:
        self.batch = batch
        self.solved = points.solved
        self._all_solved = np.count_nonzero(self.solved) == self.solved.size
        if not self._all_solved:
            keep = self.solved[:, None]
            x, s, z = (np.where(keep, v, 0.0) for v in (points.x, points.s, points.z))
            # Those that are solved are measured as they would be alone.
            points = replace(points, x=x, s=s, z=z)
        self.points = points
        self.degenerate: Degenerate = "auto"
        self.smoothing = 0.0
        self.unmet: Floats | None = None
        """(B,) what the program as the user stated it lacks of this one, beside its rows."""
        self.hidden = False
        self._faces: dict[tuple[int, bytes], Faces] = {}
        self._factors: dict[int, DenseFactor | SparseFactor] = {}
        self._near: Mapping[int, SparseFactor | Lent] = {}
        self._residuals: Floats | None = None  # (B,) of the last solve
        self._response: tuple[Floats, Floats] | None = None  # to `_probe`

    def __getstate__(self) -> dict[str, Any]:
        """Without factors that live in compiled code: these are made again when they are needed."""
        kept = {name: v for name, v in self.__dict__.items() if name != "_batched"}
        for name in ("_factors", "_near"):
            factors = kept[name].items()
            kept[name] = {i: one for i, one in factors if not isinstance(one, SparseFactor)}
        return kept

    def choosing(self, degenerate: Degenerate, smoothing: float, hidden: bool = False) -> Oracle:
        """The oracle here with these choices, see `SolveSettings`; itself if it has them.

        Where variables or rows are ``hidden`` from who asks, weakly active rows are in doubt: see
        `faces`.
        """
        hidden = hidden and not np.minimum.reduce(self._margins, initial=np.inf) >= KINK
        if (degenerate, smoothing, hidden) == (self.degenerate, self.smoothing, self.hidden):
            return self
        other = Oracle(self.batch, self.points)
        other.degenerate, other.smoothing, other.hidden = degenerate, smoothing, hidden
        other.unmet = self.unmet
        return other

    @lazy
    def ghost(self) -> GhostBatch:
        """The active sets and curvatures."""
        batch, points, how, decided = self.batch, self.points, self.degenerate, None
        if self._measures is not None and batch.structure.polyhedral:
            ghost = unit_rows(batch, self._measures.active, points.z)
        else:
            ghost = linearize(batch, points.s, points.z, self.scales, how)
        if self.hidden:
            ghost, decided = self._decided(ghost)
        if how == "auto":
            return ghost
        return at_kinks(ghost, batch, points.s, points.z, self.scales, how, decided)

    def _decided(self, ghost: GhostBatch) -> tuple[GhostBatch, NDArray[np.bool_] | None]:
        """The ghost rows with those that are weakly active only because of where on a face the
        point is as in its interior, and which these are, where that could matter."""
        points = self.points
        weak = weak_rows(self.batch, points.s, points.z, self.scales)
        weak[~self.solved] = False
        doubt = weak.any(axis=-1) & ~harmless(self.batch, ghost.active, weak)
        if not doubt.any():
            return ghost, None
        active, decided = ghost.active.copy(), np.zeros_like(weak)
        for i in np.flatnonzero(doubt).tolist():
            faces = self.faces(i, weak[i], ghost)
            active[i] = (active[i] & ~faces.inactive) | faces.active
            decided[i] = faces.inactive | faces.active
        return replace(ghost, active=active), decided

    def faces(self, i: int, doubtful: NDArray[np.bool_], ghost: GhostBatch | None = None) -> Faces:
        """The ``doubtful`` rows (m,) of element ``i`` as they are inside of the faces."""
        key = i, doubtful.tobytes()
        found = self._faces.get(key)
        if found is None:
            points, scale = self.points, self.scales
            s, z = scale.slack(points.s)[i], scale.dual(points.z)[i]
            unsure = doubtful & (np.maximum(s, z) >= KINK)
            at = self.batch, i, ghost or self.ghost, doubtful, s, z, unsure
            found = self._faces[key] = faces_at(*at, self.measured.kkt.item(i))
        return found

    def alone(self, i: int) -> Oracle:
        """The oracle of element ``i`` alone."""
        if self.batch.size == 1:
            other = Oracle(self.batch, self.points)
            other.__dict__.update(self.__dict__)
            return other  # whose solves do not count for the report
        p, part = self.points, slice(i, i + 1)
        status, info = p.status[part], p.info[part]
        points = Points(p.x[part], p.s[part], p.z[part], status, info, p.exact, p.paired)
        other = Oracle(self.batch.take(part), points)
        other.degenerate, other.smoothing = self.degenerate, self.smoothing
        other.hidden = self.hidden
        return other

    def holding(self, active: NDArray[np.bool_]) -> Oracle:
        """The oracle here with other active rows (B, m), of nonnegative cones."""
        other = Oracle(self.batch, self.points)
        other.smoothing = self.smoothing
        weight = self.ghost.weight
        if weight.size:
            weight = np.where(self.batch.structure.nonnegative, 0.0, weight)
        other.ghost = replace(self.ghost, active=active, weight=weight)
        return other

    @lazy
    def _measures(self) -> Measures | None:
        """What compiled code says of the points, where it knows such programs."""
        return Measures.of(self.batch, self.points) if covers(self.batch.structure) else None

    @lazy
    def measured(self) -> Residuals:
        """How far the points are from the optimality conditions."""
        if self._measures is not None:
            return self._measures.residuals
        return kkt_residuals(self.batch, self.points, self.scales)

    @lazy
    def violations(self) -> Violations:
        """How far they are, beside the data."""
        if self._measures is not None:
            return self._measures.violations
        return violations(self.batch, self.points, self.scales)

    @property
    def beyond_doubt(self) -> bool:
        """Whether compiled code has found all points optimal, and their programs near one."""
        return self._measures is not None and self._measures.beyond_doubt

    @property
    def near_one(self) -> NDArray[np.bool_]:
        """(B,) see `ProgramBatch.near_one`."""
        return self.batch.near_one if self._measures is None else self._measures.near_one

    @property
    def all_near_one(self) -> bool:
        """Whether all are."""
        if self._measures is not None:
            return self._measures.all_near_one
        return bool(self.batch.near_one.all())

    @property
    def floor(self) -> Residuals:
        """Residuals at most as large as those `measured`, and sooner known."""
        return self.measured if self._measures is None else self._measures.floor

    @lazy
    def _margins(self) -> Floats:
        if self._measures is not None:
            return self._measures.margins
        return row_margins(self.batch, self.points, self.scales)

    @lazy
    def scales(self) -> Scales:
        """The sizes of slacks and multipliers."""
        if self._measures is not None:
            return self._measures.scales
        return scales(self.batch, self.points.x, self.points.z)

    def vjp(
        self,
        v_x: Floats | None,
        v_s: Floats | None,
        v_z: Floats | None,
        watched: bool = False,
    ) -> Adjoint:
        """Cotangents on x (..., B, n), s and z (..., B, m) to the gradient; None means zero.

        If it is ``watched``, its report costs less.
        """
        batch, given = self.batch, v_x if v_x is not None else v_z if v_z is not None else v_s
        lead = () if given is None else given.shape[:-2]
        structure, size = batch.structure, batch.size
        if v_x is None:
            v_x = np.zeros((*lead, size, structure.n))
        if v_z is None:
            v_z = np.zeros((*lead, size, structure.m))
        if v_s is not None:
            v_x = v_x - batch.multiply("A", v_s, transpose=True)
        w, zeta = self.solve(v_x, v_z, watched=watched and "_certificate" not in self.__dict__)
        if v_s is not None:
            zeta = zeta + np.where(self.solved[:, None], v_s, 0.0)
        return Adjoint(batch, self.points, w, zeta)

    def jvp(
        self,
        tangents: Mapping[str, Floats],
        solve: Callable[[Floats, Floats], tuple[Floats, Floats]] | None = None,
    ) -> tuple[Floats, Floats, Floats]:
        """(dx, ds, dz) from tangents of P, q, A, b; each (B or 1, ...), missing names are zero.

        ``solve`` is another way to the ghost solution.
        """
        batch, points = self.batch, self.points
        size, n, m = batch.size, batch.structure.n, batch.structure.m
        v_x, v_z = np.zeros((size, n)), np.zeros((size, m))
        if "q" in tangents:
            v_x -= tangents["q"]
        if "b" in tangents:
            v_z += tangents["b"]
        moved = ProgramBatch(batch.structure, size, batch.P, batch.q, batch.A, batch.b)
        if "P" in tangents:
            moved.P = tangents["P"]
            v_x -= moved.multiply("P", points.x)
        if "A" in tangents:
            moved.A = tangents["A"]
            v_x -= moved.multiply("A", points.z, transpose=True)
            v_z -= moved.multiply("A", points.x)
        dx, dz = (solve or self.solve)(v_x, v_z)
        ds = np.where(self.solved[:, None], v_z, 0.0) - batch.multiply("A", dx)
        return dx, ds, dz

    @property
    def asked(self) -> bool:
        """Whether any gradient has been asked for."""
        return self._residuals is not None

    def reports(self, view: View | None = None) -> Reports:
        """Why to trust the gradients here, or not.

        ``view`` says what who asks can see of the ghost solution; None for everything.
        """
        if not self.batch.size:
            return Reports.none()
        if self._residuals is None:
            self.solve(np.ones_like(self.points.x), np.zeros_like(self.points.z))
        assert self._residuals is not None
        certificate = self._certificate  # which may tell of null spaces on the way
        batched, left = self._batched, self._one_by_one
        active = none = np.zeros(self.batch.size, dtype=np.int64)
        unproven = np.zeros(self.batch.size, dtype=bool)
        if batched is not None:
            active = batched.active
        dependent = free = deficiency = none
        if left:
            active, dependent, free, deficiency = (v.copy() for v in (active, none, none, none))
        for i in left:
            factor = self._factor(i)
            active[i], deficiency[i] = factor.active, factor.dependent + factor.free
            if deficiency[i] and (view is None or not view.blind(self.alone(i))):
                proven = factor.proven()
                dependent[i], free[i] = factor.dependent * proven[0], factor.free * proven[1]
                unproven[i] = not any(proven)
        margin = self._margins
        if not self.batch.structure.polyhedral:
            margin = np.minimum(margin, self.ghost.margin)
        kkt = self.measured.kkt if self.unmet is None else np.maximum(self.measured.kkt, self.unmet)
        known = self.solved, kkt, margin, self._residuals, active, deficiency
        quiet = np.zeros(self.batch.size, dtype=bool)
        doubt = margin < KINK
        if certificate is not None:
            doubt = doubt | ~(certificate.shift <= SHIFT)
        if view is not None and doubt.any():
            doubt &= self.solved & (dependent + free == 0) & (kkt <= INACCURATE)
            quiet = self._quiet(view, doubt)
        ranks = dependent, free, unproven
        return Reports(Evidence(*known, *ranks, certificate, quiet, bool(self.smoothing)))

    def _quiet(self, view: View, doubt: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether nothing that is weakly active in elements in ``doubt`` (B,) shows."""
        points, quiet = self.points, np.zeros_like(doubt)
        doubt = doubt & (self.ghost.margin >= KINK)  # of curved cones, of which nothing is known
        if not doubt.any():
            return quiet
        rows = weak_rows(self.batch, points.s, points.z, self.scales)
        if self._certificate is not None:
            solve = partial(self.solve, estimate=True)
            at = self.batch, points, self.scales, solve, SHIFT, self.ghost.margin
            moved, bent = moving(*at)
            rows |= moved
            doubt &= bent <= SHIFT
        for i in np.flatnonzero(doubt).tolist():
            quiet[i] = view.quiet(self, i, rows[i])
        return quiet

    def null_space(self, i: int) -> tuple[Floats, Floats] | None:
        """(w, zeta) of a random vector of what the ghost problem of element ``i`` leaves open."""
        if self._batched is not None and self._batched.fine[i]:
            return None
        factor = self._factor(i)
        return self._null(i) if factor.dependent or factor.free else None

    def respond(self, *cotangents: Floats | None) -> tuple[Floats, Floats]:
        """The ghost solution for cotangents on x, s and z, as in `vjp`."""
        v_x, v_s, v_z = cotangents
        adjoint = self.vjp(v_x, v_s, v_z)
        return adjoint.w, adjoint.zeta

    def _null(self, i: int) -> tuple[Floats, Floats]:
        w, zeta = np.zeros_like(self.points.x), np.zeros_like(self.points.z)
        factor = self._factor(i)
        at_w, at_zeta = factor.null()
        # Both parts by themselves are in the null space; one that is empty is all rounding.
        if factor.free:
            w[i] = at_w
        if factor.dependent:
            zeta[i] = at_zeta
        return w, zeta

    @lazy
    def _certificate(self) -> Certificate | None:
        batch, points = self.batch, self.points
        if self._regular and not self.smoothing:
            assert self._measures is not None and self._batched is not None
            if self._batched.settled(self._measures):
                return None
        response = self._response or self.solve(*self._probe, estimate=True, random=True)
        solve, margins = partial(self.solve, estimate=True), (self._margins, self.ghost.margin)
        found = self._probe[1], response, solve, self.measured.kkt, *margins, self.smoothing
        return examine(batch, points, self.scales, *found)

    @lazy
    def _probe(self) -> tuple[Floats, Floats]:
        """The `probe` (B, n), (B, m) in the units of the programs."""
        v_x, v_z = probe(self.batch.structure)
        return self.scales.gradient * v_x, self.scales.slack_unit * v_z

    @property
    def _regular(self) -> bool:
        """Whether compiled code has factorized the systems of all, and s and z leave no gap."""
        if self._batched is None or not self._all_solved or self._one_by_one:
            return False
        return self.batch.structure.polyhedral or self.points.paired

    @property
    def _one_by_one(self) -> list[int]:
        """The elements that have a factorization of their own."""
        batched = self._batched
        if batched is None:
            return np.flatnonzero(self.solved).tolist()
        if self._all_solved and np.count_nonzero(batched.fine) == batched.fine.size:
            return []
        return np.flatnonzero(self.solved & ~batched.fine).tolist()

    def solve(
        self,
        v_x: Floats,
        v_z: Floats,
        estimate: bool = False,
        random: bool = False,
        watched: bool = False,
    ) -> tuple[Floats, Floats]:
        """The ghost solution (w, zeta) for right-hand sides (..., B, n) and (..., B, m).

        An ``estimate`` need not be refined, and does not count for the report.
        """
        shapes = v_x.shape, v_z.shape
        if not self.batch.size:
            self._residuals = np.zeros(0)
            return np.zeros(shapes[0]), np.zeros(shapes[1])
        count = math.prod(v_x.shape[:-2])
        v_x, v_z = v_x.reshape(count, *v_x.shape[-2:]), v_z.reshape(count, *v_z.shape[-2:])
        batched = self._batched
        if batched is not None:
            measures = self._measures if watched and self._regular else None
            w, zeta, residuals = batched.solve(v_x, v_z, not estimate, measures)
            if not self._all_solved:
                w[:, ~self.solved] = zeta[:, ~self.solved] = 0.0
            watched = False
        else:
            w, zeta = np.zeros(v_x.shape), np.zeros(v_z.shape)
            residuals = np.zeros(self.batch.size)
        left = self._one_by_one
        if watched:
            response = np.zeros_like(self._probe[0]), np.zeros_like(self._probe[1])

        def solve(part: slice) -> None:
            for i in left[part]:
                factor = self._factor(i)
                found = factor.solve(v_x[:, i].T, v_z[:, i].T, not estimate, random)
                w[:, i], zeta[:, i] = found[0].T, found[1].T
                residuals[i] = found[2].max(initial=0.0)
                if watched:
                    ask_x, ask_z = (p[i, :, None] for p in self._probe)
                    found = factor.solve(ask_x, ask_z, refine=False, random=True)
                    response[0][i], response[1][i] = found[0][:, 0], found[1][:, 0]

        if left:
            _ = self.ghost  # made once, before the threads ask for it
            threads.run(solve, len(left), None if self.batch.structure.n > SHORT else 1)
        if not estimate:
            self._residuals = residuals
        if watched:
            self._response = response
        return w.reshape(shapes[0]), zeta.reshape(shapes[1])

    def lends(self, j: int) -> SparseFactor | Lent | None:
        """The factorization of element j, if it may serve at nearby points too."""
        found = self._factors.get(j)
        if isinstance(found, SparseFactor):
            return found
        batched: BatchedFactor | None = self.__dict__.get("_batched")
        return (batched, j) if batched is not None and batched.fine[j] else None

    @property
    def lent(self) -> Mapping[int, SparseFactor | Lent]:
        """The factorizations that `borrow` was given, by element."""
        return self._near

    def borrow(self, near: Mapping[int, SparseFactor | Lent]) -> None:
        """Let factorizations at nearby points of the elements serve here as far as they can."""
        self._near = near

    def adopt(self, other: Oracle, part: NDArray[np.intp]) -> None:
        """Take over the factorizations of ``other``, at nearby points of the polyhedral elements
        ``part``: those of elements with the same active set hold here too."""
        same = (self.ghost.active[part] == other.ghost.active).all(axis=-1)
        if same.all() and part.size == self.batch.size and "_batched" in other.__dict__:
            self.__dict__["_batched"] = other._batched
        for j, i in enumerate(part.tolist()):
            if same[j] and j in other._factors:
                self._factors[i] = other._factors[j]

    @lazy
    def _batched(self) -> BatchedFactor | None:
        batch = self.batch
        if not covers(batch.structure):
            return None
        batch = batch.as_dense()
        U = None if self.smoothing else batch.P_factor
        near: list[Any] = [self._near.get(i) for i in range(batch.size)] if self._near else []
        return BatchedFactor(self._smoothed(batch.P), batch.A, self.ghost, U, near)

    def _factor(self, i: int) -> DenseFactor | SparseFactor:
        found = self._factors.get(i)
        if found is None:
            batch, rows = self.batch, ElementRows(self.ghost, i)
            if batch.structure.dense or batch.structure.small:
                P, A = (batch.matrix(name, i) for name in "PA")
                if not batch.structure.dense:
                    P, A = P.toarray(), A.toarray()
                found = DenseFactor(self._smoothed(P), A, rows)
            else:
                near = self._near.get(i)
                lent = near if isinstance(near, SparseFactor) else None
                found = SparseFactor(batch, i, rows, self.smoothing, lent)
            self._factors[i] = found
        return found

    def _smoothed(self, P: Floats) -> Floats:
        """P with the proximal term."""
        return P + self.smoothing * np.eye(self.batch.structure.n) if self.smoothing else P


def reduce_batch(values: Floats, lead: int) -> Floats:
    """Sum over the batch axis (-2) where the datum is shared by the batch (lead 1)."""
    if lead == values.shape[-2]:
        return values
    return values.sum(axis=-2, keepdims=True)
