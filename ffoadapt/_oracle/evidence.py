"""From what is known of points and ghost problems to the facts that verdicts rest on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from .active_set import KINK
from .certificate import moving
from .faces import weak_rows
from .factors import Evidence
from .report import INACCURATE, SHIFT, Facts

if TYPE_CHECKING:
    from .gradient import Oracle

__all__ = ["View", "facts"]


class View(Protocol):
    """What who asks sees of the programs; see `_layers.visibility`."""

    def blind(self, oracle: Oracle) -> bool:
        """Whether nobody sees what the ghost problem of a single element leaves open."""

    def quiet(self, oracle: Oracle, i: int, doubtful: NDArray[np.bool_]) -> bool:
        """Whether nothing shows of what is weakly active in the ``doubtful`` rows (m,)."""


def facts(oracle: Oracle, evidence: Evidence, view: View | None) -> Facts:
    """What is known at the points of an oracle, beside the evidence of one of its ghost solves.

    ``view`` says what who asks can see of the ghost solution; None for everything.
    """
    certificate = oracle._certificate  # which may tell of null spaces on the way
    rank, factors = evidence.factors.rank, evidence.factors
    dependent, free = (np.zeros_like(counts) for counts in rank[1:])
    unproven = np.zeros(len(dependent), dtype=bool)
    for i in np.flatnonzero(rank.deficiency).tolist():
        if view is None or not view.blind(oracle.alone(i)):
            proven = factors.element(i).proven()
            dependent[i], free[i] = rank.dependent[i] * proven[0], rank.free[i] * proven[1]
            unproven[i] = not any(proven)
    margin, kkt = oracle._margins, oracle.measured.kkt
    if not oracle.batch.structure.polyhedral:
        margin = np.minimum(margin, oracle.ghost.margin)
    if oracle.unmet is not None:
        kkt = np.maximum(kkt, oracle.unmet)
    quiet = np.zeros_like(unproven)
    doubt = margin < KINK
    if certificate is not None:
        doubt = doubt | ~(certificate.shift <= SHIFT)
    if view is not None and doubt.any():
        doubt &= oracle.solved & (dependent + free == 0) & (kkt <= INACCURATE)
        quiet = _quiet(oracle, view, doubt)
    known = oracle.solved, kkt, margin, evidence.residual, rank, dependent, free, unproven
    return Facts(*known, certificate, quiet, bool(oracle.choices.smoothing))


def _quiet(oracle: Oracle, view: View, doubt: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether nothing that is weakly active in elements in ``doubt`` (B,) shows."""
    batch, points, quiet = oracle.batch, oracle.points, np.zeros_like(doubt)
    doubt = doubt & (oracle.ghost.margin >= KINK)  # of curved cones, of which nothing is known
    if not doubt.any():
        return quiet
    rows = weak_rows(batch, points.s, points.z, oracle.scales)
    if oracle._certificate is not None:
        solve = partial(oracle.solve, estimate=True)
        moved, bent = moving(batch, points, oracle.scales, solve, SHIFT, oracle.ghost.margin)
        rows |= moved
        doubt &= bent <= SHIFT
    for i in np.flatnonzero(doubt).tolist():
        quiet[i] = view.quiet(oracle, i, rows[i])
    return quiet
