"""What the exponential and the power cone share: a boundary that is a curve of rays in R^3.

A point p = s - z whose projection s lies on the curved boundary is, for one real rho,

    p = alpha d(rho) - beta c(rho),   alpha = |s| > 0,   beta = |z| > 0,

d and c the orthogonal unit directions of s and of its only normal z. With q = d x c, turning rho
turns d at some rate along q and c at some rate against it. The derivative of the projection is 1
along d, 0 along c and 1/(1 + k) along q, k = beta rate(c) / (alpha rate(d)). So the ghost rows are
G = c and R = sqrt(k) q: the rows of the design's table, R less a multiple of G, which leaves the
ghost problem the same. Unlike gradients, which hold powers of s, all of this stays bounded where
the curve runs into an axis, and it is read off p alone: noise in a component of s that is nearly 0
is never divided by.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffoadapt._cones._base import CURVATURE_CAP, Cone, Floats, GhostRows

__all__ = ["Arc", "CurvedCone", "Regions", "closed_bracket"]

Triple = tuple[Floats, Floats, Floats]


class Regions(NamedTuple):
    """Where n points p (3, n) project to; on the curved boundary unless inside or active.

    ``inside`` (n,): p is in the cone. ``active`` (3, n): the components of p that the projection
    sets to 0 on a polyhedral face or (all three) at the apex. ``margin`` (n,): an estimate of the
    distance to another region; where p is curved, to the polyhedral ones.
    """

    inside: NDArray[np.bool_]
    active: NDArray[np.bool_]
    margin: Floats


class Arc(NamedTuple):
    """The curve at rho (n,): positive multiples of d and c, bounded for every rho.

    With S = |d|^2 and Z = |c|^2 of these multiples, the rates are ``rate_d`` sqrt(Z)/S and
    ``rate_c`` sqrt(S)/Z.
    """

    d: Triple
    c: Triple
    rate_d: Floats
    rate_c: Floats


class Split(NamedTuple):
    """p = alpha d - beta c: unit normal c (3, n), unit q (3, n), alpha, beta and k, (n,)."""

    c: Floats
    q: Floats
    alpha: Floats
    beta: Floats
    k: Floats


class CurvedCone(Cone):
    """A 3-d cone given by its regions, its curve of boundary rays and a bracket for rho."""

    mirrored: ClassVar[bool] = False
    """True where the cone is symmetric in its third component; then the curve is that of t >= 0."""

    @property
    def dim(self) -> int:
        """The number of rows, 3."""
        return 3

    @abstractmethod
    def _regions(self, p: Floats) -> Regions:
        """Classify the points p (3, n), whose largest entry is about 1."""

    @abstractmethod
    def _bracket(self, p: Floats) -> tuple[Floats, Floats]:
        """Return finite lo <= hi (n,) around the rho of the points p (3, n) with curved region."""

    @abstractmethod
    def _guess(self, s: Floats, z: Floats) -> Floats:
        """Return rho (n,) of the longer of s and z, each (n, 3); nonsense is allowed."""

    @abstractmethod
    def _arc(self, rho: Floats) -> Arc:
        """Return the curve at rho (n,)."""

    @abstractmethod
    def _rate_ratio(self, rho: Floats) -> Floats:
        """Return rate_c/rate_d of the arc, where the two may both underflow; inf is allowed."""

    def project(self, p: Floats, near: Floats | None = None) -> Floats:
        """Return the nearest points of the cone, (N, 3)."""
        unit, scale = _normalized(p, np.zeros(3))
        with np.errstate(all="ignore"):
            regions = self._regions(unit)
            s = unit * ~regions.active
            at = _curved(regions)
            if at.size:
                guess = None if near is None else self._guess(near[at], near[at] - p[at])
                split = self._split(unit[:, at], guess)
                along = np.cross(split.c, split.q, axis=0)  # q = d x c, so d = c x q
                if self.mirrored:  # mirroring c and q turns the sense of their cross product
                    along = along * np.where(unit[2, at] < 0, -1.0, 1.0)
                s[:, at] = split.alpha * along
        return np.asarray((s * scale).T)

    def violation(self, s: Floats) -> Floats:
        """Return the distance to the cone, (N,)."""
        p, scale = _normalized(s, np.zeros(3))
        with np.errstate(all="ignore"):
            regions = self._regions(p)
            gap = np.linalg.norm(p * regions.active, axis=0)
            at = _curved(regions)
            if at.size:
                gap[at] = self._split(p[:, at], self._guess(s[at], np.zeros((at.size, 3)))).beta
        return np.asarray(gap * scale)

    def dual_violation(self, z: Floats) -> Floats:
        """Return the distance to the dual cone, (N,): the norm of the projection of -z."""
        p, scale = _normalized(np.zeros(3), z)
        with np.errstate(all="ignore"):
            regions = self._regions(p)
            gap = np.linalg.norm(p * ~regions.active, axis=0)
            at = _curved(regions)
            if at.size:
                gap[at] = self._split(p[:, at], self._guess(np.zeros((at.size, 3)), z[at])).alpha
        return np.asarray(gap * scale)

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Linearize the projection onto the cone at p = s - z, see the module's docstring."""
        p, scale = _normalized(s, z)
        rows = GhostRows.empty(len(s), 3, 1, 1)
        with np.errstate(all="ignore"):
            regions = self._regions(p)
            rows.active[:] = regions.active.T
            margin = regions.margin
            at = _curved(regions)
            if at.size:
                split = self._split(p[:, at], self._guess(s[at], z[at]))
                rows.has[at, 0] = True
                rows.G[at, 0] = split.c.T
                rows.R[at, 0] = (split.q * np.sqrt(split.k)).T
                rows.sigma[at, 0] = 1.0
                margin[at] = np.minimum(margin[at], np.minimum(split.alpha, split.beta))
            np.multiply(margin, scale, out=rows.margin)
        return rows

    def _split(self, p: Floats, guess: Floats | None = None) -> Split:
        """Split the points p (3, n), all of curved region, into s and -z."""
        sign = np.where(p[2] < 0, -1.0, 1.0) if self.mirrored else 1.0
        if self.mirrored:
            p = np.stack((p[0], p[1], np.abs(p[2])))
        lo, hi = self._bracket(p)
        guess = np.zeros(len(lo)) if guess is None else np.where(np.isfinite(guess), guess, 0.0)
        rho = self._root(p, lo, hi, np.clip(guess, lo, hi))
        d, c, _, _ = self._arc(rho)
        norm_d, norm_c = np.sqrt(_dot(d, d)), np.sqrt(_dot(c, c))
        alpha = np.maximum(_dot(p, d), 0.0) / norm_d
        beta = np.maximum(-_dot(p, c), 0.0) / norm_c
        k = self._rate_ratio(rho) * (beta / alpha) * (norm_d / norm_c) ** 3
        # fmin, not minimum: 0/0 is as good as any other curvature, but it must not be NaN.
        k = np.fmin(k, CURVATURE_CAP)
        normal, turn = np.stack(c) / norm_c, np.stack(_cross(d, c)) / (norm_d * norm_c)
        normal[2] *= sign
        turn[2] *= sign
        return Split(normal, turn, alpha, beta, k)

    def _root(self, p: Floats, lo: Floats, hi: Floats, rho: Floats) -> Floats:
        """Solve p'q(rho) = 0, which falls from + to - over [lo, hi], by Newton with bisection."""
        moved = hi - lo
        moving = moved > 0
        for _ in range(100):
            if not moving.any():
                break
            d, c, rate_d, rate_c = self._arc(rho)
            skew = _dot(d, d) / _dot(c, c)
            value = _dot(p, _cross(d, c))
            slope = _dot(p, d) * rate_d / skew - _dot(p, c) * rate_c * skew
            lo, hi = np.where(value > 0, rho, lo), np.where(value > 0, hi, rho)
            step = value / slope
            newton = (lo <= rho + step) & (rho + step <= hi) & (2 * np.abs(step) <= moved)
            # Not all the way to the middle: an end may only stand for infinity.
            reach = 4 * (1 + np.abs(rho))
            step = np.where(newton, step, np.clip(0.5 * (lo + hi) - rho, -reach, reach))
            rho = np.where(moving, rho + step, rho)
            moved = np.abs(step)
            # Newton squares the relative error; a bisection does not.
            moving &= moved > np.where(newton, 1e-9, 4e-16) * (1 + np.abs(rho))
        return rho


def closed_bracket(lo: Floats, hi: Floats, far: float, limit: float) -> tuple[Floats, Floats]:
    """Return ends lo <= hi within +-limit from ends that stand at -far and far where there is none.

    An end beyond ``far`` is the root itself to rounding, for the curve is straight there; ends
    that rounding put in the wrong order are swapped.
    """
    least = np.where(lo > far, lo, np.minimum(lo, hi))
    most = np.where(hi < -far, hi, np.maximum(lo, hi))
    return np.clip(least, -limit, limit), np.clip(most, -limit, limit)


def _normalized(s: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Return (s - z)' divided by its largest entry per block, (3, N), and that entry, (N,)."""
    p = np.ascontiguousarray((s - z).T)
    scale = np.abs(p).max(axis=0)
    return p / np.where(scale > 0, scale, 1.0), scale


def _curved(regions: Regions) -> NDArray[np.intp]:
    return np.flatnonzero(~(regions.inside | regions.active.any(axis=0)))


def _dot(a: Floats | Triple, b: Triple) -> Floats:
    dot: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return dot


def _cross(a: Triple, b: Triple) -> Triple:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
