"""The `ffoadapt.experimental.Algebra` of torch, for tensors on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._namespace import namespace

__all__ = ["TorchAlgebra"]

AHEAD = 3
"""So many steps an accelerator has before it, so that it never waits for who looks at its
answers."""

BLIND = 25
"""Steps of a longer loop where nobody can look: on accelerators without events."""


class TorchAlgebra:
    def __init__(self, device: torch.device) -> None:
        self.xp: Any = namespace(device)
        self.device = device

    def eye(self, like: Any) -> Any:
        return torch.eye(like.shape[-1], dtype=torch.float64, device=self.device)

    def numbers(self, like: Any) -> Any:
        return torch.arange(like.shape[-1], dtype=torch.float64, device=self.device)

    def factor(self, matrix: Any) -> tuple[Any, Any]:
        lower, info = torch.linalg.cholesky_ex(matrix)
        return lower, info == 0

    def substitute(self, factors: Any, columns: Any) -> Any:
        return torch.cholesky_solve(columns, factors)

    def repeat(self, count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
        for k in range(count):
            carry = step(k, carry)
        return carry

    def until(
        self, goes_on: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any, limit: int
    ) -> Any:
        if not self.xp.waits:
            for _ in range(limit):
                if not goes_on(carry).any():
                    break
                carry = step(carry)
            return carry
        looks = _Looks() if limit > AHEAD and _looks(self.device) else None
        for _ in range(limit if looks or limit < BLIND else BLIND):
            carry = step(carry)
            if looks and looks.over(goes_on(carry)):
                break
        return carry

    def seldom(
        self, needed: Any, function: Callable[..., Any], given: tuple[Any, ...], otherwise: Any
    ) -> Any:
        places = needed.nonzero(as_tuple=True)
        if not places[0].numel():
            return otherwise
        if not needed.ndim:
            return function(*given)
        return otherwise.index_put(places, function(*(v[places] for v in given)))


def _looks(device: torch.device) -> bool:
    """Whether the host can learn what the device computed without emptying its queue."""
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


class _Looks:
    """Whether a loop was over some steps ago: the answers travel behind the work of the device,
    which has `AHEAD` steps to do when the host waits for one of them."""

    def __init__(self) -> None:
        self.answers = torch.empty(AHEAD, dtype=torch.bool, pin_memory=True)
        self.events: list[Any] = []
        self.count = 0

    def over(self, going: Any) -> bool:
        place = self.count % AHEAD
        done = False
        if self.count >= AHEAD:
            self.events[place].synchronize()
            done = not bool(self.answers[place])
        else:
            self.events.append(torch.cuda.Event())
        self.answers[place : place + 1].copy_(going.any().reshape(1), non_blocking=True)
        self.events[place].record()
        self.count += 1
        return done
