"""torch: tensors to and from NumPy, and a `Differentiable` as an autograd function.

Three autograd functions: `_Solve`, and `_Gradient` and `_Tangent`, its vjp and jvp, which are
functions of their own so that torch.func can batch them: jacrev is a vmap over cotangents, and one
factorization serves them all. The state of a call lives in a `_Call` that travels with the graph;
the parameters travel along so that a vmap rule can see whether the solve itself was batched.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from ffoadapt import Differentiable, Framework, ParameterError

from . import _device, _functions, _second
from ._algebra import TorchAlgebra
from ._arrays import as_given, common_dtype, sparse_parts, to_numpy
from ._batching import batch_parameters, batched, front, output_ndims, unbatched

__all__ = ["TorchFramework"]


class TorchFramework(Framework):
    """Tensors of any floating dtype and device; NumPy arrays are constants, of the tensors' dtype.

    Numbers are computed in float64 on the CPU.
    """

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        plain, constants = True, False
        for a in arrays:
            if not isinstance(a, torch.Tensor):
                constants = True
            elif a.dtype is not torch.float64 or not a.is_cpu:
                plain = False
        dtype, device, given = torch.float64, _CPU, arrays
        if constants or not plain:
            tensors = [a for a in arrays if isinstance(a, torch.Tensor)]
            if not tensors:
                raise ParameterError("a torch call needs at least one tensor among its arguments")
            dtype = common_dtype(tensors)
            device = next((t.device for t in tensors if t.ndim), tensors[0].device)
            # NumPy arrays, which are constants, and lists; copies of what others may write to.
            given = [
                a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=dtype, device=device)
                for a in arrays
            ]
        # Traced, now or one level up; what torch.jit.trace records must not be this call's state.
        if torch.compiler.is_compiling() or _dispatch_modes() or _jit_tracing():
            from . import _compiled

            return list(_compiled.solve(function.key, list(given)))
        route = _device.route_of(function, given, device)
        if route is not None:
            points = _device.points_of(function, route, given)
            return _device.solved(function, route, given, points)
        solve = _Solve if _transforms_active() else _PlainSolve
        return list(solve.apply(_Call(function, dtype, device, plain), *given))

    def to_numpy(self, array: Any) -> Any:
        return as_given(array) if isinstance(array, torch.Tensor) else np.asarray(array)

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        if not isinstance(array, torch.Tensor) or array.layout is torch.strided:
            return None
        return sparse_parts(array)

    def algebra(self, like: torch.Tensor) -> TorchAlgebra:
        return TorchAlgebra(like.device)

    from_numpy = staticmethod(_functions.from_numpy)
    precise = staticmethod(_functions.precise)
    gradients = staticmethod(_functions.gradients)
    recorded = staticmethod(_functions.recorded)
    gradients_each = _functions.gradients_each
    curvature = staticmethod(_functions.curvature)


_CPU = torch.device("cpu")

_tensor = torch.from_numpy


class _Call:
    """One call: the function, where its outputs go, and its state once there is one.

    ``plain`` says that all of its tensors are float64 on the CPU.
    """

    __slots__ = ("device", "dtype", "function", "plain", "state")

    def __init__(
        self, function: Differentiable, dtype: torch.dtype, device: torch.device, plain: bool
    ) -> None:
        self.function, self.dtype, self.device, self.plain = function, dtype, device, plain
        self.state: Any = None

    def tensor(self, array: Any, like: torch.Tensor | None = None) -> torch.Tensor:
        """The array as a tensor, as the outputs of the call are or like another."""
        tensor = _tensor(np.asarray(array, order="C"))
        if self.plain:
            return tensor
        where = self if like is None else like
        return tensor.to(device=where.device, dtype=where.dtype)

    def outputs(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """Those of the function, whose state is kept."""
        try:
            arrays = [t.numpy() for t in tensors] if self.plain else list(map(as_given, tensors))
        except (RuntimeError, TypeError):  # one is sparse, negated lazily, or in a graph
            arrays = list(map(as_given, tensors))
        outputs, self.state = self.function.forward(arrays)
        if self.plain:
            return tuple([_tensor(np.asarray(v, order="C")) for v in outputs])
        return tuple(map(self.tensor, outputs))

    def gradients(
        self, needed: Sequence[bool], tensors: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """One for each of the tensors, None where it is not needed."""
        levels, arrays = self._arrays(cotangents)
        gradients = self.function.vjp(self.state, arrays, needed)
        if self.plain:
            made = [None if g is None else _tensor(np.asarray(g, order="C")) for g in gradients]
        else:
            pairs = zip(gradients, tensors, strict=True)
            made = [None if g is None else self.tensor(g, t) for g, t in pairs]
        return [None if g is None else batched(g, levels) for g in made] if levels else made

    def _arrays(self, tensors: Sequence[Any]) -> tuple[list[int], list[Any]]:
        """As NumPy's, with the axes of torch's first vmap in front, and the levels of these."""
        torch._C._vmapmode_increment_nesting()
        nesting = torch._C._vmapmode_decrement_nesting()
        if nesting:
            return unbatched(tensors, nesting)
        if self.plain:
            try:
                return [], [None if t is None else t.numpy() for t in tensors]
            except (RuntimeError, TypeError):  # see `to_numpy`
                pass
        return [], [None if t is None else to_numpy(t) for t in tensors]

    def moves(self, tangents: Sequence[Any]) -> tuple[Any, ...]:
        """The tangents on the outputs from those on the parameters."""
        levels, arrays = self._arrays(tangents)
        if not levels:
            return tuple(map(self.tensor, self.function.jvp(self.state, arrays)))
        sizes = next(a.shape[: len(levels)] for a in arrays if a is not None)
        each = [
            self.function.jvp(self.state, [None if a is None else a[k] for a in arrays])
            for k in np.ndindex(sizes)
        ]
        columns = [np.stack(c).reshape(*sizes, *c[0].shape) for c in zip(*each, strict=True)]
        return tuple(batched(self.tensor(column), levels) for column in columns)


class _Solve(torch.autograd.Function):
    """(call, *parameters) -> outputs."""

    @staticmethod
    def forward(call: _Call, *tensors: Any) -> Any:
        return call.outputs(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        needed = ctx.needs_input_grad[1:]
        tensors = ctx.saved_tensors
        if all(c is None for c in cotangents):
            return (None,) * (1 + len(tensors))
        # A graph of the gradient, or vmap over cotangents, needs the function; else skip its cost.
        if not (torch.is_grad_enabled() or _transforms_active()):
            return None, *ctx.call.gradients(needed, tensors, cotangents)
        gradients = _Gradient.apply(ctx.call, needed, len(tensors), *tensors, *cotangents)
        return None, *(g if on else None for g, on in zip(gradients, needed, strict=True))

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        return _Tangent.apply(ctx.call, len(tangents), *ctx.saved_tensors, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, *tensors: Any) -> Any:
        aligned, _, _ = batch_parameters(call.function, in_dims[1:], tensors, info.batch_size)
        outputs = _Solve.apply(call, *aligned)
        return outputs, (0,) * len(outputs)


class _PlainSolve(torch.autograd.Function):
    """`_Solve` outside torch.func, in the form of autograd function that costs torch less."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Any) -> Any:
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(*tensors)
        return call.outputs(tensors)

    backward = _Solve.backward
    jvp = _Solve.jvp


