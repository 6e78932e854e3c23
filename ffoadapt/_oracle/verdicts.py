"""From what is known of points and their ghost problems to verdicts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from .active_set import KINK
from .certificate import moving
from .faces import weak_rows
from .factors import Evidence
from .report import ERROR, GHOST, INACCURATE, SHIFT, Finding, Verdict

if TYPE_CHECKING:
    from .gradient import Oracle

__all__ = ["Facts", "View"]


class View(Protocol):
    """What who asks sees of the programs; see `_layers.visibility`."""

    def blind(self, oracle: Oracle) -> bool:
        """Whether nobody sees what the ghost problem of a single element leaves open."""

    def quiet(self, oracle: Oracle, i: int, doubtful: NDArray[np.bool_]) -> bool:
        """Whether nothing shows of what is weakly active in the ``doubtful`` rows (m,)."""


class Facts:
    """What is known of the points of a batch and of their ghost problems, each (B,).

    Attributes
    ----------
    kkt, margin
        The residual of the point, and the least margin of its rows and curved cones.
    residual, rank
        Of the ghost solve, see `Evidence`.
    dependent, free
        The two kinds of deficiency, as far as they show in what is asked of the program, and there
        are any in other units too.
    unproven
        Whether there is only what looks like one of these, as a matter of units.
    certificate
        See `certificate`; None where nothing there is in doubt.
    quiet
        Whether nothing that is weakly active shows in what is asked.
    """

    def __init__(self, oracle: Oracle, evidence: Evidence, view: View | None) -> None:
        """Those at the points of an oracle, beside the evidence of one of its ghost solves.

        ``view`` says what who asks can see of the ghost solution; None for everything.
        """
        # A certificate, where there is anything to certify, may tell of null spaces on the way.
        self.certificate = c = oracle._certificate if oracle.solved.size else None
        self.biased = bool(oracle.choices.smoothing)
        self.solved, self.residual, factors = oracle.solved, evidence.residual, evidence.factors
        self.rank = rank = factors.rank
        self.dependent, self.free = (np.zeros_like(counts) for counts in rank[1:])
        self.unproven = np.zeros(self.solved.shape, dtype=bool)
        for i in np.flatnonzero(rank.deficiency).tolist():
            if view is None or not view.blind(oracle.alone(i)):
                proven = factors.element(i).proven()
                self.dependent[i] = rank.dependent[i] * proven[0]
                self.free[i] = rank.free[i] * proven[1]
                self.unproven[i] = not any(proven)
        self.margin, self.kkt = oracle._margins, oracle.measured.kkt
        if not oracle.batch.structure.polyhedral:
            self.margin = np.minimum(self.margin, oracle.ghost.margin)
        if oracle.unmet is not None:
            self.kkt = np.maximum(self.kkt, oracle.unmet)
        self.quiet = np.zeros_like(self.unproven)
        doubt = self.margin < KINK
        if c is not None:
            doubt = doubt | ~(c.shift <= SHIFT)
        if view is not None and doubt.any():
            doubt &= self.solved & (self.dependent + self.free == 0) & (self.kkt <= INACCURATE)
            self.quiet = _quiet(oracle, view, doubt)

    def beyond_doubt(self) -> NDArray[np.bool_]:
        """Where the verdict is ``differentiable``."""
        c = self.certificate
        regular = self.solved & (self.dependent + self.free == 0) & ~self.unproven
        regular &= (self.kkt <= INACCURATE) & (self.residual <= GHOST)
        regular &= (self.margin >= KINK) | self.quiet
        if c is not None:
            regular &= ((c.shift <= SHIFT) | self.quiet) & (c.distance <= ERROR)
            regular &= (c.z_error <= ERROR) & (c.x_error <= ERROR)
        return regular

    def verdict(self, i: int) -> Verdict:
        """The gravest that applies to element ``i``."""
        kkt, margin, c = self.kkt.item(i), self.margin.item(i), self.certificate
        dependent, free = bool(self.dependent.item(i)), bool(self.free.item(i))
        residual, deficient = self.residual.item(i), bool(self.rank.deficiency[i])
        unclear = self.unproven.item(i) or not self.solved.item(i)
        unclear |= not residual <= GHOST and not deficient
        shift, errors, quiet = 0.0, [], self.quiet.item(i)
        if c is not None and not (dependent or free):  # else it says nothing
            shift = c.shift.item(i)
            if quiet or (margin >= KINK and shift <= SHIFT):
                errors.append(c.distance.item(i))
            if self.biased and not c.x_error.item(i) <= ERROR:
                free = True
            else:  # the rank is full, but rounding decides
                errors += c.z_error.item(i), c.x_error.item(i)
        return Finding(
            kkt,
            margin,
            residual,
            dependent=dependent,
            free=free,
            shift=shift,
            errors=tuple(errors),
            quiet=quiet,
            unclear=unclear,
        ).verdict


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
