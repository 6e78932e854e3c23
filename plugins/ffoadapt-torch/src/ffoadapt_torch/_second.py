"""Derivatives of derivatives of a solution that the host has found.

They are those of a function in torch: the user's tensors make a program l <= Ax <= u, the point of
which is known and moves with the program as `_points` says, and make the outputs of it. Only
programs of zero and nonnegative cones, of moderate size, are written so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from ffoadapt import BoxForm, Differentiable, DifferentiationError, TracedSolve

from . import _device
from ._namespace import namespace
from ._points import Points

__all__ = ["gradient_of", "pulled", "pushed", "tangent_of"]

_vjp: Any = torch.func.vjp
_jvp: Any = torch.func.jvp

Outputs = Callable[..., tuple[Any, ...]]


def gradient_of(
    call: Any, needed: Sequence[bool], count: int, given: Sequence[bool]
) -> Callable[..., tuple[Any, ...]]:
    """The gradient, for the tensors that are ``needed``, as a function of the ``count`` tensors and
    of those cotangents that are ``given``, which may have more axes in front of their batch."""
    outputs = _outputs(call)

    def gradient(*values: Any) -> tuple[Any, ...]:
        tensors, each = values[:count], iter(values[count:])
        results, pull = _vjp(outputs, *tensors)
        bars = [
            next(each) if on else torch.zeros_like(v) for on, v in zip(given, results, strict=True)
        ]
        extra = max(bar.ndim - v.ndim for bar, v in zip(bars, results, strict=True))
        full = torch.broadcast_shapes(
            *(bar.shape[:extra] for bar, v in zip(bars, results, strict=True) if bar.ndim > v.ndim)
        )
        bars = [b.expand(*full, *v.shape) for b, v in zip(bars, results, strict=True)]
        for _ in range(extra):
            pull = torch.func.vmap(pull)
        return tuple(g for g, on in zip(pull(tuple(bars)), needed, strict=True) if on)

    return gradient


def tangent_of(call: Any, count: int, given: Sequence[bool]) -> Callable[..., tuple[Any, ...]]:
    """The tangents on the outputs, as a function of the tensors and the tangents ``given``."""
    outputs = _outputs(call)

    def tangent(*values: Any) -> tuple[Any, ...]:
        tensors, each = values[:count], iter(values[count:])
        moves = [
            next(each) if on else torch.zeros_like(v) for on, v in zip(given, tensors, strict=True)
        ]
        tangents: tuple[Any, ...] = _jvp(outputs, tuple(tensors), tuple(moves))[1]
        return tangents

    return tangent


def pulled(function: Outputs, given: Sequence[Any], bars: Sequence[Any]) -> list[Any]:
    """Cotangents on what is given, None for None, of a function of what is not None."""
    values, pull = _vjp(function, *(v for v in given if v is not None))
    full = [torch.zeros_like(v) if b is None else b for v, b in zip(values, bars, strict=True)]
    each = iter(pull(tuple(full)))
    return [None if v is None else next(each) for v in given]


def pushed(function: Outputs, given: Sequence[Any], moves: Sequence[Any]) -> tuple[Any, ...]:
    """The tangents of such a function."""
    pairs = [(v, m) for v, m in zip(given, moves, strict=True) if v is not None]
    values = tuple(v for v, _ in pairs)
    full = tuple(torch.zeros_like(v) if m is None else m for v, m in pairs)
    if forward_ad._current_level < 0 or _transforms_active():
        return _jvp(function, values, full)[1]
    # Forward mode is not nested outside of torch.func: twice the reverse one is forward mode.
    outputs, pull = _vjp(function, *values)
    _, turned = _vjp(lambda *bars: pull(bars), *map(torch.zeros_like, outputs))
    return turned(full)


def _outputs(call: Any) -> Outputs:
    """The outputs of a call of the host, as a function of its tensors."""
    function: Differentiable = call.function
    device = torch.device("cpu") if call.device.type == "mps" else call.device
    route = function.maps(namespace(device))
    if route is None:
        raise DifferentiationError(
            "second derivatives of a solution are not available here: there are those of programs "
            "with zero and nonnegative cones, of moderate size, without smoothing, finite steps or "
            "the closest feasible program. Detach the gradient, or take finite differences of it"
        )
    points = Points(device, _known(function, call.state, device), route.failed, _settled(route))

    def outputs(*tensors: Any) -> tuple[Any, ...]:
        return tuple(_device.solved(function, route, tensors, points))

    return outputs


def _known(
    function: Differentiable, state: Any, device: torch.device
) -> Callable[[Any, BoxForm], Any]:
    arrays = function.pack(state)
    x, y = (
        torch.from_numpy(v.reshape(-1, v.shape[-1])).to(device) for v in (arrays[0], arrays[-1])
    )

    def solve(_: Any, p: BoxForm) -> Any:
        return x, y, torch.isfinite(x).all(-1) & torch.isfinite(y).all(-1)

    return solve


def _settled(route: TracedSolve) -> Callable[[Any], tuple[bool, bool] | None]:
    raises = route.failed != 0.0

    def settled(states: Any) -> tuple[bool, bool] | None:
        every = states.all(-1).tolist()
        return (every[1], every[2] or not raises) if len(every) > 1 else None

    return settled


_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
