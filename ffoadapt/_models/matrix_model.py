"""What the three ways of stating a program by its matrices share.

Each maps the user's data (P, q and the constraint data of its form) to the canonical program, and
cotangents back. Matrices are dense, (n, n) and so on, or `Pattern`s whose values are the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._plugins.modeler import ParametricProgram
from .._program.pattern import Pattern
from .._program.structure import Structure
from .._runtime.costs import LARGE_ARRAY
from .._runtime.memory import empty
from .._types import Floats, Shape

__all__ = ["MATRICES", "MatrixModel", "join", "or_zero", "stack"]

MATRICES = frozenset({"P", "G", "A"})
"""The data that are matrices with a column for each variable; the others are vectors."""


@dataclass(eq=False)
class MatrixModel(ParametricProgram):
    """A program with n variables; ``patterns`` holds the patterns of sparse matrices by name."""

    n: int
    patterns: Mapping[str, Pattern]

    names: ClassVar[tuple[str, ...]]
    convex = False  # P is the user's
    traceable = True

    def _set(self, structure: Structure, rows: Mapping[str, int], outputs: dict[str, int]) -> None:
        """The members that follow from sizes: ``rows`` are those of each datum but P and q."""
        self.structure = structure
        self.parameters = [(name, self._shape(name, rows.get(name, self.n))) for name in self.names]
        self.outputs = [(name, (size,)) for name, size in outputs.items()]

    def _shape(self, name: str, rows: int) -> Shape:
        if name not in MATRICES:
            return (rows,)
        pattern = self.patterns.get(name)
        return (rows, self.n) if pattern is None else (pattern.nnz,)

    def check(self, values: Sequence[Floats], precision: Sequence[float] | None = None) -> None:
        """Nothing to say of the values one by one."""

    def _filled(self, xp: Any, name: str, values: Any) -> Any:
        """The matrix of one element, dense, in the arrays of the namespace ``xp``."""
        pattern = self.patterns.get(name)
        return values if pattern is None else pattern.filled(xp, values)

    def traced_outputs(self, xp: Any, x: Any, s: Any, y: Any) -> list[Any]:
        return self.retrieve(x, s, y, None)  # type: ignore[arg-type]  # no batch is needed

    def retrieve_jvp(self, dx: Floats, ds: Floats, dz: Floats, batch: Any) -> list[Floats]:
        return self.retrieve(dx, ds, dz, batch)


def join(first: Floats, second: Floats, axis: int) -> Floats:
    """Concatenate along a core axis, broadcasting the leading axis; no copy where one is empty."""
    if second.shape[axis] == 0 and second.shape[0] == 1:
        return first
    if first.shape[axis] == 0 and first.shape[0] == 1:
        return second
    if first.shape[0] != second.shape[0]:
        size = second.shape[0] if first.shape[0] == 1 else first.shape[0]  # which may be 0
        first = np.broadcast_to(first, (size, *first.shape[1:]))
        second = np.broadcast_to(second, (size, *second.shape[1:]))
    if first.size + second.size < LARGE_ARRAY:
        return np.concatenate((first, second), axis)
    shape = list(first.shape)
    shape[axis] += second.shape[axis]
    return np.concatenate((first, second), axis, empty(*shape))


def stack(patterns: Sequence[Pattern]) -> tuple[Pattern, NDArray[np.int32]]:
    """The pattern of the matrices stacked by rows, and the order of their values in it."""
    starts = np.cumsum([0, *(p.nnz for p in patterns)])
    numbered = [
        # Numbered from 1: a value of 0 would be dropped.
        p.matrix(np.arange(start + 1.0, start + p.nnz + 1.0))
        for p, start in zip(patterns, starts, strict=False)
    ]
    pattern, values = Pattern.of(sparse.vstack(numbered))
    return pattern, values.astype(np.int32) - np.int32(1)


def or_zero(tangent: Floats | None, shape: Shape) -> Floats:
    """The tangent (B or 1, *shape), zero where there is none."""
    return np.zeros((1, *shape)) if tangent is None else tangent
