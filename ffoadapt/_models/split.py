"""A program with inequalities and equalities: Gx <= h, Ax = b."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._oracle.gradient import Adjoint, reduce_batch
from .._program.batch import ProgramBatch
from .._program.structure import Structure, polyhedral_cones
from .._types import Floats
from .matrix_model import MatrixModel, join, or_zero, stack

__all__ = ["SplitModel"]


@dataclass(eq=False)
class SplitModel(MatrixModel):
    """Gx <= h, Ax = b: parameters P, q, G, h, A, b; outputs x, z_ineq, y_eq.

    The canonical rows are those of A, then those of G.
    """

    inequalities: int
    equalities: int

    names = ("P", "q", "G", "h", "A", "b")
    unbounded = frozenset({"h"})

    def __post_init__(self) -> None:
        n, k, p, patterns = self.n, self.inequalities, self.equalities, self.patterns
        pattern, self._order = None, None
        if patterns:  # of [A; G], and where in (values of A, values of G) its entries are
            pattern, self._order = stack([patterns["A"], patterns["G"]])
        structure = Structure(n, p + k, polyhedral_cones(p, k), patterns.get("P"), pattern)
        rows = {"G": k, "h": k, "A": p, "b": p}
        self._set(structure, rows, {"x": n, "z_ineq": k, "y_eq": p})

    def _join(self, A: Floats, G: Floats) -> Floats:
        if self._order is not None:
            return join(A, G, axis=-1)[..., self._order]
        return join(A, G, axis=-2)

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        P, q, G, h, A, b = values
        return ProgramBatch(self.structure, size, P, q, self._join(A, G), join(b, h, axis=-1))

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        P, q, G, h, A, b = values
        rows = xp.concatenate((self._filled(xp, "A", A), self._filled(xp, "G", G)))
        lower = xp.concatenate((b, xp.full_like(h, -np.inf)))
        return self._filled(xp, "P", P), q, rows, lower, xp.concatenate((b, h))

    def program_vjp(self, gradient: Any, needed: Sequence[bool]) -> list[Floats | None]:
        adjoint: Adjoint = gradient
        P, q, G, h, A, b = needed
        equal, less = slice(0, self.equalities), slice(self.equalities, None)
        if G and A and not self.patterns and adjoint.batch.size == 1:  # one product for both
            both = adjoint.matrix(None, 1, adjoint.z, adjoint.zeta)
            matrices: list[Floats | None] = [both[..., less, :], both[..., equal, :]]
        else:
            matrices = [
                self._rows_vjp("G", adjoint, less) if G else None,
                self._rows_vjp("A", adjoint, equal) if A else None,
            ]
        count = adjoint.batch.b.shape[0]
        return [
            adjoint["P"] if P else None,
            adjoint["q"] if q else None,
            matrices[0],
            reduce_batch(adjoint.zeta[..., less], count) if h else None,
            matrices[1],
            reduce_batch(adjoint.zeta[..., equal], count) if b else None,
        ]

    def _rows_vjp(self, name: str, adjoint: Adjoint, rows: slice) -> Floats:
        """The gradient of G or A, which are these rows."""
        z, zeta = adjoint.z[..., rows], adjoint.zeta[..., rows]
        return adjoint.matrix(self.patterns.get(name), adjoint.batch.A.shape[0], z, zeta)

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        P, q, G, h, A, b = tangents
        shapes = dict(self.parameters)
        moved = {k: t for k, t in (("P", P), ("q", q)) if t is not None}
        if G is not None or A is not None:
            moved["A"] = self._join(or_zero(A, shapes["A"]), or_zero(G, shapes["G"]))
        if h is not None or b is not None:
            moved["b"] = join(or_zero(b, shapes["b"]), or_zero(h, shapes["h"]), axis=-1)
        return moved

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        return [x, z[..., self.equalities :], z[..., : self.equalities]]

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, z_ineq, y_eq = cotangents
        if z_ineq is None and y_eq is None:
            return x, None, None
        lead = (z_ineq if z_ineq is not None else y_eq).shape[:-1]  # type: ignore[union-attr]
        z = np.zeros((*lead, self.equalities + self.inequalities))
        if y_eq is not None:
            z[..., : self.equalities] = y_eq
        if z_ineq is not None:
            z[..., self.equalities :] = z_ineq
        return x, None, z
