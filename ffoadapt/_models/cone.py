"""A program in canonical form: Ax + s = b, s in K."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _kernel
from .._cones import Cone
from .._exceptions import ProblemError
from .._program.batch import ProgramBatch
from .._program.structure import Structure
from .._types import Floats
from .matrix_model import MatrixModel

__all__ = ["ConeModel"]


@dataclass(eq=False)
class ConeModel(MatrixModel):
    """Ax + s = b, s in K, as it is: parameters P, q, A, b; outputs x, s, z."""

    cones: tuple[Cone, ...]
    m: int

    names = ("P", "q", "A", "b")
    unbounded = frozenset({"b"})

    def __post_init__(self) -> None:
        n, m, patterns = self.n, self.m, self.patterns
        structure = Structure(n, m, self.cones, patterns.get("P"), patterns.get("A"))
        self._set(structure, {"A": m, "b": m}, {"x": n, "s": m, "z": m})

    def check(self, values: Sequence[Floats], precision: Sequence[float] | None = None) -> None:
        b = values[3]
        if _kernel.kernel.all_finite(b):
            return
        bad = np.argwhere(np.isinf(b) & ~self.structure.nonnegative)
        if bad.size:
            element = f" of batch element {bad[0][0]}" if b.shape[0] > 1 else ""
            raise ProblemError(
                f"b holds {b[tuple(bad[0])]} at index {bad[0][1]}{element}; only rows in "
                "nonnegative cones may be infinite (no bound). Leave the cone out instead"
            )

    def program(self, values: Sequence[Floats], size: int) -> ProgramBatch:
        P, q, A, b = values
        return ProgramBatch(self.structure, size, P, q, A, b)

    def traced_program(self, xp: Any, values: Sequence[Any]) -> Sequence[Any]:
        P, q, A, b = values
        lower = xp.where(self.structure.equality, b, -np.inf)
        return self._filled(xp, "P", P), q, self._filled(xp, "A", A), lower, b

    def program_vjp(
        self, gradient: Mapping[str, Floats], needed: Sequence[bool]
    ) -> list[Floats | None]:
        return [gradient[k] if on else None for k, on in zip(self.names, needed, strict=True)]

    def program_jvp(
        self, tangents: Sequence[Floats | None], batch: ProgramBatch, z: Floats
    ) -> Mapping[str, Floats]:
        return {k: t for k, t in zip(self.names, tangents, strict=True) if t is not None}

    def retrieve(self, x: Floats, s: Floats, z: Floats, batch: ProgramBatch) -> list[Floats]:
        return [x, s, z]

    def retrieve_vjp(
        self, cotangents: Sequence[Floats | None], batch: ProgramBatch
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        x, s, z = cotangents
        return x, s, z
