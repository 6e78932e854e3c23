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

NEWTON = 4
"""Steps from a guess before a bracket is needed."""

NEAR = 20.0
"""The largest |rho| to which a guess leads: beyond, the curve is nearly straight."""

ROUNDED = 1e-9
"""A relative step of Newton's method, which squares the error, that ends at rounding."""


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
    """p = alpha d - beta c for unit d and c; here d and c are multiples, of norms norm_d, norm_c.

    d and c (3, n), with the sign of p where the cone is mirrored; the rest (n,).
    """

    rho: Floats
    d: Floats
    c: Floats
    norm_d: Floats
    norm_c: Floats
    alpha: Floats
    beta: Floats


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
    def _inside(self, p: Floats) -> NDArray[np.bool_]:
        """Whether the points p (3, n) are in the cone."""

    @abstractmethod
    def _polar(self, p: Floats) -> NDArray[np.bool_]:
        """Whether the points -p (3, n) are in the dual cone."""

    @abstractmethod
    def _room(self, p: Floats) -> Floats:
        """How far the points p (3, n), of curved region, are from the polyhedral ones."""

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
        unit, scale = _normalized(p)
        with np.errstate(all="ignore"):
            guess = None if near is None else self._guess(near, near - p)
            regions, at, split = self._located(unit, guess)
            s = unit * ~regions.active
            if at.size:
                s[:, at] = split.d * (split.alpha / split.norm_d)
        return np.asarray((s * scale).T)

    def violation(self, s: Floats) -> Floats:
        """Return the distance to the cone, (N,)."""
        p, scale = _normalized(s)
        with np.errstate(all="ignore"):
            gap = np.zeros(len(s))
            out = np.flatnonzero(~self._inside(p))
            if out.size:
                guess = self._guess(s[out], np.zeros((out.size, 3)))
                regions, at, split = self._located(p[:, out], guess)
                far = np.linalg.norm(p[:, out] * regions.active, axis=0)
                far[at] = split.beta
                gap[out] = far
        return np.asarray(gap * scale)

    def dual_violation(self, z: Floats) -> Floats:
        """Return the distance to the dual cone, (N,): the norm of the projection of -z."""
        p, scale = _normalized(-z)
        with np.errstate(all="ignore"):
            gap = np.zeros(len(z))
            out = np.flatnonzero(~self._polar(p))
            if out.size:
                guess = self._guess(np.zeros((out.size, 3)), z[out])
                regions, at, split = self._located(p[:, out], guess)
                far = np.linalg.norm(p[:, out] * ~regions.active, axis=0)
                far[at] = split.alpha
                gap[out] = far
        return np.asarray(gap * scale)

    def linearize(self, s: Floats, z: Floats) -> GhostRows:
        """Linearize the projection onto the cone at p = s - z, see the module's docstring."""
        p, scale = _normalized(s - z)
        rows = GhostRows.empty(len(s), 3, 1, 1)
        with np.errstate(all="ignore"):
            regions, at, split = self._located(p, self._guess(s, z))
            rows.active[:] = regions.active.T
            margin = regions.margin
            if at.size:
                _, d, c, norm_d, norm_c, alpha, beta = split
                k = self._rate_ratio(split.rho) * (beta / alpha) * (norm_d / norm_c) ** 3
                # fmin, not minimum: 0/0 is as good as any other curvature, but it must not be NaN.
                k = np.fmin(k, CURVATURE_CAP)
                rows.has[at, 0] = True
                rows.G[at, 0] = (c / norm_c).T
                # Where mirroring turns d and c, it turns their cross product the other way: a row
                # is as good as its negative.
                rows.R[at, 0] = (np.array(_cross(d, c)) * (np.sqrt(k) / (norm_d * norm_c))).T
                rows.sigma[at, 0] = 1.0
                margin[at] = np.minimum(margin[at], np.minimum(alpha, beta))
            np.multiply(margin, scale, out=rows.margin)
        return rows

    def _located(self, p: Floats, guess: Floats | None) -> tuple[Regions, NDArray[np.intp], Split]:
        """The regions of the points p (3, n), which of them are curved, and the split of these.

        Where Newton's method from the guess ends at once at a rho with alpha, beta > 0, p is
        curved and split: s and z there satisfy the conditions that only the projection satisfies.
        """
        sign = np.where(p[2] < 0, -1.0, 1.0) if self.mirrored else None
        up = p if sign is None else np.array((p[0], p[1], np.abs(p[2])))
        n = p.shape[1]
        regions = Regions(np.zeros(n, dtype=bool), np.zeros((3, n), dtype=bool), self._room(p))
        rho, left = np.zeros(n), np.arange(n)
        if guess is not None:
            rho, converged = self._newton(up, guess)
            split = self._split(up, rho, sign)
            left = np.flatnonzero(~(converged & (split.alpha > 0) & (split.beta > 0)))
            if not left.size:
                return regions, np.arange(n), split
        inside, active, margin = regions
        inside[left], active[:, left], margin[left] = self._regions(p[:, left])
        curved = ~(inside | active.any(axis=0))
        on = left[curved[left]]
        if on.size:
            lo, hi = self._bracket(up[:, on])
            first = np.zeros(on.size) if guess is None else guess[on]
            first = np.where(np.isfinite(first), first, 0.0)
            rho[on] = self._root(up[:, on], lo, hi, np.clip(first, lo, hi))
        at = np.flatnonzero(curved)
        return regions, at, self._split(up[:, at], rho[at], None if sign is None else sign[at])

    def _split(self, p: Floats, rho: Floats, sign: Floats | None) -> Split:
        """Split the points p (3, n), third entry >= 0 if mirrored, at these rho."""
        d, c, _, _ = self._arc(rho)
        norm_d, norm_c = np.sqrt(_dot(d, d)), np.sqrt(_dot(c, c))
        alpha = np.maximum(_dot(p, d), 0.0) / norm_d
        beta = np.maximum(-_dot(p, c), 0.0) / norm_c
        slack, normal = np.array(d), np.array(c)
        if sign is not None:
            slack[2] *= sign
            normal[2] *= sign
        return Split(rho, slack, normal, norm_d, norm_c, alpha, beta)

    def _newton(self, p: Floats, rho: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Newton's method for p'q(rho) = 0 from a guess: rho, and where it has converged."""
        moving = np.abs(rho) <= NEAR  # not where NaN
        converged = np.zeros(rho.size, dtype=bool)
        for _ in range(NEWTON):
            step = self._step(p, rho)[1]
            rho = np.where(moving, rho + step, rho)
            converged |= moving & (np.abs(step) <= ROUNDED * (1 + np.abs(rho)))
            moving &= ~converged & (np.abs(rho) <= NEAR)
            if not moving.any():
                break
        return rho, converged

    def _step(self, p: Floats, rho: Floats) -> tuple[Floats, Floats]:
        """p'q at rho, and Newton's step to its root."""
        d, c, rate_d, rate_c = self._arc(rho)
        skew = _dot(d, d) / _dot(c, c)
        value = _dot(p, _cross(d, c))
        return value, value / (_dot(p, d) * rate_d / skew - _dot(p, c) * rate_c * skew)

    def _root(self, p: Floats, lo: Floats, hi: Floats, rho: Floats) -> Floats:
        """Solve p'q(rho) = 0, which falls from + to - over [lo, hi], by Newton with bisection."""
        moved = hi - lo
        moving = moved > 0
        for _ in range(100):
            if not moving.any():
                break
            value, step = self._step(p, rho)
            lo, hi = np.where(value > 0, rho, lo), np.where(value > 0, hi, rho)
            newton = (lo <= rho + step) & (rho + step <= hi) & (2 * np.abs(step) <= moved)
            # Not all the way to the middle: an end may only stand for infinity.
            reach = 4 * (1 + np.abs(rho))
            step = np.where(newton, step, np.clip(0.5 * (lo + hi) - rho, -reach, reach))
            rho = np.where(moving, rho + step, rho)
            moved = np.abs(step)
            # Newton squares the relative error; a bisection does not.
            moving &= moved > np.where(newton, ROUNDED, 4e-16) * (1 + np.abs(rho))
        return rho


def closed_bracket(lo: Floats, hi: Floats, far: float, limit: float) -> tuple[Floats, Floats]:
    """Return ends lo <= hi within +-limit from ends that stand at -far and far where there is none.

    An end beyond ``far`` is the root itself to rounding, for the curve is straight there; ends
    that rounding put in the wrong order are swapped.
    """
    least = np.where(lo > far, lo, np.minimum(lo, hi))
    most = np.where(hi < -far, hi, np.maximum(lo, hi))
    return np.clip(least, -limit, limit), np.clip(most, -limit, limit)


def _normalized(p: Floats) -> tuple[Floats, Floats]:
    """Return p' divided by its largest entry per block, (3, N), and that entry, (N,)."""
    p = np.ascontiguousarray(p.T)
    scale = np.abs(p).max(axis=0)
    return p / np.where(scale > 0, scale, 1.0), scale


def _dot(a: Floats | Triple, b: Floats | Triple) -> Floats:
    dot: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return dot


def _cross(a: Floats | Triple, b: Floats | Triple) -> Triple:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
