"""Gradients of a user's functions of tensors; first ones only, but for `curvature`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode

from ffoadapt import Framework, ParameterError

__all__ = ["curvature", "from_numpy", "gradients", "gradients_each", "precise", "recorded"]


class _Wider(TorchFunctionMode):
    """float32 tensors that a function holds meet the float64 ones that it is given."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return function(*map(_widened, args), **{k: _widened(v) for k, v in (kwargs or {}).items()})


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        narrow = value.is_floating_point() and value.dtype is not torch.float64
        return value.double() if narrow else value
    if type(value) in (list, tuple):
        return type(value)(map(_widened, value))
    return value


_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def precise() -> AbstractContextManager[Any]:
    """See `ffoadapt.Framework.precise`; also outside of the transforms of torch.func that the call
    is in, for what is computed here is no part of what they transform."""
    return temporarily_clear_interpreter_stack() if _transforms_active() else nullcontext()


def from_numpy(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _wide(function: Callable[..., Any], given: Sequence[Any]) -> Any:
    """What the function returns; once more where float32 that it holds met float64."""
    try:
        return function(*given)
    except RuntimeError as error:
        mixed = "dtype" in str(error) or "same type" in str(error)
        if not mixed or all(t.dtype is not torch.float64 for t in given):
            raise
        with _Wider():
            return function(*given)


def _called(function: Callable[..., Any], given: Sequence[Any]) -> Any:
    """The function's value, a scalar."""
    value = _wide(function, given)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
        raise ParameterError(
            f"a function returned a {type(value).__name__}{shape}; expected a scalar tensor"
        )
    return value.reshape(()) if value.ndim else value


def gradients(
    function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
) -> tuple[Any, list[Any]]:
    """See `ffoadapt.Framework.gradients`."""
    with torch.enable_grad():
        given = [
            a.detach().requires_grad_() if on else a.detach() if a.requires_grad else a
            for a, on in zip(arrays, needed, strict=True)
        ]
        value = _called(function, given)
        asked = [a for a, on in zip(given, needed, strict=True) if on]
        if not value.requires_grad:
            return value, [None] * len(given)
        parts = iter(torch.autograd.grad(value, asked, allow_unused=True))
    return value.detach(), [next(parts) if on else None for on in needed]


def recorded(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    needed: Sequence[bool],
    mapped: Sequence[bool] | None = None,
) -> tuple[Any, Callable[[Any, bool], list[Any]]] | None:
    """See `ffoadapt.Framework.recorded`: torch's graph is the record."""
    given = [a.detach().requires_grad_() if on else a for a, on in zip(arrays, needed, strict=True)]
    with torch.enable_grad():
        if mapped is None:
            shape: tuple[int, ...] = (-1,)
            values = _wide(function, given)
        else:
            shape = next(len(a) for a, on in zip(given, mapped, strict=True) if on), -1
            each = torch.func.vmap(
                lambda *row: tuple(_wide(function, row)),
                in_dims=tuple(0 if on else None for on in mapped),
            )
            try:
                values = each(*given)
            except (RuntimeError, TypeError, ValueError, NotImplementedError):
                return None
    asked = [a for a, on in zip(given, needed, strict=True) if on]
    if mapped is None and all(v.dim() == 0 and v.dtype is torch.float64 for v in values):
        numbers = np.array([v.item() for v in values])  # a few numbers go faster one by one
        parts = [(v, k) for k, v in enumerate(values) if v.requires_grad]
        weighted = _weighted_numbers
    else:
        numbers, parts = _joined(values, shape)
        weighted = _weighted

    def pull(weights: Any, again: bool) -> list[Any]:
        outputs, cotangents = weighted(parts, weights)
        if not outputs:
            return [None] * len(asked)
        gradients = torch.autograd.grad(outputs, asked, cotangents, again, allow_unused=True)
        return [None if g is None else g.numpy() for g in gradients]

    return numbers, pull


_ONE = torch.ones((), dtype=torch.float64)


def _weighted_numbers(parts: Sequence[Any], weights: Any) -> tuple[list[Any], list[Any]]:
    """Outputs that are numbers, and their weights, without those that are 0."""
    outputs, cotangents = [], []
    for value, k in parts:
        weight = weights.item(k)
        if weight:
            outputs.append(value)
            one = weight == 1.0
            cotangents.append(_ONE if one else torch.scalar_tensor(weight, dtype=torch.float64))
    return outputs, cotangents


def _weighted(parts: Sequence[Any], weights: Any) -> tuple[list[Any], list[Any]]:
    """Outputs and their weights, without those that are 0."""
    outputs, cotangents = [], []
    if not weights.flags.writeable:
        weights = weights.copy()  # torch shares its memory
    for value, start, stop, size, other in parts:
        some = weights[..., start:stop]
        if some.any():
            cotangent = torch.from_numpy(some.reshape(size))
            outputs.append(value)
            cotangents.append(cotangent if other is None else cotangent.to(other))
    return outputs, cotangents


def _joined(values: Sequence[Any], shape: Any) -> tuple[Any, list[Any]]:
    """All numbers, and what `_weighted` asks of the values that have a gradient: which of the
    numbers they are, their shape, and a tensor of their dtype and device where these are others."""
    parts, stop, flat = [], 0, []
    for value in values:
        plain = value.detach()
        usual = plain.dtype is torch.float64 and plain.is_cpu
        flat.append((plain if usual else plain.to("cpu", torch.float64)).numpy().reshape(shape))
        start, stop = stop, stop + flat[-1].shape[-1]
        if value.requires_grad:
            parts.append((value, start, stop, plain.shape, None if usual else plain))
    return np.concatenate(flat, axis=-1), parts


def gradients_each(
    self: Framework,
    function: Callable[..., Any],
    arrays: Sequence[Any],
    mapped: Sequence[bool],
    needed: Sequence[bool],
) -> tuple[Any, list[Any]]:
    """See `ffoadapt.Framework.gradients_each`; all at once where torch can batch the function."""
    places = tuple(k for k, on in enumerate(needed) if on)
    batched = torch.func.vmap(
        torch.func.grad_and_value(lambda *given: _called(function, given), argnums=places),
        in_dims=tuple(0 if on else None for on in mapped),
    )
    try:
        with torch.enable_grad():
            parts, values = batched(*(a.detach() for a in arrays))
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return Framework.gradients_each(self, function, arrays, mapped, needed)
    each = iter(parts)
    return values.detach(), [next(each).detach() if on else None for on in needed]


def curvature(
    function: Callable[..., Any], arrays: Sequence[Any], directions: Sequence[Any]
) -> list[Any]:
    """See `ffoadapt.Framework.curvature`: the Hessian is symmetric, so that the derivative of all
    gradients along the directions is the gradient of their product with these."""
    with torch.enable_grad():
        given = [a.detach().requires_grad_(True) for a in arrays]
        value = _called(function, given)
        first = torch.autograd.grad(value, given, create_graph=True, allow_unused=True)
        total = sum(
            (g * d).sum()
            for g, d in zip(first, directions, strict=True)
            if g is not None and d is not None
        )
        if not isinstance(total, torch.Tensor) or not total.requires_grad:  # linear
            return [torch.zeros_like(a) for a in given]
        products = torch.autograd.grad(total, given, allow_unused=True)
    return [torch.zeros_like(a) if g is None else g for a, g in zip(given, products, strict=True)]
