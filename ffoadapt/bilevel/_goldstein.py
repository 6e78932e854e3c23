"""Online to nonconvex: points at which F may have kinks, and a certificate for them.

Sources: Cutkosky, Mehta and Orabona, Optimal stochastic non-smooth non-convex optimization through
online-to-non-convex conversion, ICML 2023; A fully first-order layer for differentiable
optimization, arXiv 2512.02494. The certificate here is the minimum-norm element of the gradients'
convex hull, in place of their mean: on |x| the mean stays above 0.2 where that one is 0. Points of
earlier blocks that lie within the radius count too, which costs no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from .._exceptions import ParameterError
from .._plugins.algorithm import Algorithm, BilevelState
from ._lower import hypergradient
from ._moves import check_count, check_number
from ._problem import BilevelProblem

__all__ = ["Certificate", "Goldstein"]

Arrays = list[Any]
Floats = NDArray[np.float64]

KEPT = 5
"""Blocks whose points are kept: those still within the radius serve the certificate too."""


@dataclass(frozen=True)
class Certificate:
    """That a point is (radius, epsilon)-stationary in Goldstein's sense, with the proof.

    A convex combination of gradients of F, at points within ``radius`` of ``center``, has a norm of
    at most ``epsilon``.

    Attributes
    ----------
    radius, epsilon
        What was asked for.
    center
        (n,) the point, the leaves of x one after the other.
    points, gradients
        (k, n) the points and the gradients of F there.
    weights
        (k,) of the combination; not negative, of sum 1.
    norm
        Of the combination.
    """

    radius: float
    epsilon: float
    center: Floats
    points: Floats
    gradients: Floats
    weights: Floats
    norm: float
    evaluate: Callable[[Floats], Floats] | None = field(default=None, repr=False, compare=False)

    @property
    def holds(self) -> bool:
        """Whether the norm is at most epsilon, and every point with a weight within the radius."""
        distances = np.linalg.norm(self.points - self.center, axis=1)
        inside = distances <= self.radius * (1.0 + 1e-9) + 1e-12 * np.abs(self.center).max()
        return bool(self.norm <= self.epsilon and inside[self.weights > 0.0].all())

    def check(self, gradient: Callable[[Floats], Any] | None = None) -> Certificate:
        """The certificate again, with the gradients taken anew at its points.

        ``gradient`` maps (n,) to (n,), of NumPy; without it the problem's own is asked.
        """
        function = gradient or self.evaluate
        if function is None:
            raise ParameterError("this certificate has no problem: give check() the gradient of F")
        each = [np.asarray(function(point), dtype=np.float64) for point in self.points]
        if any(g.shape != self.center.shape for g in each):
            raise ParameterError(
                f"gradient gave shape {each[0].shape}; expected {self.center.shape}"
            )
        gradients = np.stack(each)
        norm = float(np.linalg.norm(self.weights @ gradients))
        return Certificate(
            self.radius, self.epsilon, self.center, self.points, gradients, self.weights, norm,
            self.evaluate,
        )  # fmt: skip


def minimum_norm(gradients: Floats) -> tuple[Floats, float]:
    """Weights (T,) and norm of the shortest convex combination of the rows of (T, n).

    The nonnegative least squares |[G'; 1'] u - [0; 1]| with u = weights times a factor (Lawson and
    Hanson, Solving least squares problems, chapter 23).
    """
    size = float(np.abs(gradients).max(initial=0.0))
    count = len(gradients)
    if size == 0.0 or not np.isfinite(size):
        weights = np.full(count, 1.0 / count)
        return weights, 0.0 if size == 0.0 else np.inf
    rows = np.vstack([gradients.T / size, np.ones((1, count))])
    u, _ = nnls(rows, np.append(np.zeros(gradients.shape[1]), 1.0))
    weights = u / u.sum()
    return weights, float(np.linalg.norm(weights @ gradients))


@dataclass(frozen=True)
class Goldstein(Algorithm):
    """Minimizes F(x) = f(x, y(x)) where it has kinks, and ends with a `Certificate`.

    In a block of T steps, w = x + s D with s uniform in [0, 1], x moves by D, and
    D = clip(D - eta grad F(w)) to a length of radius / T; so all w lie within the radius of each
    other. Where the minimum-norm combination of the gradients at these and at earlier points within
    the radius of their mean is at most ``epsilon``, the radius is halved, from ``start_radius``
    down to ``delta``, and x goes on from the mean; at ``delta`` the run is done, and x is that
    mean. One gradient of F a step.

    Parameters
    ----------
    delta, epsilon
        The radius and the norm to certify. Where F is convex, x is then above the minimum by at
        most epsilon times the distance to it, and delta times twice the largest slope.
    start_radius
        The first radius, in the units of x; at least ``delta``.
    block
        T; even, for the mean of an odd number of +-1 is never 0.
    seed
        Of s.
    tolerance
        As for `Hypergradient`, where the lower level is a function g.
    """

    lower: ClassVar[tuple[str, ...]] = ("function", "map", "program")

    delta: float = 1e-3
    epsilon: float = 0.05
    start_radius: float = 1.0
    block: int = 20
    seed: int = 0
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check_number("delta", self.delta)
        check_number("epsilon", self.epsilon)
        check_number("start_radius", self.start_radius)
        check_count("block", self.block, 2)
        check_count("seed", self.seed, 0)
        check_number("tolerance", self.tolerance, most=0.1)

    def start(self, problem: BilevelProblem, x: Arrays, y: Arrays) -> Mapping[str, Any]:
        at = problem.flat_x.vector(x)
        return {
            "at": at,
            "move": np.zeros_like(at),
            "radius": max(self.start_radius, self.delta),
            "count": 0,
            "points": [],
            "gradients": [],
            "lower": {},
            "certificate": None,
            "done": False,
        }

    def update(
        self,
        problem: BilevelProblem,
        x: Arrays,
        y: Arrays,
        memory: Mapping[str, Any],
        batch: Any,
    ) -> tuple[Arrays, Arrays, Mapping[str, Any], Mapping[str, float]]:
        flat = problem.flat_x
        count, radius = memory["count"], memory["radius"]
        share = np.random.default_rng((self.seed, count)).random()
        at, move = memory["at"], memory["move"]
        w = problem.project_x(flat.arrays(at + share * move))
        implicit = hypergradient(problem, w, y, memory["lower"], batch, self.tolerance)
        slope = flat.vector(implicit.gradient)
        points = [*memory["points"], flat.vector(w)]
        gradients = [*memory["gradients"], slope]
        at = at + move
        move = _clipped(move, slope, radius / self.block, self.block)
        norm, certificate, done = np.nan, memory["certificate"], False
        if (count + 1) % self.block == 0:
            center = np.mean(points[-self.block :], axis=0)
            points, gradients = (part[-KEPT * self.block :] for part in (points, gradients))
            certificate = _certified(center, np.stack(points), np.stack(gradients), radius)
            norm = certificate["norm"]
            if norm <= self.epsilon:
                at, move = center, np.zeros_like(move)
                done = radius <= self.delta
                radius = max(self.delta, 0.5 * radius)
        memory = {
            "at": at,
            "move": move,
            "radius": radius,
            "count": count + 1,
            "points": points,
            "gradients": gradients,
            "lower": implicit.memory,
            "certificate": certificate,
            "done": done,
        }
        record = {"value": implicit.value, "radius": memory["radius"], "norm": norm}
        moved = problem.project_x(flat.arrays(at))
        return moved, implicit.y, memory, record

    def certificate(self, problem: BilevelProblem, state: BilevelState) -> Certificate | None:
        """Of the last full block; None before there is one."""
        last = state.memory["certificate"]
        if last is None:
            return None
        _, y = problem.leaves(state.x, state.y)
        flat = problem.flat_x

        def evaluate(point: Floats) -> Floats:
            at = flat.arrays(point)
            return flat.vector(hypergradient(problem, at, y, {}, (), self.tolerance).gradient)

        known = None if problem.batched else evaluate
        return Certificate(epsilon=self.epsilon, evaluate=known, **last)


def _certified(center: Floats, points: Floats, gradients: Floats, radius: float) -> dict[str, Any]:
    """The shortest combination of the gradients at the points within the radius."""
    near = np.linalg.norm(points - center, axis=1) <= radius
    weights, norm = minimum_norm(gradients[near])
    certificate = {"radius": radius, "center": center, "weights": weights, "norm": norm}
    return {**certificate, "points": points[near], "gradients": gradients[near]}


def _clipped(move: Floats, slope: Floats, longest: float, block: int) -> Floats:
    """D - eta grad, no longer than ``longest``, with eta = longest / (|grad| sqrt T)."""
    size = float(np.linalg.norm(slope))
    if size > 0.0:
        move = move - (longest / (size * block**0.5)) * slope
    length = float(np.linalg.norm(move))
    return move * (longest / length) if length > longest else move
