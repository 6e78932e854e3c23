"""torch: tensors to and from NumPy, and a `Differentiable` as an autograd function.

Three autograd functions: `_Solve`, and `_Gradient` and `_Tangent`, its vjp and jvp, which are
functions of their own so that torch.func can batch them: jacrev is a vmap over cotangents, and one
factorization serves them all. The state of a call lives in a `_Call` that travels with the graph;
the parameters travel along so that a vmap rule can see whether the solve itself was batched.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from ffoadapt import Differentiable, DifferentiationError, Framework, ParameterError, ShapeError

from . import _functions

__all__ = ["TorchFramework"]


class TorchFramework(Framework):
    """Tensors of any floating dtype and device; NumPy arrays are constants, of the tensors' dtype.

    Numbers are computed in float64 on the CPU.
    """

    def apply(self, function: Differentiable, arrays: Sequence[Any]) -> list[Any]:
        tensors = [a for a in arrays if isinstance(a, torch.Tensor)]
        if not tensors:
            raise ParameterError("a torch call needs at least one tensor among its arguments")
        double = torch.float64
        plain = not [t for t in tensors if t.dtype is not double or not t.is_cpu]
        dtype = double if plain else common_dtype(tensors)
        device = _CPU if plain else next((t.device for t in tensors if t.ndim), tensors[0].device)
        given = tensors
        if len(tensors) != len(arrays):
            # NumPy arrays, which are constants, and lists; copies of what others may write to.
            given = [
                a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=dtype, device=device)
                for a in arrays
            ]
        # Traced, now or one level up; what torch.jit.trace records must not be this call's state.
        if torch.compiler.is_compiling() or _dispatch_modes() or _jit_tracing():
            from . import _compiled

            return list(_compiled.solve(id(function), given))
        solve = _Solve if _transforms_active() else _PlainSolve
        return list(solve.apply(_Call(function, dtype, device, plain), *given))

    def to_numpy(self, array: Any) -> Any:
        return as_given(array) if isinstance(array, torch.Tensor) else np.asarray(array)

    def sparse_parts(self, array: Any) -> tuple[Any, Any, Any] | None:
        if not isinstance(array, torch.Tensor) or array.layout == torch.strided:
            return None
        coo = (array if array.layout == torch.sparse_coo else array.to_sparse_coo()).coalesce()
        if coo.dim() != 2:
            return None, None, None  # refused by its shape
        if coo.dense_dim():
            raise ShapeError(
                "a sparse tensor with a dense dimension; expected one without. Convert it with "
                ".to_dense().to_sparse()"
            )
        rows, columns = coo.indices().cpu().numpy()
        return rows, columns, coo.values()

    from_numpy = staticmethod(_functions.from_numpy)
    precise = staticmethod(_functions.precise)
    gradients = staticmethod(_functions.gradients)
    gradients_each = _functions.gradients_each
    curvature = staticmethod(_functions.curvature)


_CPU = torch.device("cpu")


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

    def arrays(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """The parameters as they were given."""
        if self.plain:
            try:
                return [tensor.numpy() for tensor in tensors]
            except (RuntimeError, TypeError):  # see `to_numpy`
                pass
        return list(map(as_given, tensors))

    def tensor(self, array: Any, like: torch.Tensor | None = None) -> torch.Tensor:
        """The array as a tensor, as the outputs of the call are or like another."""
        found = torch.from_numpy(np.asarray(array, order="C"))
        if self.plain:
            return found
        where = self if like is None else like
        return found.to(device=where.device, dtype=where.dtype)

    def gradients(
        self, needed: Sequence[bool], tensors: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """One for each of the tensors, None where it is not needed."""
        levels, arrays = _unbatched(cotangents)
        found = self.function.vjp(self.state, arrays, needed)
        if self.plain and not levels:
            asarray, tensor = np.asarray, torch.from_numpy
            return [None if g is None else tensor(asarray(g, None, "C")) for g in found]
        return [
            None if g is None else _batched(self.tensor(g, t), levels)
            for g, t in zip(found, tensors, strict=True)
        ]

    def moves(self, tangents: Sequence[Any]) -> tuple[Any, ...]:
        """The tangents on the outputs from those on the parameters."""
        levels, arrays = _unbatched(tangents)
        if not levels:
            return tuple(map(self.tensor, self.function.jvp(self.state, arrays)))
        sizes = next(a.shape[: len(levels)] for a in arrays if a is not None)
        each = [
            self.function.jvp(self.state, [None if a is None else a[k] for a in arrays])
            for k in np.ndindex(sizes)
        ]
        columns = [np.stack(c).reshape(*sizes, *c[0].shape) for c in zip(*each, strict=True)]
        return tuple(_batched(self.tensor(column), levels) for column in columns)


class _Solve(torch.autograd.Function):
    """(call, *parameters) -> outputs."""

    @staticmethod
    def forward(call: _Call, *tensors: Any) -> Any:
        outputs, call.state = call.function.forward(call.arrays(tensors))
        return tuple(map(torch.from_numpy if call.plain else call.tensor, outputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        needed = ctx.needs_input_grad[1:]
        tensors = ctx.saved_tensors
        if all(c is None for c in cotangents):
            return (None,) * (1 + len(tensors))
        # A graph of the gradient, or vmap over cotangents, needs the function; else skip its cost.
        if not (torch.is_grad_enabled() or _transforms_active()):
            return None, *ctx.call.gradients(needed, tensors, cotangents)
        found = _Gradient.apply(ctx.call, needed, len(tensors), *tensors, *cotangents)
        return None, *(g if on else None for g, on in zip(found, needed, strict=True))

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        return _Tangent.apply(ctx.call, len(tangents), *ctx.saved_tensors, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, *tensors: Any) -> Any:
        batched, _, _ = _batch_parameters(call, in_dims[1:], tensors, info.batch_size)
        outputs = _Solve.apply(call, *batched)
        return outputs, (0,) * len(outputs)


def _keep(ctx: Any, call: _Call, *tensors: Any) -> None:
    ctx.call = call
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


class _PlainSolve(torch.autograd.Function):
    """`_Solve` outside torch.func, in the form of autograd function that costs torch less."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Any) -> Any:
        _keep(ctx, call, *tensors)
        return _Solve.forward(call, *tensors)

    backward = _Solve.backward
    jvp = _Solve.jvp


