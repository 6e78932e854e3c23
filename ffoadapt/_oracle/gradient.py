"""Derivatives at solutions: cotangents to gradients (vjp), tangents to tangents (jvp).

At solutions (x, z) of a batch, with w and zeta from the ghost problem (design: section 3),

    vjp:  q_bar = -w    b_bar = zeta    A_bar = -(z w' + zeta x')    P_bar = -1/2 (w x' + x w')
    jvp:  (dx, dz) = the ghost solution for v_x = -(dP x + dq + dA'z),  v_z = db - dA x

and a cotangent on s = b - Ax folds in first: v_x -= A'v_s, zeta += v_s. A_bar and P_bar are formed
only when asked for, on the pattern where there is one, and once where the batch shares the datum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from .. import _kernel
from .._program.batch import ProgramBatch
from .._program.pattern import Pattern
from .._program.points import Points
from .._runtime.lazy import lazy
from .._types import Floats
from .batched import products
from .certificate import Certificate, examine
from .factors import Evidence
from .ghost import GhostProblems
from .report import Reports
from .verdicts import Facts, View

__all__ = ["Adjoint", "Oracle", "Tangents", "folded", "reduce_batch"]


class Adjoint(Mapping[str, Floats]):
    """The gradient of a batch as vectors; matrices are formed when asked for by name.

    ``adjoint["P"]``, ``["q"]``, ``["A"]``, ``["b"]`` have the shape of that datum in the batch:
    the leading axis is B, or 1 with the sum over the batch where the batch shares the datum.
    Axes before the batch axis are further cotangents. ``evidence`` is what the ghost solve says of
    its own answer; None where there was none.
    """

    def __init__(
        self,
        batch: ProgramBatch,
        points: Points,
        w: Floats,
        zeta: Floats,
        evidence: Evidence | None = None,
    ) -> None:
        self.batch, self.evidence = batch, evidence
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
        if not shared:
            return products(sign, z, zeta, self.w, self.x)
        left, right = np.empty((*shape, 2, z.shape[-1])), np.empty((*shape, 2, self.w.shape[-1]))
        left[..., 0, :], left[..., 1, :] = sign * z, sign * zeta
        right[..., 0, :], right[..., 1, :] = self.w, self.x
        left, right = (v.reshape(*shape[:-1], 2 * shape[-1], v.shape[-1]) for v in (left, right))
        return (left.swapaxes(-1, -2) @ right)[..., None, :, :]

    def _on_pattern(
        self, pattern: Pattern, shared: bool, z: Floats, zeta: Floats, sign: float
    ) -> Floats:
        """The entries of `matrix` on the pattern, without the rest."""
        *lead, size = self.w.shape[:-1]
        values = np.empty((*lead, 1 if shared else size, pattern.nnz))
        if pattern.nnz:
            rows, n = z.shape[-1], self.w.shape[-1]
            z, zeta, w, x = map(np.ascontiguousarray, (z, zeta, self.w, self.x))
            at = rows, n, size if shared else 1, sign, pattern.indptr, pattern.indices
            _kernel.kernel.products_on_pattern(*at, z, zeta, w, x, values)
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(("P", "q", "A", "b"))

    def __len__(self) -> int:
        return 4


class Tangents(NamedTuple):
    """How solutions move: x (B, n), s and z (B, m), and what that rests on."""

    x: Floats
    s: Floats
    z: Floats
    evidence: Evidence | None = None


class Oracle(GhostProblems):
    """Derivatives at the points of a batch; safe to share.

    Elements whose status is not solved get zero gradient: their points are NaN and nothing flows.
    """

    def vjp(self, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None) -> Adjoint:
        """Cotangents on x (..., B, n), s and z (..., B, m) to the gradient; None means zero."""
        v_x, v_z = folded(self.batch, v_x, v_s, v_z)
        w, zeta, evidence = self.factors.solve(v_x, v_z)
        if v_s is not None:
            zeta = zeta + np.where(self.solved[:, None], v_s, 0.0)
        return Adjoint(self.batch, self.points, w, zeta, evidence)

    def jvp(
        self,
        tangents: Mapping[str, Floats],
        solve: Callable[[Floats, Floats], tuple[Floats, Floats]] | None = None,
    ) -> Tangents:
        """From tangents of P, q, A, b; each (B or 1, ...), missing names are zero.

        ``solve`` is another way to the ghost solution.
        """
        v_x, v_z = moved_sides(self.batch, self.points, tangents)
        if solve is not None:
            (dx, dz), evidence = solve(v_x, v_z), None
        else:
            dx, dz, evidence = self.factors.solve(v_x, v_z)
        ds = np.where(self.solved[:, None], v_z, 0.0) - self.batch.multiply("A", dx)
        return Tangents(dx, ds, dz, evidence)

    # -- how far to trust them

    def reports(self, view: View | None = None, evidence: Evidence | None = None) -> Reports:
        """Why to trust the gradients here, or not: that with this evidence, or any.

        ``view`` says what who asks can see of the ghost solution; None for everything.
        """
        if evidence is None:
            nowhere = np.zeros_like(self.points.z)
            evidence = self.factors.solve(np.ones_like(self.points.x), nowhere)[2]
        return Reports(Facts(self, evidence, view))

    @lazy
    def _certificate(self) -> Certificate | None:
        if self._regular and not self.choices.smoothing:
            measures, batched = self._measures, self.factors.batched
            assert measures is not None and batched is not None
            if batched.settled(measures):
                return None
        response = self.solve(*self._probe, estimate=True, random=True)
        solve, margins = partial(self.solve, estimate=True), (self._margins, self.ghost.margin)
        at = self.batch, self.points, self.scales, self._probe[1], response, solve
        return examine(*at, self.measured.kkt, *margins, self.choices.smoothing)


def folded(
    batch: ProgramBatch, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None
) -> tuple[Floats, Floats]:
    """Cotangents on x and z that stand for those on x, s and z: v_x - A'v_s, v_z; None is zero."""
    if v_x is None:
        given = v_z if v_z is not None else v_s
        lead = (batch.size,) if given is None else given.shape[:-1]
        v_x = np.zeros((*lead, batch.structure.n))
    if v_z is None:
        v_z = np.zeros((*v_x.shape[:-1], batch.structure.m))
    return v_x if v_s is None else v_x - batch.multiply("A", v_s, transpose=True), v_z


def moved_sides(
    batch: ProgramBatch, points: Points, tangents: Mapping[str, Floats]
) -> tuple[Floats, Floats]:
    """v_x = -(dP x + dq + dA'z) and v_z = db - dA x: the transpose of what `Adjoint` does.

    Tangents of P, q, A, b are (B or 1, ...) each; missing names are zero.
    """
    v_x, v_z = np.zeros((batch.size, batch.structure.n)), np.zeros((batch.size, batch.structure.m))
    if "q" in tangents:
        v_x -= tangents["q"]
    if "b" in tangents:
        v_z += tangents["b"]
    moved = ProgramBatch(batch.structure, batch.size, batch.P, batch.q, batch.A, batch.b)
    if "P" in tangents:
        moved.P = tangents["P"]
        v_x -= moved.multiply("P", points.x)
    if "A" in tangents:
        moved.A = tangents["A"]
        v_x -= moved.multiply("A", points.z, transpose=True)
        v_z -= moved.multiply("A", points.x)
    return v_x, v_z


def reduce_batch(values: Floats, lead: int) -> Floats:
    """Sum over the batch axis (-2) where the datum is shared by the batch (lead 1)."""
    if lead == values.shape[-2]:
        return values
    return values.sum(axis=-2, keepdims=True)
