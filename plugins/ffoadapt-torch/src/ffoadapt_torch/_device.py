"""Calls whose tensors stay where they are: the solver and the oracle are in torch, too.

From the user's tensors to a program l <= Ax <= u and back it is torch's own operations; the
solution in between is `_points.point`. Nothing is computed on the host, and nothing waits for the
device but for one status of a call, where a failure is to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from ffoadapt import BoxForm, Differentiable, ParameterError, SolveError, TracedSolve

from ._arrays import as_given, common_dtype, to_numpy
from ._namespace import namespace
from ._points import Points, point

__all__ = ["on_device", "points_of", "route_of", "solved", "sources"]

HALVES = (torch.float16, torch.bfloat16)


def route_of(
    function: Differentiable, tensors: Sequence[Any], device: torch.device
) -> TracedSolve | None:
    """The solve in torch's arrays for these tensors; None where the host has to be asked."""
    pairs = zip(tensors, function.ndims, strict=True)
    if any(0 in t.shape[: max(t.ndim - core, 0)] for t, core in pairs):  # a batch of none
        return None
    return on_device(function, device)


def on_device(function: Differentiable, device: torch.device) -> TracedSolve | None:
    """The solve in torch's arrays on the device; None where the host has to be asked."""
    if device.type == "mps":  # it has no float64
        return None
    xp = namespace(device)
    return function.traced("torch", xp, auto=xp.waits)


def solved(
    function: Differentiable, route: TracedSolve, tensors: Sequence[Any], points: Points
) -> list[Any]:
    """The outputs, of the tensors' dtype and on their device."""
    dtype, device = common_dtype(tensors), points.device
    given = [t.to(device=device, dtype=torch.float64) for t in tensors]
    shapes = [t.shape[: t.ndim - core] for t, core in zip(given, function.ndims, strict=True)]
    lead = torch.broadcast_shapes(*shapes)
    function.output_shapes([tuple(t.shape) for t in given])  # refuses what does not fit
    program = BoxForm(*_mapped(_program(route), given, function.ndims, lead))
    x, y = point(points, (program.P, program.q, program.A, program.l, program.u))
    parts = (program.P, program.q, program.A, program.l, program.u, x, y)
    outputs = _mapped(_outputs(route), parts, (2, 1, 2, 1, 1, 1, 1), x.shape[:-1])
    if points.seen and not _transforms_active():
        shapes = [tuple(t.shape) for t in tensors]
        function.observe(shapes, _fetching(route, tensors, program, x, y, lead))
    return [v.reshape((*lead, *v.shape[x.ndim - 1 :])).to(dtype) for v in outputs]


def points_of(
    function: Differentiable, route: TracedSolve, tensors: Sequence[Any], made: Any = Points
) -> Any:
    """The points of a call with these tensors."""
    dtype, device = common_dtype(tensors), _device(function, tensors)
    if dtype in HALVES:
        raise ParameterError(
            f"the tensors are {str(dtype).removeprefix('torch.')}; a program is solved in float64, "
            "and its numbers must be known to float32 at least: convert them with .float()"
        )
    points = made(device, *sources(function, route, tensors))
    points.seen = made is Points
    return points


def sources(function: Differentiable, route: TracedSolve, tensors: Sequence[Any] | None) -> Any:
    """What `Points` takes, without the device. The tensors are the user's, where they are at hand:
    errors speak of them."""
    return _solver(route), route.failed, _settling(function, route, tensors)


def _program(route: TracedSolve) -> Callable[..., Any]:
    def made(*values: Any) -> Any:
        p = route.program(values)
        return p.P, p.q, p.A, p.l, p.u

    return made


def _outputs(route: TracedSolve) -> Callable[..., Any]:
    def made(*parts: Any) -> Any:
        return tuple(route.outputs(BoxForm(*parts[:5]), *parts[5:]))

    return made