class _Gradient(torch.autograd.Function):
    """(call, which, count, *parameters, *cotangents) -> a gradient for each parameter."""

    @staticmethod
    def forward(call: _Call, needed: Any, count: int, *rest: Any) -> Any:
        found = call.gradients(needed, rest[:count], rest[count:])
        return tuple(
            t.new_zeros(()) if g is None else g for g, t in zip(found, rest[:count], strict=True)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise DifferentiationError(
            "second derivatives of a solution are not available: detach the gradient, or take "
            "finite differences of it"
        )

    jvp = backward

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, needed: Any, count: int, *rest: Any) -> Any:
        size, dims = info.batch_size, in_dims[3:]
        tensors, cotangents = rest[:count], rest[count:]
        if all(dim is None for dim in dims[:count]):  # several cotangents for one solve
            first = [
                None if c is None else _front(c, dim, size)
                for c, dim in zip(cotangents, dims[count:], strict=True)
            ]
            found = _Gradient.apply(call, needed, count, *tensors, *first)
            return found, tuple(0 if on else None for on in needed)
        batched, shapes, axes = _batch_parameters(call, dims[:count], tensors, size)
        placed, lead = [], 0
        for c, dim, core in zip(
            cotangents, dims[count:], _output_ndims(call, batched), strict=True
        ):
            if c is not None:
                c = _front(c, dim, size)
                lead = c.ndim - 1 - core - axes
                c = c.movedim(0, lead)  # further cotangents stay in front of the batch
            placed.append(c)
        found = _Gradient.apply(call, needed, count, *batched, *placed)
        gradients = tuple(
            g.reshape(*g.shape[: lead + 1], *shape) if on else g
            for g, shape, on in zip(found, shapes, needed, strict=True)
        )
        return gradients, tuple(lead if on else None for on in needed)


