"""The array namespace of torch on one device: what it makes is float64, and there."""

from __future__ import annotations

import weakref
from functools import cache, partial
from typing import Any

import array_api_compat
import numpy as np
import torch

__all__ = ["Namespace", "namespace"]

_COMPAT: Any = array_api_compat.array_namespace(torch.zeros(1))


class Namespace:
    """The array standard's functions, of tensors on a device; NumPy's constants become such.

    ``waits`` says whether the host has to wait for the device to learn a number.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.waits = device, device.type != "cpu"
        where = {"dtype": torch.float64, "device": device}
        self.zeros, self.ones = partial(torch.zeros, **where), partial(torch.ones, **where)
        self.eye, self.full = partial(torch.eye, **where), partial(torch.full, **where)
        self._kept: dict[int, tuple[Any, torch.Tensor]] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(_COMPAT, name)
        self.__dict__[name] = function
        return function

    def asarray(self, array: Any) -> Any:
        """The tensor of a constant, which is kept as long as the array: it travels once."""
        if isinstance(array, torch.Tensor):
            return array
        if not isinstance(array, np.ndarray):
            return torch.as_tensor(array, device=self.device)
        if _dispatch_modes():  # a graph records it
            dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
            return torch.tensor(array.tolist(), dtype=dtype, device=self.device).reshape(
                array.shape
            )
        kept = self._kept.get(id(array))
        if kept is not None and kept[0]() is array:
            return kept[1]
        tensor = torch.from_numpy(np.array(array)).to(self.device)
        if not array.flags.writeable:
            gone = partial(self._forget, id(array))
            self._kept[id(array)] = weakref.ref(array, gone), tensor
        return tensor

    def _forget(self, number: int, _: Any) -> None:
        self._kept.pop(number, None)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        return _COMPAT.where(self.asarray(condition), one, other)


@cache
def namespace(device: torch.device) -> Namespace:
    """One for each device."""
    return Namespace(device)


_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
