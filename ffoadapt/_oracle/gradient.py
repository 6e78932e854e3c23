"""Derivatives at solutions: cotangents to gradients (vjp), tangents to tangents (jvp).

At solutions (x, z) of a batch, with w and zeta from the ghost problem (design: section 3),

    vjp:  the gradient of `Adjoint`
    jvp:  (dx, dz) = the ghost solution for v_x = -(dP x + dq + dA'z),  v_z = db - dA x

and a cotangent on s = b - Ax folds in first: v_x -= A'v_s, zeta += v_s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from .._runtime.lazy import lazy
from .._types import Floats
from .adjoint import Adjoint, folded, moved_sides, reduce_batch
from .batched import Measures
from .certificate import Certificate, examine
from .evidence import View, facts
from .factors import Evidence
from .ghost import GhostProblems
from .report import Reports

__all__ = ["Adjoint", "Oracle", "Tangents", "reduce_batch"]


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

    def vjp(
        self, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None, watched: bool = False
    ) -> Adjoint:
        """Cotangents on x (..., B, n), s and z (..., B, m) to the gradient; None means zero.

        If it is ``watched``, its report costs less.
        """
        v_x, v_z = folded(self.batch, v_x, v_s, v_z)
        watch = self._watch() if watched else ()
        w, zeta, evidence = self.factors.solve(v_x, v_z, True, False, *watch)
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

    def _watch(self) -> tuple[Measures | None, tuple[Floats, Floats] | None]:
        """What a solve may find out on its way, for the certificate."""
        if "_certificate" in self.__dict__:
            return None, None
        if self._batched is not None:
            return self._measures if self._regular else None, None
        return None, self._probe

    def reports(self, view: View | None = None, evidence: Evidence | None = None) -> Reports:
        """Why to trust the gradients here, or not: that with this evidence, or any.

        ``view`` says what who asks can see of the ghost solution; None for everything.
        """
        if not self.batch.size:
            return Reports.none()
        if evidence is None:
            nowhere = np.zeros_like(self.points.z)
            evidence = self.factors.solve(np.ones_like(self.points.x), nowhere)[2]
        if evidence.response is not None and "_certificate" not in self.__dict__:
            self._certificate = self._examined(evidence.response)
        return Reports(facts(self, evidence, view))

    @lazy
    def _certificate(self) -> Certificate | None:
        if self._regular and not self.choices.smoothing:
            assert self._measures is not None and self._batched is not None
            if self._batched.settled(self._measures):
                return None
        return self._examined(self.solve(*self._probe, estimate=True, random=True))

    def _examined(self, response: tuple[Floats, Floats]) -> Certificate | None:
        """The certificate, given the ghost solution for the probe."""
        solve, margins = partial(self.solve, estimate=True), (self._margins, self.ghost.margin)
        at = self.batch, self.points, self.scales, self._probe[1], response, solve
        return examine(*at, self.measured.kkt, *margins, self.choices.smoothing)
