"""What `torch.compile` puts into its graphs: two operators, of the solve and of its gradient.

Imported when a call is traced for the first time, for torch's compiler takes seconds to import.
Operators take tensors and numbers only. So the function of a call travels as its key
(`Differentiable.key`), under which it is kept here, and the state between solve and gradient as the
float64 arrays of `Differentiable.pack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import forward_ad

import ffoadapt
from ffoadapt import Differentiable, DifferentiationError, ParameterError
from ffoadapt.experimental import Keyed

from . import _device
from ._arrays import as_given, common_dtype, to_numpy
from ._points import Points

__all__ = ["call", "prepare", "solve"]

_functions: dict[int, Differentiable] = {}
"""Functions that graphs call, by key: kept as long as the process, as the graphs may be."""


@torch.library.custom_op("ffoadapt::solve", mutates_args=())
def _solve(arrays: list[Tensor], number: int, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, then state."""
    if forward_ad._current_level >= 0 and any(map(_moves, arrays)):
        raise _no_tangents()
    function = _function(number)
    outputs, state = function.forward([as_given(t) for t in arrays])
    device = _place(arrays)
    tensors = [_tensor(v, device, dtype) for v in outputs]
    return tensors + [_tensor(v, device, torch.float64) for v in function.pack(state)]


@_solve.register_fake
def _(arrays: list[Tensor], number: int, dtype: torch.dtype) -> list[Tensor]:
    function, device = _function(number), _place(arrays)
    shapes = [tuple(t.shape) for t in arrays]
    outputs = [torch.empty(s, dtype=dtype, device=device) for s in function.output_shapes(shapes)]
    return outputs + [
        torch.empty(s, dtype=torch.float64, device=device) for s in function.state_shapes(shapes)
    ]


@torch.library.custom_op("ffoadapt::gradient", mutates_args=())
def _gradient(
    arrays: list[Tensor],
    state: list[Tensor],
    cotangents: list[Tensor],
    number: int,
    needed: list[bool],
) -> list[Tensor]:
    """A gradient for each array that needs one, in their order."""
    function = _function(number)
    kept = function.unpack([to_numpy(t) for t in arrays], [to_numpy(t) for t in state])
    gradients = function.vjp(kept, [to_numpy(t) for t in cotangents], needed)
    pairs = zip(gradients, arrays, strict=True)
    return [_tensor(g, t.device, t.dtype) for g, t in pairs if g is not None]


@_gradient.register_fake
def _(
    arrays: list[Tensor],
    state: list[Tensor],
    cotangents: list[Tensor],
    number: int,
    needed: list[bool],
) -> list[Tensor]:
    return [
        torch.empty(t.shape, dtype=t.dtype, device=t.device)
        for t, on in zip(arrays, needed, strict=True)
        if on
    ]


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    arrays, ctx.number, _ = inputs
    ctx.count, ctx.outputs = len(arrays), len(output) - _states(ctx.number)
    ctx.needed = [t.requires_grad for t in arrays]
    ctx.save_for_backward(*arrays, *output)


def _backward(ctx: Any, cotangents: Sequence[Any]) -> Any:
    arrays, output = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
    outputs, state = output[: ctx.outputs], output[ctx.outputs :]
    bars = [
        torch.zeros_like(t) if c is None else c
        for c, t in zip(cotangents[: ctx.outputs], outputs, strict=True)
    ]
    gradients = iter(_gradient(list(arrays), list(state), bars, ctx.number, ctx.needed))
    return [next(gradients) if on else None for on in ctx.needed], None, None


_solve.register_autograd(_backward, setup_context=_setup)


# ------------------------------------------------------ where the tensors stay on their device


@torch.library.custom_op("ffoadapt::point", mutates_args=())
def _point(P: Tensor, q: Tensor, A: Tensor, l: Tensor, u: Tensor, number: int) -> list[Tensor]:
    """See `Points.found`."""
    return list(_points(number, P.device).found(P, q, A, l, u))


@_point.register_fake
def _(P: Tensor, q: Tensor, A: Tensor, l: Tensor, u: Tensor, number: int) -> list[Tensor]:
    lead = torch.broadcast_shapes(P.shape[:-2], q.shape[:-1], A.shape[:-2], l.shape[:-1])
    x, y = q.new_empty((*lead, q.shape[-1])), l.new_empty((*lead, l.shape[-1]))
    rows = [torch.empty_like(y, dtype=torch.bool) for _ in range(2)]
    return [x, y, *rows, x.new_empty(lead, dtype=torch.bool)]