def _mapped(
    function: Callable[..., Any], given: Sequence[Any], cores: Sequence[int], lead: Any
) -> Any:
    """The function of one element, of all: its results have one axis in front if there are any.

    What has no axis of its own stays one.
    """
    if not lead:
        return function(*given)
    flat, dims = [], []
    for k, (value, core) in enumerate(zip(given, cores, strict=True)):
        own, shape = value.shape[: value.ndim - core], value.shape[value.ndim - core :]
        shared = prod(own) == 1 and (prod(lead) != 1 or k > 0)
        flat.append(value.reshape(shape) if shared else value.expand(*lead, *shape))
        flat[-1] = flat[-1] if shared else flat[-1].reshape(prod(lead), *shape)
        dims.append(None if shared else 0)
    return torch.func.vmap(function, tuple(dims))(*flat)


def _solver(route: TracedSolve) -> Callable[[Any, BoxForm], Any]:
    """From programs to points that are polished and judged."""

    def solve(oracle: Any, p: BoxForm) -> Any:
        x, y, fine = route.solve(p)
        y = oracle.signed(p, y)
        if route.polish:
            x, y = oracle.polished(p, x, y)
        fine = fine & oracle.convex(p.P)
        fine = fine & torch.isfinite(x).all(-1) & torch.isfinite(y).all(-1)
        return x, y, fine & (oracle.residual(p, x, y) <= route.limit)

    return solve


def _settling(
    function: Differentiable, route: TracedSolve, tensors: Sequence[Any] | None
) -> Callable[[Any], tuple[bool, bool] | None]:
    """Looks at the states of the points where a failure is to raise, or to look costs nothing."""
    raises = route.failed != 0.0

    def settled(states: Any) -> tuple[bool, bool] | None:
        if not raises and namespace(states.device).waits:
            return None
        every = states.all(-1).tolist()
        if raises and not every[0]:
            raise _failure(function, states[0], tensors)
        return (every[1], every[2] or not raises) if len(every) > 1 else None

    return settled


def _failure(function: Differentiable, fine: Any, tensors: Sequence[Any] | None) -> Exception:
    """What is wrong, in the words of the host, which sees the tensors for this."""
    try:
        if tensors is not None and not _transforms_active():
            function.forward([as_given(t) for t in tensors])
    except RuntimeError as error:
        if isinstance(error, SolveError):
            return error
    except ValueError as error:
        return error
    bad = (~fine).nonzero()[:, 0].tolist()
    where = f" of batch elements {bad[:5]}" if fine.numel() > 1 else ""
    return SolveError(
        f"the solver in torch found no solution{where}: infeasible, unbounded, or too hard for it. "
        "Another solver may, from the host; with on_failure='nan' these elements alone are NaN"
    )


def _fetching(route: TracedSolve, tensors: Any, program: BoxForm, x: Any, y: Any, lead: Any) -> Any:
    """What the host has to know for a report, should anybody ask for one."""
    kept = [t.detach() for t in tensors]
    parts: list[Any] = [program.P, program.q, program.A, program.l, program.u, x, y]
    parts = [v.detach() for v in parts]

    def fetch() -> tuple[list[Any], list[Any], str]:
        state = _mapped(
            lambda *v: tuple(route.pack(BoxForm(*v[:5]), *v[5:])),
            parts,
            (2, 1, 2, 1, 1, 1, 1),
            x.shape[:-1],
        )
        arrays = [to_numpy(v.reshape((*lead, *v.shape[x.ndim - 1 :]))) for v in state]
        return [to_numpy(t) for t in kept], arrays, route.name

    return fetch


def _device(function: Differentiable, tensors: Sequence[Any]) -> torch.device:
    """The one of all tensors; numbers alone may be elsewhere."""
    names = getattr(function, "names", range(len(tensors)))
    on: dict[torch.device, str] = {}
    for name, t in zip(names, tensors, strict=True):
        if t.ndim:
            on.setdefault(t.device, f"{name} on {t.device}")
    if len(on) > 1:
        raise ParameterError(
            f"the tensors are on several devices: {', '.join(on.values())}. Move them to one"
        )
    return next(iter(on), tensors[0].device)


_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
