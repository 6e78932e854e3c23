"""What the oracle needs to know of a cone: its dimension, who is inside, and its ghost rows.

A cone is a frozen value object; all its functions are vectorized over N blocks of that cone at
once, since a batch of programs, or one program with many equal blocks, is the common case.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ffoadapt._exceptions import ProblemError

from .._types import Floats

__all__ = ["CURVATURE_CAP", "Cone", "Floats", "GhostRows", "checked_size"]


CURVATURE_CAP = 1e10
"""The largest curvature z/s that a ghost row carries.

Beyond it s is below the noise of a double-precision solve, and the +1/-1 pair of curvature rows
of a second-order cone, which cancel along its ray, would leave more than 1e-6 behind.
"""


def checked_size(cone: str, name: str, value: object, least: int) -> int:
    """Return ``value`` as an int >= ``least``; else raise ProblemError naming cone and argument."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or int(value) < least:  # type: ignore[call-overload]
        raise ProblemError(
            f"{cone}({name}={value!r}): {name} must be an integer >= {least}, "
            f"got {type(value).__name__} {value!r}."
        )
    return int(value)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class GhostRows:
    """The linearization of N blocks of one cone at complementary points (s, z).

    The ghost problem asks ``G ds = 0`` and adds the curvature ``ds' W ds`` with
    ``W = diag(weight) + sum_r sigma_r R_r R_r'`` (design: G, R and sigma; ``weight`` stands for
    the curvature rows ``sqrt(weight_i) e_i`` with sigma = +1, so that large blocks stay sparse).

    Attributes
    ----------
    active
        (N, dim) bool: the unit rows e_i of G.
    G, has
        (N, g, dim) floats and (N, g) bool: the other equality rows; rows where ``has`` is False
        are absent, whatever they hold.
    weight
        (N, dim) floats >= 0: diagonal curvature.
    R, sigma
        (N, r, dim) floats and (N, r) floats in {-1, 0, +1}: the other curvature rows; sigma = 0
        marks an absent row.
    margin
        (N,) floats >= 0: strict complementarity, the distance to the nearest point with another
        active set in the units of (s, z). 0 at a kink, inf where the cone has none.

    The counts g and r are the cone's choice and may differ from call to call.
    """

    active: NDArray[np.bool_]
    G: Floats
    has: NDArray[np.bool_]
    weight: Floats
    R: Floats
    sigma: Floats
    margin: Floats

    @classmethod
    def empty(cls, blocks: int, dim: int, g: int = 0, r: int = 0) -> GhostRows:
        """No row at all (s inside the cone), with room for ``g`` and ``r`` rows a block."""
        return cls(
            active=np.zeros((blocks, dim), dtype=bool),
            G=np.zeros((blocks, g, dim)),
            has=np.zeros((blocks, g), dtype=bool),
            weight=np.zeros((blocks, dim)),
            R=np.zeros((blocks, r, dim)),
            sigma=np.zeros((blocks, r)),
            margin=np.full(blocks, np.inf),
        )


class Cone(ABC):
    """A closed convex cone of R^dim; subclasses are frozen dataclasses, one file each.

    Laws: a cone equals any other with the same arguments, and hashes like it. ``violation`` and
    ``dual_violation`` are 0 exactly on the cone and its dual, positive elsewhere, and positively
    homogeneous of degree one. Curvature scales like z/s: ``linearize(a s, b z)`` has the G of
    ``linearize(s, z)`` and b/a times its W (up to ``CURVATURE_CAP``).
    """

    kind: ClassVar[str]
    """The name by which solvers declare what they support, e.g. ``"second_order"``."""

    polyhedral: ClassVar[bool] = False
    """True where the cone is described by sign constraints on single rows."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of rows of A that the cone takes."""

    @property
    def inner(self) -> Floats:
        """A point (dim,) that is inside the cone and its dual by at least 1."""
        return np.ones(self.dim)

    @abstractmethod
    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """The nearest point s of the cone for each row of ``p`` (N, dim); s - p is in the dual.

        ``near`` (N, dim) are points near s, from which a search starts; the answer does not depend
        on them but for rounding.
        """

    @abstractmethod
    def violation(self, s: Floats) -> Floats:
        """How far each of the N rows of ``s`` (N, dim) is outside the cone: (N,), 0 inside.

        The Euclidean distance, so that numbers of different cones compare.
        """

    @abstractmethod
    def dual_violation(self, z: Floats) -> Floats:
        """The same for the dual cone."""

    @abstractmethod
    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """The ghost rows at N approximately complementary pairs ``s``, ``z``, each (N, dim).

        Both are scaled by the caller so that 1 is a typical size of either: which of s and z is
        "zero" is decided by comparing them with each other. Never returns a NaN or infinity
        (but in ``margin``, see there).
        """