class _Tangent(torch.autograd.Function):
    """(call, count, *parameters, *tangents) -> a tangent for each output."""

    @staticmethod
    def forward(call: _Call, count: int, *rest: Any) -> Any:
        return call.moves(rest[count:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    backward = _Gradient.backward
    jvp = _Gradient.jvp

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, count: int, *rest: Any) -> Any:
        size, dims = info.batch_size, in_dims[2:]
        tensors, tangents = rest[:count], rest[count:]
        if not size:
            none = call.moves([None] * count)
            return tuple(t.new_empty((0, *t.shape)) for t in none), (0,) * len(none)
        if all(dim is None for dim in dims[:count]):  # several tangents for one solve
            each = [
                _Tangent.apply(
                    call,
                    count,
                    *tensors,
                    *(
                        t if t is None or dim is None else t.select(dim, k)
                        for t, dim in zip(tangents, dims[count:], strict=True)
                    ),
                )
                for k in range(size)
            ]
            stacked = tuple(torch.stack(column) for column in zip(*each, strict=True))
            return stacked, (0,) * len(stacked)
        batched, _, _ = _batch_parameters(call, dims[:count], tensors, size)
        moved = [
            None if t is None else _front(t, dim, size).reshape(b.shape)
            for t, dim, b in zip(tangents, dims[count:], batched, strict=True)
        ]
        found = _Tangent.apply(call, count, *batched, *moved)
        return found, (0,) * len(found)


# torch asks the same in autograd.Function.apply; where a release lacks it, assume the general case.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)

_jit_tracing = getattr(torch._C, "_is_tracing", lambda: False)

_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def _batch_parameters(
    call: _Call, dims: Any, tensors: Any, size: int
) -> tuple[list[Any], list[Any], int]:
    """Parameters with the vmapped axis first and all batch axes aligned.

    Returns them, their shapes without the vmapped axis, and how many batch axes they had. A
    parameter without the axis is expanded to it, so that it gets a gradient for each element.
    """
    first = [_front(t, dim, size) for t, dim in zip(tensors, dims, strict=True)]
    shapes = [t.shape[1:] for t in first]
    cores = call.function.ndims
    axes = max(len(shape) - core for shape, core in zip(shapes, cores, strict=True))
    aligned = [
        t.reshape(size, *(1,) * (axes - len(shape) + core), *shape)
        for t, shape, core in zip(first, shapes, cores, strict=True)
    ]
    return aligned, shapes, axes


def _output_ndims(call: _Call, batched: Sequence[Any]) -> list[int]:
    """Core axes of each output."""
    cores = [t.shape[t.ndim - k :] for t, k in zip(batched, call.function.ndims, strict=True)]
    return [len(shape) for shape in call.function.output_shapes(cores)]


def _front(tensor: Any, dim: int | None, size: int) -> Any:
    """The tensor with its vmapped axis first, expanded to it if it has none."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


# What follows is for torch's first vmap, which torch.func's replaced: `is_grads_batched`,
# `jacobian(vectorize=True)` and `gradcheck(check_batched_grad=True)` still use it. It hands its
# batched tensors to autograd functions as they are.


def _unbatched(tensors: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Arrays with the axes of that vmap in front, and its levels that these axes belong to."""
    torch._C._vmapmode_increment_nesting()
    nesting = torch._C._vmapmode_decrement_nesting()
    if not nesting:
        return [], [None if t is None else to_numpy(t) for t in tensors]
    for level in range(nesting, 0, -1):  # a tensor without the level gets an axis of size 1
        tensors = [None if t is None else torch._remove_batch_dim(t, level, 1, 0) for t in tensors]
    sizes = np.broadcast_shapes(*(t.shape[:nesting] for t in tensors if t is not None))
    levels = [level for level, size in enumerate(sizes, 1) if size != 1]
    kept = [size for size in sizes if size != 1]
    return levels, [
        None
        if t is None
        else np.broadcast_to(to_numpy(t), (*sizes, *t.shape[nesting:])).reshape(
            *kept, *t.shape[nesting:]
        )
        for t in tensors
    ]


def _batched(tensor: Any, levels: Sequence[int]) -> Any:
    """The tensor with its first axes given back to these levels."""
    for level in levels:
        tensor = torch._add_batch_dim(tensor, 0, level)
    return tensor


def common_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    dtypes = {t.dtype for t in tensors}
    if dtypes == {torch.float64}:
        return torch.float64
    if any(dtype.is_complex for dtype in dtypes):
        raise ParameterError("an argument is complex; expected real numbers")
    floating = [dtype for dtype in dtypes if dtype.is_floating_point]
    if not floating:
        return torch.get_default_dtype()
    return reduce(torch.promote_types, floating)


def as_given(tensor: torch.Tensor) -> Any:
    """The numbers in the type in which they came, which says what rounding may have done to them.

    NumPy has no bfloat16: its numbers come as float32.
    """
    if tensor.dtype is torch.float64 or tensor.layout != torch.strided:
        return to_numpy(tensor)
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy(force=True)


def to_numpy(tensor: torch.Tensor) -> Any:
    if tensor.dtype is torch.float64:
        try:
            return tensor.numpy()
        except (RuntimeError, TypeError):  # it is sparse, elsewhere, negated lazily, or in a graph
            pass
    if tensor.layout != torch.strided:
        raise ParameterError(
            "an argument is a sparse tensor; only the matrices P, G and A of qp, box_qp and "
            "cone_program may be sparse. Convert it with .to_dense()"
        )
    if tensor.dtype is not torch.float64:
        tensor = tensor.detach().to(device="cpu", dtype=torch.float64)
    return tensor.numpy(force=True)