class _Gradient(torch.autograd.Function):
    """(call, which, count, *parameters, *cotangents) -> a gradient for each parameter."""

    @staticmethod
    def forward(call: _Call, needed: Any, count: int, *rest: Any) -> Any:
        tensors = rest[:count]
        gradients = call.gradients(needed, tensors, rest[count:])
        pairs = zip(gradients, tensors, strict=True)
        return tuple(t.new_zeros(()) if g is None else g for g, t in pairs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, ctx.needed, ctx.count, *rest = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*rest)
        ctx.save_for_forward(*rest)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        rest = ctx.saved_tensors
        given = [v is not None for v in rest[ctx.count :]]
        gradient = _second.gradient_of(ctx.call, ctx.needed, ctx.count, given)
        some = [b for b, on in zip(bars, ctx.needed, strict=True) if on]
        return None, None, None, *_second.pulled(gradient, rest, some)

    @staticmethod
    def jvp(ctx: Any, _0: Any, _1: Any, _2: Any, *tangents: Any) -> Any:
        rest = ctx.saved_tensors
        given = [v is not None for v in rest[ctx.count :]]
        gradient = _second.gradient_of(ctx.call, ctx.needed, ctx.count, given)
        pushed = iter(_second.pushed(gradient, rest, tangents))
        return tuple(next(pushed) if on else rest[0].new_zeros(()) for on in ctx.needed)

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, needed: Any, count: int, *rest: Any) -> Any:
        size, dims = info.batch_size, in_dims[3:]
        tensors, cotangents = rest[:count], rest[count:]
        if all(dim is None for dim in dims[:count]):  # several cotangents for one solve
            first = [
                None if c is None else front(c, dim, size)
                for c, dim in zip(cotangents, dims[count:], strict=True)
            ]
            gradients = _Gradient.apply(call, needed, count, *tensors, *first)
            return gradients, tuple(0 if on else None for on in needed)
        aligned, shapes, axes = batch_parameters(call.function, dims[:count], tensors, size)
        placed, lead = [], 0
        for c, dim, core in zip(
            cotangents, dims[count:], output_ndims(call.function, aligned), strict=True
        ):
            if c is not None:
                c = front(c, dim, size)
                lead = c.ndim - 1 - core - axes
                c = c.movedim(0, lead)  # further cotangents stay in front of the batch
            placed.append(c)
        gradients = _Gradient.apply(call, needed, count, *aligned, *placed)
        reshaped = tuple(
            g.reshape(*g.shape[: lead + 1], *shape) if on else g
            for g, shape, on in zip(gradients, shapes, needed, strict=True)
        )
        return reshaped, tuple(lead if on else None for on in needed)


