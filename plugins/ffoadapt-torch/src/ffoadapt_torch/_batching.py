"""The axes that torch's two vmaps put on tensors, to batch axes of a call and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ffoadapt import Differentiable

from ._arrays import to_numpy

__all__ = ["batch_parameters", "batched", "front", "output_ndims", "unbatched"]


def batch_parameters(
    function: Differentiable, dims: Any, tensors: Any, size: int
) -> tuple[list[Any], list[Any], int]:
    """Parameters with the vmapped axis first and all batch axes aligned.

    Returns them, their shapes without the vmapped axis, and how many batch axes they had. A
    parameter without the axis is expanded to it, so that it gets a gradient for each element.
    """
    first = [front(t, dim, size) for t, dim in zip(tensors, dims, strict=True)]
    shapes = [t.shape[1:] for t in first]
    cores = function.ndims
    axes = max(len(shape) - core for shape, core in zip(shapes, cores, strict=True))
    aligned = [
        t.reshape(size, *(1,) * (axes - len(shape) + core), *shape)
        for t, shape, core in zip(first, shapes, cores, strict=True)
    ]
    return aligned, shapes, axes


def output_ndims(function: Differentiable, parameters: Sequence[Any]) -> list[int]:
    """Core axes of each output."""
    cores = [t.shape[t.ndim - k :] for t, k in zip(parameters, function.ndims, strict=True)]
    return [len(shape) for shape in function.output_shapes(cores)]


def front(tensor: Any, dim: int | None, size: int) -> Any:
    """The tensor with its vmapped axis first, expanded to it if it has none."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


# What follows is for torch's first vmap, which torch.func's replaced: `is_grads_batched`,
# `jacobian(vectorize=True)` and `gradcheck(check_batched_grad=True)` still use it. It hands its
# batched tensors to autograd functions as they are.


def unbatched(tensors: Sequence[Any], nesting: int) -> tuple[list[int], list[Any]]:
    """Arrays with the axes of that vmap in front, and its levels that these axes belong to, of so
    many."""
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


def batched(tensor: Any, levels: Sequence[int]) -> Any:
    """The tensor with its first axes given back to these levels."""
    for level in levels:
        tensor = torch._add_batch_dim(tensor, 0, level)
    return tensor
