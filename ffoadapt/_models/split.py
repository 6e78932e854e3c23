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
        lower = xp.concatenate((b, xp.full(self.inequalities, -np.inf)))
        return self._filled(xp, "P", P), q, rows, lower, xp.concatenate((b, h))

    def program_vjp(self, gradient: Any, needed: Sequence[bool]) -> list[Floats | None]:
        adjoint: Adjoint = gradient
        batch, p, results = adjoint.batch, self.equalities, list[Floats | None]()
        both: Floats | None = None
        if needed[2] and needed[4] and not self.patterns and batch.size == 1:
            both = adjoint.matrix(None, 1, adjoint.z, adjoint.zeta)  # one product for both
        for name, on in zip(self.names, needed, strict=True):
            rows = slice(0, p) if name in ("A", "b") else slice(p, None)
            if not on:
                results.append(None)
            elif name in ("P", "q"):
                results.append(adjoint[name])
            elif name in ("h", "b"):
                results.append(reduce_batch(adjoint.zeta[..., rows], batch.b.shape[0]))
            elif both is not None:
                results.append(both[..., rows, :])
            else:
                z, zeta = adjoint.z[..., rows], adjoint.zeta[..., rows]
                pattern = self.patterns.get(name)
                results.append(adjoint.matrix(pattern, batch.A.shape[0], z, zeta))
        return results

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