class _Tangent(torch.autograd.Function):
    """(call, count, *parameters, *tangents) -> a tangent for each output."""

    @staticmethod
    def forward(call: _Call, count: int, *rest: Any) -> Any:
        return call.moves(rest[count:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, ctx.count, *rest = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*rest)
        ctx.save_for_forward(*rest)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        rest = ctx.saved_tensors
        tangent = _second.tangent_of(
            ctx.call, ctx.count, [v is not None for v in rest[ctx.count :]]
        )
        return None, None, *_second.pulled(tangent, rest, bars)

    @staticmethod
    def jvp(ctx: Any, _0: Any, _1: Any, *tangents: Any) -> Any:
        rest = ctx.saved_tensors
        tangent = _second.tangent_of(
            ctx.call, ctx.count, [v is not None for v in rest[ctx.count :]]
        )
        return tuple(_second.pushed(tangent, rest, tangents))

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, count: int, *rest: Any) -> Any:
        size, dims = info.batch_size, in_dims[2:]
        tensors, tangents = rest[:count], rest[count:]
        if not size:
            none = call.moves([None] * count)
            return tuple(t.new_empty((0, *t.shape)) for t in none), (0,) * len(none)
        if all(dim is None for dim in dims[:count]):  # several tangents for one solve
            each = []
            for k in range(size):
                pairs = zip(tangents, dims[count:], strict=True)
                moved = (t if t is None or dim is None else t.select(dim, k) for t, dim in pairs)
                each.append(_Tangent.apply(call, count, *tensors, *moved))
            stacked = tuple(torch.stack(column) for column in zip(*each, strict=True))
            return stacked, (0,) * len(stacked)
        aligned, _, _ = batch_parameters(call.function, dims[:count], tensors, size)
        placed = [
            None if t is None else front(t, dim, size).reshape(b.shape)
            for t, dim, b in zip(tangents, dims[count:], aligned, strict=True)
        ]
        outputs = _Tangent.apply(call, count, *aligned, *placed)
        return outputs, (0,) * len(outputs)


# torch asks the same in autograd.Function.apply; where a release lacks it, assume the general case.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)

_jit_tracing = getattr(torch._C, "_is_tracing", lambda: False)

_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
