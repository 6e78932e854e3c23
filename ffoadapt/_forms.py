"""One program as a solver sees it: canonical, or in one of the two views solvers also speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ._cones import Cone, PSDCone

__all__ = ["BoxForm", "ConeForm", "SplitForm"]

Floats = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class ConeForm:
    """One canonical program as a solver sees it: ndarrays or CSC matrices, P whole."""

    P: Any
    q: Floats
    A: Any
    b: Floats
    cones: tuple[Cone, ...]

    name: ClassVar[str] = "cone"

    def grouped(
        self, kinds: Sequence[str] = (), psd: Literal["lower", "upper"] = "lower"
    ) -> tuple[list[Cone], NDArray[np.intp] | slice]:
        """Cones and rows as a solver wants them: ``A[rows]``, ``b[rows]``; ``z[rows] = its_z``.

        Parameters
        ----------
        kinds
            The order of the kinds of cones; empty leaves the cones in the program's order.
        psd
            Whether the solver stacks the lower (as here) or the upper triangle by columns.
        """
        starts = np.cumsum([0, *(cone.dim for cone in self.cones)])
        ranks = [kinds.index(cone.kind) if kinds else 0 for cone in self.cones]
        order = sorted(range(len(self.cones)), key=lambda k: ranks[k])
        parts = [np.arange(0)]
        for k in order:
            rows = np.arange(starts[k], starts[k + 1])
            if psd == "upper" and isinstance(cone := self.cones[k], PSDCone):
                square = np.zeros((cone.n, cone.n), dtype=np.intp)
                square.T[np.triu_indices(cone.n)] = rows  # ours: the lower triangle by columns
                rows = square[np.tril_indices(cone.n)]  # the upper by columns is the lower by rows
            parts.append(rows)
        rows = np.concatenate(parts)
        cones = [self.cones[k] for k in order]
        return cones, slice(None) if (rows == np.arange(rows.size)).all() else rows


@dataclass(slots=True, eq=False)
class BoxForm:
    """One program as l <= Ax <= u; infinite bounds are -inf and inf; l = u is an equality."""

    P: Any
    q: Floats
    A: Any
    l: Floats
    u: Floats

    name: ClassVar[str] = "box"


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
