"""The algebra of torch, for tensors on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import torch

__all__ = ["TorchAlgebra"]

ALWAYS = 25
"""Steps that are taken on an accelerator, without a look at who is done: to look is to wait."""


class TorchAlgebra:
    def __init__(self, device: torch.device) -> None:
        self.xp: Any = array_api_compat.array_namespace(torch.zeros(1))
        self.waits = device.type != "cpu"

    def eye(self, like: Any) -> Any:
        return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)

    def factor(self, matrix: Any) -> Callable[[Any], Any]:
        lower, _ = torch.linalg.cholesky_ex(matrix)
        return lambda v: torch.cholesky_solve(v[..., None], lower)[..., 0]

    def repeat(self, step: Callable[[Any], Any], state: Any, limit: int) -> Any:
        for _ in range(min(limit, ALWAYS) if self.waits else limit):
            if not self.waits and bool(state.over.all()):
                break
            state = step(state)
        return state