@torch.library.custom_op("ffoadapt::ghost", mutates_args=())
def _ghost(
    P: Tensor,
    A: Tensor,
    active: Tensor,
    solved: Tensor,
    top: Tensor,
    bottom: Tensor,
    number: int,
) -> list[Tensor]:
    """See `Points.columns`."""
    return list(_points(number, P.device).columns(P, A, active, solved, top, bottom))


@_ghost.register_fake
def _(
    P: Tensor,
    A: Tensor,
    active: Tensor,
    solved: Tensor,
    top: Tensor,
    bottom: Tensor,
    number: int,
) -> list[Tensor]:
    return [v.new_empty((*solved.shape, *v.shape[-2:])) for v in (top, bottom)]


def _points(number: int, device: torch.device) -> Points:
    function = _function(number)
    route = _device.on_device(function, device)
    if route is None:
        raise ParameterError("the graph was made of a solver that can no longer be used in torch")
    points = Points(device, *_device.sources(function, route, None))
    points.moves = True
    return points


class _GraphPoints(Points):
    """Points of operators: nothing that the solve does is recorded."""

    def __init__(self, number: int, *rest: Any) -> None:
        super().__init__(*rest)
        self.number = number

    def found(self, P: Any, q: Any, A: Any, l: Any, u: Any) -> tuple[Any, ...]:
        return tuple(_point(P, q, A, l, u, self.number))

    def columns(
        self, P: Any, A: Any, active: Any, solved: Any, top: Any, bottom: Any
    ) -> tuple[Any, Any]:
        w, mu = _ghost(P, A, active, solved, top, bottom, self.number)
        return w, mu


def _states(number: int) -> int:
    """How many arrays the state has."""
    function = _function(number)
    return len(function.state_shapes([(1,) * k for k in function.ndims]))


def _function(number: int) -> Differentiable:
    """The function that a graph of this process calls."""
    function = _functions.get(number)
    if function is None:
        raise ParameterError(
            "the graph calls a layer of another process, or of an earlier run: trace, compile or "
            "export it again in this one"
        )
    return function


def _moves(tensor: Tensor) -> bool:
    """Whether a tangent comes with it."""
    try:
        return forward_ad.unpack_dual(tensor, level=0).tangent is not None
    except RuntimeError:  # it does, but not here below autograd
        return True


def _no_tangents() -> DifferentiationError:
    """Torch leaves out the tangents of an operator without a word: they would be zero."""
    return DifferentiationError(
        "forward-mode derivatives (jvp, jacfwd, linearize) are not available in a graph: take them "
        "outside of torch.compile, make_fx and torch.jit.trace, or take jacrev outside of them"
    )


def _place(arrays: Sequence[Tensor]) -> torch.device:
    return next((t.device for t in arrays if t.ndim), arrays[0].device)


def _tensor(array: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    # A copy: an operator's results must not share memory with each other or its arguments.
    return torch.from_numpy(np.array(array, order="C")).to(device=device, dtype=dtype)


@torch._dynamo.nonstrict_trace
def solve(key: str, arrays: list[Tensor]) -> list[Tensor]:
    """The outputs of the function with this key, in a graph."""
    if any(t.key() == TransformType.Jvp for t in retrieve_all_functorch_interpreters()):
        raise _no_tangents()
    number = int(key)
    function = _functions.setdefault(number, Keyed.of(key))
    if route := _device.route_of(function, arrays, _place(arrays)):
        points = _device.points_of(function, route, arrays, partial(_GraphPoints, number))
        return _device.solved(function, route, arrays, points)
    outputs = len(function.output_shapes([tuple(t.shape) for t in arrays]))
    return _solve(arrays, number, common_dtype(arrays))[:outputs]


@torch._dynamo.nonstrict_trace
def call(key: str, params: tuple[Tensor, ...], arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    """What the module with this key gives, in a graph; no argument is None, as torch asks."""
    given = arguments.get("solver_args"), arguments.get("warm_start")
    return Keyed.of(key).layers(params, *given)


def prepare() -> None:
    """See `ffoadapt_torch.prepare_compile`."""
    for function in (ffoadapt.qp, ffoadapt.box_qp, ffoadapt.cone_program):
        torch.compiler.allow_in_graph(function)

    # Torch traces through `Layer`, but not through the locks of a first use: so use it once.
    @ffoadapt.box_solver
    def nothing(P: Any, q: Any, A: Any, l: Any, u: Any, options: Any) -> Any:
        return -q, 0.0 * l

    one = torch.ones(1)
    ffoadapt.box_qp(one.diag(), one, one.diag(), -2.0 * one, one, solver=nothing)
