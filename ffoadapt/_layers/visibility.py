"""What a user sees of a program: its outputs, and the gradients of its parameters.

Canonical programs have variables of their own, such as the bounds of norms, and rows with them. A
weakly active row, or a variable that is not determined, is no fault of a gradient if nobody sees
it. Which weakly active rows are so only because of the solver's choice among many solutions is
found by `_oracle.faces`. Of the others, W, see what a change t of the parameters makes: dx
minimizes the quadratic model subject to A_i dx = h_i in the active rows and A_i dx <= h_i in W,
with h linear in t. Let dx0 be its minimum without the rows of W, r_i = A_i dx0 - h_i what it
violates, and V_i the response to a push on row i, one more unit of its multiplier. Then

    dx = dx0 + sum_i V_i u_i,     u >= 0,    M u >= r,    u'(M u - r) = 0,    M_ij = -A_i V_j,

so the outputs are linear in t, whatever the rows do, if they do not see the sum. They do not where

- no parameter moves the rows: r = 0 for all t, hence u'Mu = 0 and dx = dx0; or
- no output moves with the rows: those do not see any V_i.

Both are asked of a random combination of the rows, and by transposition of the same vectors: the
response to a push on row i is also the gradient of its slack. If M falls into blocks, every block
may have its own reason. That is sufficient, not necessary; what is left is called a kink. Rows
that a push cannot move, since other weakly active rows hold them, are in one block with all such.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from .._oracle.active_set import Scales
from .._oracle.gradient import Adjoint, Oracle
from .._plugins.modeler import ParametricProgram
from .._program.points import Points
from .._types import Floats

__all__ = ["View"]

Mask = NDArray[np.bool_]

UNSEEN = 1e-9
"""An output counts as unchanged below this relative size."""

ROUNDED = 1e-4
"""See `_random`."""

SAME = 1e-7
"""Gradients with a relative difference below this, but for what `UNSEEN` allows, are the same."""

UNMOVED = 1e-8
"""A push that leaves more than this share of itself moves nothing."""

MANY = 1000
"""More rows than this are not looked at one by one."""


class View:
    """The outputs and parameters of a model, as the oracle asks for them."""

    def __init__(self, model: ParametricProgram) -> None:
        self.model = model
        self._needed = [True] * len(model.parameters)

    def sees(self, oracle: Oracle, w: Floats, zeta: Floats) -> tuple[bool, bool]:
        """Whether an output, and whether the gradient of a parameter, changes with a ghost solution
        w (B, n), zeta (B, m)."""
        batch, points = oracle.batch, oracle.points
        w_most, zeta_most = _random(oracle.scales, w, zeta)
        outputs = (
            self.model.retrieve_jvp(w, -batch.multiply("A", w), zeta, batch),
            self.model.retrieve_jvp(w_most, -batch.multiply("A", w_most), zeta_most, batch),
        )
        gradients = (
            self.gradient(Adjoint(batch, points, w, zeta)),
            self.gradient(Adjoint(batch, points, w_most, zeta_most)),
        )
        return _changed(*outputs), _changed(*gradients)

    def blind(self, oracle: Oracle) -> bool:
        """Whether nobody sees what the ghost problem of a single element leaves open.

        The gradient at the point is one thing, that at another solution the other: gradients of P
        and A are products with x and z.
        """
        null = oracle.factors.null(0)
        if null is None:
            return True
        return not any(self.sees(oracle, *null)) and self._same(oracle, oracle, null)

    def gradient(self, adjoint: Adjoint) -> list[Floats]:
        """The gradients of all parameters."""
        gradients = self.model.program_vjp(adjoint, self._needed)
        return [grad for grad in gradients if grad is not None]

    def quiet(self, oracle: Oracle, i: int, doubtful: Mask) -> bool:
        """Whether what is weakly active in element ``i`` shows nowhere, nor in its gradient.

        ``doubtful`` (m,) are the rows of nonnegative cones of which nobody knows whether they are
        active.
        """
        used = oracle.alone(i)
        faces = oracle.faces(i, doubtful)
        active = used.ghost.active[0]
        right = (active & ~faces.inactive & ~faces.stuck) | faces.active
        other = used if (right == active).all() else used.holding(right[None])
        if not self.blind(other):
            return False
        if faces.stuck.any() and not self._unseen(other, np.flatnonzero(faces.stuck)):
            return False
        return other is used or self._same(used, other, other.factors.null(0))

    def _unseen(self, oracle: Oracle, rows: NDArray[np.intp]) -> bool:
        """Whether nobody sees a kink in these rows, none of which is active in the oracle."""
        batch, k = oracle.batch, rows.size
        if k > MANY:
            return False
        push = np.zeros((k, 1, batch.structure.m))
        push[np.arange(k), 0, rows] = 1.0 / batch.norms[0, rows]
        v_x = -batch.multiply("A", push, transpose=True)
        w, zeta = oracle.solve(v_x, np.zeros_like(push))
        left = v_x - batch.multiply("P", w) - batch.multiply("A", zeta, transpose=True)
        unmoved = _size(left) > UNMOVED * _size(v_x)
        zeta += push
        M = -batch.multiply("A", w)[:, 0, rows] / batch.norms[0, rows]
        size = np.sqrt(np.maximum(M.diagonal(), 0.0))
        joined = np.abs(M) > UNSEEN * (size[:, None] * size)
        joined |= unmoved[:, None] & unmoved
        count, labels = connected_components(sparse.csr_array(joined), directed=False)
        weights = np.random.default_rng(1).uniform(0.5, 1.5, (k, 1, 1))
        for label in [None, *range(count)] if count > 1 else [None]:
            at = slice(None) if label is None else labels == label
            sums = ((weights[at] * v[at]).sum(axis=0) for v in (w, zeta))
            if not all(self.sees(oracle, *sums)):
                if label is None:
                    return True
            elif label is not None:
                return False
        return count > 1

    def _same(self, used: Oracle, other: Oracle, null: tuple[Floats, Floats] | None) -> bool:
        """Whether both give the same gradient, also at another point of the face."""
        batch, points, rng = used.batch, used.points, np.random.default_rng(2)
        cotangents = [rng.standard_normal((1, *shape)) for _, shape in self.model.outputs]
        v = self.model.retrieve_vjp(cotangents, batch)
        pair = [used.vjp(*v), other.vjp(*v)] if other is not used else [used.vjp(*v)] * 2
        first, second = ((adjoint.w, adjoint.zeta) for adjoint in pair)
        if null is not None:
            scale, (dx, dz) = used.scales, null
            sizes = _size(dx / scale.primal), _size(scale.dual(dz))
            unit = max(float(sizes[0].max()), float(sizes[1].max()))
            x, z = points.x + dx / unit, points.z + dz / unit
            points = Points(x, points.s, z, points.status, points.info)
        most = self.gradient(Adjoint(batch, points, *_random(used.scales, *first)))
        pairs = zip(
            self.gradient(Adjoint(batch, used.points, *first)),
            self.gradient(Adjoint(batch, points, *second)),
            most,
            strict=True,
        )
        for a, b, c in pairs:
            size = np.maximum(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
            allowed = SAME * size + UNSEEN * np.abs(c).max(initial=0.0)
            if not np.abs(a - b).max(initial=0.0) <= allowed:
                return False
        return True


def _random(scale: Scales, w: Floats, zeta: Floats) -> tuple[Floats, Floats]:
    """Random w and zeta of the largest size in those given. One that is less than `ROUNDED` of the
    other, both dimensionless, is made larger: it may be rounding."""
    rng = np.random.default_rng(0)
    size = float(max(np.abs(w / scale.primal).max(), np.abs(scale.dual(zeta)).max(initial=0.0)))
    w_most = np.maximum(np.abs(w).max(), ROUNDED * size * scale.primal)
    zeta_most = np.maximum(np.abs(zeta).max(initial=0.0), ROUNDED * size / scale.dual_rate)
    # Of signs alone, sums and differences may vanish.
    signs = (rng.choice([-1.0, 1.0], v.shape) * rng.uniform(0.5, 1.5, v.shape) for v in (w, zeta))
    return next(signs) * w_most, next(signs) * zeta_most


def _size(values: Floats) -> Floats:
    """The largest magnitude in each row, all but the first axis of which are counted."""
    return np.abs(values).reshape(len(values), -1).max(axis=1, initial=0.0)


def _changed(changes: Sequence[Floats], most: Sequence[Floats]) -> bool:
    pairs = zip(changes, most, strict=True)
    return any(
        np.abs(change).max(initial=0.0) > UNSEEN * np.abs(at_most).max(initial=0.0)
        for change, at_most in pairs
    )
