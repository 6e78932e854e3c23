"""One program as a solver sees it: canonical, or in one of the two views solvers also speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._cones import Cone

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
