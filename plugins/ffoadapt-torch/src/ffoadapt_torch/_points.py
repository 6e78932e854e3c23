"""Solutions of programs as functions of tensors, with derivatives of every order, on any device.

Two autograd functions. `_Point` is (P, q, A, l, u) -> (x, y) of l <= Ax <= u, by a solver in torch
or of a point that is known; its derivatives are products with the inverse of its ghost system,
which are `_Ghost`, and whose derivatives are such products again: with K (w, mu) = (top, bottom)
and K (a, b) = (the cotangents on w and mu), those on P and C are -(a w' + w a')/2 and
-(mu a' + b w'). The active rows stay as they are. Where a row is weakly active, or K is singular,
there are no second derivatives.

Programs have any number of axes in front, each full or 1; the solver gets them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.autograd import forward_ad

from ffoadapt import BoxForm, DifferentiationError
from ffoadapt.experimental import BoxGhost, BoxOracle

from ._algebra import TorchAlgebra
from ._batching import front

__all__ = ["Found", "Points", "point"]

KINK = 1e-7
"""A row with slack and multiplier below this, dimensionless, is weakly active."""

Found = tuple[Any, Any, Any]
"""x (B, n), y (B, m) and whether they are solutions (B,)."""


class Points:
    """Where the points of a call come from, and what is kept of them for its derivatives.

    Parameters
    ----------
    device
        Of all tensors.
    solve
        From an oracle and programs of shapes (B, ...) to points.
    failed
        What a derivative through a failed program is, see `ffoadapt.TracedSolve`.
    settled
        Called with the states (B,) of the points, where there are to be derivatives: whether each
        is solved, has a regular ghost system, and no weakly active row. Returns None, or what it
        found out on the host: whether all are regular, and whether there are second derivatives.
    """

    def __init__(
        self,
        device: torch.device,
        solve: Callable[[BoxOracle, BoxForm], Found],
        failed: float,
        settled: Callable[[Any], tuple[bool, bool] | None],
    ) -> None:
        self.solve, self.failed, self.settled = solve, failed, settled
        self.device = device
        self.oracle = BoxOracle(TorchAlgebra(device))
        self.known: tuple[bool, bool] | None = None
        self.kept: BoxGhost | None = None
        self.moves, self.seen = False, False

    def found(self, P: Any, q: Any, A: Any, l: Any, u: Any) -> tuple[Any, ...]:
        """x, y, the active rows, which of them hold at u, and where there are no second
        derivatives."""
        given = P, q, A, l, u
        cores = (2, 1, 2, 1, 1)
        lead = torch.broadcast_shapes(
            *(v.shape[: v.ndim - core] for v, core in zip(given, cores, strict=True))
        )
        flat: list[Any] = [
            v.expand(*lead, *v.shape[v.ndim - core :]).reshape(
                prod(lead), *v.shape[v.ndim - core :]
            )
            for v, core in zip(given, cores, strict=True)
        ]
        x, y, solved = self.solve(self.oracle, BoxForm(*flat))
        p = BoxForm(*(v.expand(len(x), *v.shape[1:]) for v in flat))
        x, y = (torch.where(solved[:, None], v, torch.nan) for v in (x, y))
        if not self.moves:
            self.settled(solved[None])
            none = torch.zeros_like(y, dtype=torch.bool)
            outputs = x, y, none, none, ~solved
        else:
            at = self.oracle.placed(p, x, y)
            margin = self.oracle.measured(at.p, at.x, at.y).margin
            smooth = at.regular & (margin >= KINK)
            self.known = self.settled(torch.stack((solved, at.regular, smooth)))
            if self.known is not None and not self.known[0]:
                at = self.oracle.complete(at)
            self.kept = at
            outputs = x, y, at.active, at.at_upper, solved & ~smooth
        return tuple(v.reshape((*lead, *v.shape[1:])) for v in outputs)

    def ghosts(self, P: Any, A: Any, active: Any, solved: Any) -> BoxGhost:
        """The ghost systems, with one axis in front; those of `found` where it made them."""
        n, m = P.shape[-1], A.shape[-2]
        kept = self.kept
        if kept is not None and kept.active.shape[0] == solved.numel():
            if self.known is None and kept.inverse is None:  # this is to look at the device
                kept = self.kept = self.oracle.complete(kept)
            return kept
        lead = solved.shape
        size = prod(lead)
        P = P.expand(*lead, n, n).reshape(size, n, n)
        A, active = A.expand(*lead, m, n).reshape(size, m, n), active.reshape(size, m)
        x: Any = torch.zeros_like(P[..., 0])
        y: Any = torch.zeros_like(A[..., 0])
        p = BoxForm(P, x, A, y, y)
        at = self.oracle.system(solved.reshape(-1), p, x, y, active, active)
        return self.oracle.complete(at)

    def columns(
        self, P: Any, A: Any, active: Any, solved: Any, top: Any, bottom: Any
    ) -> tuple[Any, Any]:
        """The solutions of the ghost systems, for columns (..., n, k) and (..., m, k)."""
        at, lead = self.ghosts(P, A, active, solved), solved.shape
        flat = (
            v.expand(*lead, *v.shape[-2:]).reshape(prod(lead), *v.shape[-2:]) for v in (top, bottom)
        )
        w, mu = self.oracle.solve_columns(at, *flat)
        return w.reshape((*lead, *w.shape[1:])), mu.reshape((*lead, *mu.shape[1:]))

    def smooth_only(self) -> None:
        """Second derivatives are asked for."""
        if self.known is not None and not self.known[1]:
            raise DifferentiationError(
                "second derivatives of a solution are not available here: a row is weakly active "
                "(the gradient jumps), or the active rows or the solution are not unique. Detach "
                "the gradient, or take on_failure='nan', with NaN for these elements alone"
            )


def point(points: Points, program: Sequence[Any]) -> tuple[Any, Any]:
    """x and y."""
    points.moves = (
        _transforms_active()
        or forward_ad._current_level >= 0
        or (torch.is_grad_enabled() and any(v.requires_grad for v in program))
    )
    cores = (2, 1, 2, 1, 1)
    leads = [v.shape[: v.ndim - core] for v, core in zip(program, cores, strict=True)]
    lead = torch.broadcast_shapes(*leads)
    full = [
        v.expand(*lead, *v.shape[v.ndim - core :]) for v, core in zip(program, cores, strict=True)
    ]
    x, y, *_ = _Point.apply(points, *full)
    return x, y


class _Point(torch.autograd.Function):
    """(points, P, q, A, l, u) -> x, y, active, at_upper, rough."""

    @staticmethod
    def forward(points: Points, *program: Any) -> Any:
        return points.found(*program)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.points, P, _, A, _, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(P, A, *output)
        ctx.save_for_forward(P, A, *output)

    @staticmethod
    def backward(ctx: Any, x_bar: Any, y_bar: Any, *_: Any) -> Any:
        P, A, x, y, active, at_upper, rough = ctx.saved_tensors
        if x_bar is None and y_bar is None:
            return (None,) * 6
        solved, x, y = _solved(x, y)
        x_bar = torch.zeros_like(x) if x_bar is None else x_bar
        y_bar = torch.zeros_like(y) if y_bar is None else y_bar
        w, mu = _solve(ctx.points, P, A, active, solved, rough, x_bar, y_bar)
        failed = ctx.points.failed

        def contained(v: Any) -> Any:
            mask = solved.reshape(*solved.shape, *(1,) * (v.ndim - solved.ndim))
            return torch.where(mask, v, failed)

        gradients = (
            -(_outer(w, x) + _outer(x, w)) / 2,
            -w,
            -(_outer(y, w) + _outer(mu, x)),
            torch.where(at_upper, 0.0, mu),
            torch.where(at_upper, mu, 0.0),
        )
        return None, *map(contained, gradients)

    @staticmethod
    def jvp(ctx: Any, _: Any, dP: Any, dq: Any, dA: Any, dl: Any, du: Any) -> Any:
        P, A, x, y, active, at_upper, rough = ctx.saved_tensors
        solved, x, y = _solved(x, y)
        top, bottom = torch.zeros_like(x), torch.zeros_like(y)
        if dP is not None:
            top = top - _times(dP + dP.mT, x) / 2
        if dq is not None:
            top = top - dq
        if dA is not None:
            top, bottom = top - _times(dA.mT, y), bottom - _times(dA, x)
        if dl is not None:
            bottom = bottom + torch.where(at_upper, 0.0, dl)
        if du is not None:
            bottom = bottom + torch.where(at_upper, du, 0.0)
        moves = _solve(ctx.points, P, A, active, solved, rough, top, bottom)
        failed = ctx.points.failed
        return *(torch.where(solved[..., None], v, failed) for v in moves), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, points: Points, *program: Any) -> Any:
        aligned = _fronted(program, in_dims[1:], info.batch_size, (2, 1, 2, 1, 1))
        return _Point.apply(points, *aligned), (0,) * 5


def _solve(
    points: Points, P: Any, A: Any, active: Any, solved: Any, rough: Any, top: Any, bottom: Any
) -> tuple[Any, Any]:
    """The solution of the ghost systems for vectors."""
    bottom = torch.where(active, bottom, 0.0)
    given = P, A, active, solved, rough, top[..., None], bottom[..., None]
    w, mu = _Ghost.apply(points, *given)
    return w[..., 0], mu[..., 0]


class _Ghost(torch.autograd.Function):
    """(points, P, A, active, solved, rough, top, bottom) -> w, mu, of columns (..., n, k)."""

    @staticmethod
    def forward(points: Points, *given: Any) -> Any:
        P, A, active, solved, _, top, bottom = given
        return points.columns(P, A, active, solved, top, bottom)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.points, *given = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given[:5], *output)
        ctx.save_for_forward(*given[:5], *output)

    @staticmethod
    def backward(ctx: Any, w_bar: Any, mu_bar: Any) -> Any:
        P, A, active, solved, rough, w, mu = ctx.saved_tensors
        ctx.points.smooth_only()
        if w_bar is None and mu_bar is None:
            return (None,) * 8
        w_bar = torch.zeros_like(w) if w_bar is None else w_bar
        mu_bar = torch.zeros_like(mu) if mu_bar is None else mu_bar
        mu_bar = torch.where(active[..., None], mu_bar, 0.0)
        a, b = _Ghost.apply(ctx.points, P, A, active, solved, rough, w_bar, mu_bar)
        a, b = _told(rough, a, b)
        turned = a.mT, w.mT
        return (
            None,
            -(w @ turned[0] + a @ turned[1]) / 2,
            -(mu @ turned[0] + b @ turned[1]),
            *(None, None, None),
            a,
            b,
        )

    @staticmethod
    def jvp(
        ctx: Any, _: Any, dP: Any, dA: Any, _1: Any, _2: Any, _3: Any, top: Any, bottom: Any
    ) -> Any:
        P, A, active, solved, rough, w, mu = ctx.saved_tensors
        ctx.points.smooth_only()
        top = torch.zeros_like(w) if top is None else top
        bottom = torch.zeros_like(mu) if bottom is None else bottom
        if dP is not None:
            top = top - (dP + dP.mT) @ w / 2
        if dA is not None:
            top, bottom = top - dA.mT @ mu, bottom - dA @ w
        bottom = torch.where(active[..., None], bottom, 0.0)
        return _told(rough, *_Ghost.apply(ctx.points, P, A, active, solved, rough, top, bottom))

    @staticmethod
    def vmap(info: Any, in_dims: Any, points: Points, *given: Any) -> Any:
        """Right-hand sides of one solve are more columns of it."""
        size, dims = info.batch_size, in_dims[1:]
        if any(dim is not None for dim in dims[:5]):
            aligned = _fronted(given, dims, size, (2, 2, 1, 0, 0, 2, 2))
            return _Ghost.apply(points, *aligned), (0, 0)
        top, bottom = (
            front(v, dim, size).movedim(0, -1) for v, dim in zip(given[5:], dims[5:], strict=True)
        )
        columns = top.shape[-2:]
        solved = _Ghost.apply(points, *given[:5], top.flatten(-2), bottom.flatten(-2))
        return tuple(v.unflatten(-1, columns).movedim(-1, 0) for v in solved), (0, 0)


def _fronted(given: Sequence[Any], dims: Any, size: int, cores: Sequence[int]) -> list[Any]:
    """Tensors with the mapped axis first, and as many axes in front of their cores."""
    first = [front(v, dim, size) for v, dim in zip(given, dims, strict=True)]
    most = max(v.ndim - core for v, core in zip(first, cores, strict=True))
    return [
        v.reshape(size, *(1,) * (most - v.ndim + core), *v.shape[1:])
        for v, core in zip(first, cores, strict=True)
    ]


def _solved(x: Any, y: Any) -> tuple[Any, ...]:
    """Which points are solutions, and these, 0 elsewhere."""
    solved = torch.isfinite(x).all(-1) & torch.isfinite(y).all(-1)
    return solved, *(torch.where(solved[..., None], v, 0.0) for v in (x, y))


def _told(rough: Any, *values: Any) -> tuple[Any, ...]:
    """NaN where there are no second derivatives, and nobody could be told."""
    return tuple(torch.where(rough[..., None, None], torch.nan, v) for v in values)


def _outer(one: Any, other: Any) -> Any:
    return one[..., :, None] * other[..., None, :]


def _times(matrix: Any, vector: Any) -> Any:
    return (matrix @ vector[..., None])[..., 0]


_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
