"""Gradients of a user's functions of tensors; first ones only, but for `curvature`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode

from ffoadapt import Framework, ParameterError

__all__ = ["curvature", "from_numpy", "gradients", "gradients_each", "precise"]


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


def _called(function: Callable[..., Any], given: Sequence[Any]) -> Any:
    """The function's value; once more where float32 that it holds met float64."""
    try:
        value = function(*given)
    except RuntimeError as error:
        mixed = "dtype" in str(error) or "same type" in str(error)
        if not mixed or all(t.dtype is not torch.float64 for t in given):
            raise
        with _Wider():
            value = function(*given)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
        raise ParameterError(
            f"a function returned a {type(value).__name__}{shape}; expected a scalar tensor"
        )
    return value.reshape(())


def gradients(
    function: Callable[..., Any], arrays: Sequence[Any], needed: Sequence[bool]
) -> tuple[Any, list[Any]]:
    """See `ffoadapt.Framework.gradients`."""
    with torch.enable_grad():
        given = [a.detach().requires_grad_(on) for a, on in zip(arrays, needed, strict=True)]
        value = _called(function, given)
        asked = [a for a, on in zip(given, needed, strict=True) if on]
        if not value.requires_grad:
            return value, [None] * len(given)
        found = iter(torch.autograd.grad(value, asked, allow_unused=True))
    return value.detach(), [next(found) if on else None for on in needed]


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
            found, values = batched(*(a.detach() for a in arrays))
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return Framework.gradients_each(self, function, arrays, mapped, needed)
    each = iter(found)
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
        found = torch.autograd.grad(total, given, allow_unused=True)
    return [torch.zeros_like(a) if g is None else g for a, g in zip(given, found, strict=True)]
